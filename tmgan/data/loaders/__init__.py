"""Loaders: each turns a Plan into the same Batch."""
