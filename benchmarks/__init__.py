"""What tmgan costs, measured: `pytest benchmarks` and scripts. results/ holds what they wrote."""
