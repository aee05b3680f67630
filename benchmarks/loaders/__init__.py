"""The speed of the loaders."""
