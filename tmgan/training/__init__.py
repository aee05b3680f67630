"""Training: from the plan of a step to a finished run."""
