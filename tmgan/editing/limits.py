"""What an edit may be asked for. Imports no torch: the command line refuses mistakes before it does."""

from __future__ import annotations

from tmgan.config.checks import require

BOLDEST = 4.0  # greatest strength of an edit


def check_strength(strength: float, name: str = "strength") -> None:
    """ValueError for a strength outside 0, the photo, to BOLDEST. `name` is what the message calls it."""
    require(0 <= strength <= BOLDEST, f"{name} is {strength:g}; use 0, the photo, to {BOLDEST:g}.")


def check_seed(seed: int, name: str = "seed") -> None:
    """ValueError for a seed that no generator of random numbers takes."""
    require(0 <= seed < 2**63, f"{name} is {seed}; use 0 to 2**63 - 1.")
