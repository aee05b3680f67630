"""Checks of settings: what is wrong and what to use, as a ValueError."""

from __future__ import annotations

import math
from typing import Any


def require(condition: bool, message: str) -> None:
    """ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_at_least(config: Any, section: str, low: float, *names: str) -> None:
    """ValueError for the first of these settings that is not finite or less than `low`."""
    for name in names:
        value = getattr(config, name)
        require(math.isfinite(value) and value >= low, f"{section}{name} is {value}; use {low:g} or more.")


def require_seed(seed: int) -> None:
    """ValueError for a seed that no generator of random numbers takes."""
    require(0 <= seed < 2**63, f"seed is {seed}; use 0 to 2**63 - 1.")
