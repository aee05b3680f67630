"""Measuring a trained editor."""
