"""Losses: pure functions of tensors, computed in fp32 or better."""
