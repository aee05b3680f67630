"""Settings: what they are, where they come from, and what a run decides from them."""
