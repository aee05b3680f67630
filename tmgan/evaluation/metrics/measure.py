"""A measured number with what it takes to judge it: a value per image, a 95% interval, and comparison of two models.

Intervals are percentile bootstraps over images (Efron, 1979). Two models measured on the same images are compared
image by image: `compare` resamples the images of both at once, so that what makes an image hard cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

LEVEL = 0.95
_RESAMPLES = 2000
_SEED = 0xB007
_CHUNK = 1 << 21  # resampled values at once: 16 MiB


@dataclass(frozen=True)
class Measure:
    """One number about one model.

    Attributes:
        value: the number, infinite for the PSNR of an exact copy, NaN where n is 0.
        n: images it comes from.
        unit: "" for none.
        better: "lower", "higher", or "" where neither is.
        low, high: its 95% interval over images, None where a number belongs to the whole set (FID), or where a ratio's
            divisor may be 0.
        statistic: how values become the value: "mean"; "psnr", which is -10 log10 of the mean; "ratio", which is the
            sum of the values over the sum of the weights.
        values: one per image, in the order of the evaluation, NaN where it is not defined for an image; empty where
            the number belongs to the whole set.
        weights: of the mean, one per image, or the divisors of a ratio; empty: all 1.
        note: what a reader must know.
    """

    value: float
    n: int
    unit: str = ""
    better: str = ""
    low: float | None = None
    high: float | None = None
    statistic: str = "mean"
    values: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    note: str = ""

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        unit: str = "",
        better: str = "",
        statistic: str = "mean",
        weights: Sequence[float] = (),
        note: str = "",
    ) -> Measure:
        """From one value per image. NaN with n = 0 when it is defined for no image."""
        columns = _columns(values, weights)
        if not len(columns):
            return cls(
                math.nan,
                0,
                unit,
                better,
                statistic=statistic,
                values=tuple(values),
                weights=tuple(weights),
                note="Defined for no image: the region it is measured on is empty in all of them.",
            )
        interval = _interval(_resample(columns, statistic, _statistic))
        low, high = (None, None) if any(map(math.isnan, interval)) else interval
        return cls(
            _statistic(columns[None], statistic).item(),
            len(columns),
            unit,
            better,
            low,
            high,
            statistic,
            tuple(values),
            tuple(weights),
            note,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain types. null stands for infinity in the numbers; in `values`, and where n is 0, for undefined."""
        about = {
            "value": _or_none(self.value),
            "n": self.n,
            "unit": self.unit,
            "better": self.better,
            "statistic": self.statistic,
            "note": self.note,
        }
        if self.low is not None and self.high is not None:
            about |= {"low": _or_none(self.low), "high": _or_none(self.high)}
        return about | {name: [_or_none(v) for v in getattr(self, name)] for name in ("values", "weights")}

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Measure:
        """The inverse of `to_json`."""
        numbers = {k: about[k] for k in ("value", "low", "high") if k in about}
        numbers = {k: (math.inf if about["n"] else math.nan) if v is None else v for k, v in numbers.items()}
        rows = {k: tuple(math.nan if v is None else v for v in about[k]) for k in ("values", "weights")}
        return cls(**about | numbers | rows)


class Comparison(NamedTuple):
    """How the second model's number differs from the first one's, over the same n images, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int

    @property
    def distinct(self) -> bool:
        """True when the interval leaves out zero."""
        return self.low > 0 or self.high < 0  # NaN, where n is 0, is neither

    def to_json(self) -> dict[str, Any]:
        """Plain types; null stands for a number that is infinite or, where n is 0, undefined."""
        return {"value": _or_none(self.value), "low": _or_none(self.low), "high": _or_none(self.high), "n": self.n}


def compare(first: Measure, second: Measure, relative: bool = False) -> Comparison:
    """second - first, or second / first - 1, over the images where both are defined; NaN where there are none.

    Raises:
        ValueError: when the two were not measured image by image, the same way, on equally many images.
    """
    if not first.values or len(first.values) != len(second.values) or first.statistic != second.statistic:
        raise ValueError(
            "Only two numbers that were measured the same way, on the same images, can be compared image "
            f"by image; these have {len(first.values)} and {len(second.values)} values."
        )
    weights = first.weights or second.weights
    both = np.concatenate(
        [np.array([first.values, second.values]), np.array([weights]) if weights else np.ones((1, len(first.values)))]
    ).T
    both = both[~np.isnan(both).any(1)]
    if not len(both):
        return Comparison(math.nan, math.nan, math.nan, 0)

    def difference(rows: np.ndarray, statistic: str) -> np.ndarray:
        one, other = (_statistic(rows[..., [k, 2]], statistic) for k in (0, 1))
        with np.errstate(invalid="ignore"):  # two exact copies, both infinite
            return other / one - 1 if relative else other - one

    low, high = _interval(_resample(both, first.statistic, difference))
    return Comparison(difference(both[None], first.statistic).item(), low, high, len(both))


def _columns(values: Sequence[float], weights: Sequence[float]) -> np.ndarray:
    """(n, 2) values and weights of the images where the value is defined."""
    rows = np.stack([np.asarray(values, np.float64), np.asarray(weights or np.ones(len(values)), np.float64)], 1)
    return rows[~np.isnan(rows[:, 0])]


def _statistic(rows: np.ndarray, statistic: str) -> np.ndarray:
    """(R, n, 2) values and weights -> (R,)."""
    if statistic == "ratio":
        values, divisor = rows[..., 0].sum(1), rows[..., 1].sum(1)
        return np.divide(values, divisor, out=np.full_like(values, math.nan), where=divisor > 0)
    mean = (rows[..., 0] * rows[..., 1]).sum(1) / rows[..., 1].sum(1)
    if statistic == "mean":
        return mean
    assert statistic == "psnr", statistic
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mean)


def _resample(rows: np.ndarray, statistic: str, function: Any) -> np.ndarray:
    """(resamples,) of the function on images drawn with replacement; the draws depend on the number of images only."""
    random, n = np.random.Generator(np.random.Philox(_SEED)), len(rows)
    chunk = max(1, _CHUNK // n)
    sizes = [min(chunk, _RESAMPLES - start) for start in range(0, _RESAMPLES, chunk)]
    return np.concatenate([function(rows[random.integers(n, size=(size, n))], statistic) for size in sizes])


def _interval(samples: np.ndarray) -> tuple[float, float]:
    # Nearest, not interpolated: between a finite PSNR and an infinite one lies no number.
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return float(low), float(high)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
