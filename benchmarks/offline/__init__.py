"""What the compiled training step will do on a GPU, counted without one: see __main__.py."""
