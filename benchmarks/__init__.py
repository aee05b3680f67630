"""What tmgan costs, measured: `pytest benchmarks` and the scripts beside it. results/ holds what they wrote."""
