"""How well edits obey the text for the processor time they cost: `python -m benchmarks.quality`, and README's table."""
