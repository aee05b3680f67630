"""Editing photos with a trained generator."""
