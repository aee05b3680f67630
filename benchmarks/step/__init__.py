"""The speed of a training step, by engine and part, beside the step as it was published."""
