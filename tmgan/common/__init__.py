"""The lowest layer: files, words, random numbers, progress. It imports nothing else of tmgan, and no torch."""
