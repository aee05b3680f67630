"""Counter-based random numbers (Philox): a pure function of (seed, purpose, counter, row), so no state is ever saved.

plan.py says what they are used for.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """One Philox key per purpose, so a new purpose (at the end) never shifts the numbers of another."""

    ORDER = 0
    CROP = 1
    FLIP = 2
    CAPTION = 3
    SUBSET = 4
    NOISE = 5
    CONDITION = 6
    MISMATCH = 7
    DROPOUT = 8
    LONG = 9
    BLUR = 10
    SWAP = 11
    RECOLOUR = 12
    RECAPTION = 13
    TABLE_SWAPS = 14
    TABLE_RECOLOURS = 15


def random_bits(seed: int, purpose: Purpose, counter: int, shape: tuple[int, int]) -> np.ndarray:
    """uint64 random bits. Row r is at a fixed place of the stream, whatever the number of rows."""
    generator = np.random.Philox(
        key=np.array([seed, purpose], dtype=np.uint64), counter=np.array([0, 0, 0, counter], dtype=np.uint64)
    )
    return generator.random_raw(shape[0] * shape[1]).reshape(shape)


def uniform(seed: int, purpose: Purpose, counter: int, shape: tuple[int, int]) -> np.ndarray:
    """float64 in [0, 1)."""
    return (random_bits(seed, purpose, counter, shape) >> np.uint64(11)) * 2.0**-53


def normal(seed: int, purpose: Purpose, counter: int, shape: tuple[int, int]) -> np.ndarray:
    """float32 standard normal by Box-Muller: a fixed number of draws per value, unlike the ziggurat."""
    u = uniform(seed, purpose, counter, (shape[0], 2 * shape[1])).reshape(shape[0], shape[1], 2)
    values = np.sqrt(-2.0 * np.log(1.0 - u[..., 0])) * np.cos(2.0 * np.pi * u[..., 1])
    return values.astype(np.float32)
