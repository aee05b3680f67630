"""The statistics of one tensor: measured on its device, read on the host when a step is done."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Row(NamedTuple):
    """One tensor at one moment of the step.

    Attributes:
        order: 0, 1, ... as the tensors came about.
        part: of the step, see TrainStep.parts; BEFORE; or "load".
        kind: "state" and "batch" are what goes in; "operation" is what an operation gave, "backward" what one of the
            backward pass gave, "recomputed" what memory "low" computes there again; "gradient" is that of a parameter,
            complete; "loss" is what the step returns.
        name: of a tensor that has one, such as generator.stages.2.conv.weight or adam_g.exp_avg of it; else "".
        module: the innermost module that the operation belongs to, "" outside of all. In the backward pass that of the
            operation whose gradient is computed.
        operation: as torch calls it; in the backward pass with the name of the gradient function before it.
        place: file, line and function of the code that called for it; "" where no line did.
        output: the number of the tensor among those that the operation gave or changed.
        shape, dtype: of the tensor.
        min, max, mean: of its finite values; None where it has none.
        norm: L2 norm of its finite values.
        nan, inf, minus_inf: how many of its values are not finite.
        inputs: `order` of the rows that the operation took, as they were last written; a view counts as all that its
            memory holds.
        constant: whether the code itself gave the operation numbers that may not be finite, as masks of padding do.
    """

    order: int
    part: str
    kind: str
    name: str
    module: str
    operation: str
    place: str
    output: int
    shape: tuple[int, ...]
    dtype: str
    min: float | None
    max: float | None
    mean: float | None
    norm: float
    nan: int
    inf: int
    minus_inf: int
    inputs: tuple[int, ...]
    constant: bool

    @property
    def magnitude(self) -> float:
        """The largest absolute value, of the finite ones."""
        return max(abs(self.min or 0.0), abs(self.max or 0.0))

    @property
    def finite(self) -> bool:
        return not (self.nan or self.inf or self.minus_inf)


def measure(x: Tensor) -> Tensor:
    """(8,) float64 on the device: NaN, +inf, -inf and finite values; min, max, sum and L2 norm of the latter."""
    finite = x.isfinite()
    clean = x.masked_fill(~finite, 0)
    counts = [x.isnan().sum(), x.isposinf().sum(), x.isneginf().sum(), finite.sum()]
    extremes = [x.masked_fill(~finite, math.inf).amin(), x.masked_fill(~finite, -math.inf).amax()]
    sums = [clean.sum(dtype=torch.float64), torch.linalg.vector_norm(clean, dtype=torch.float64)]
    return torch.stack([number.double() for number in (*counts, *extremes, *sums)])


def read(measured: list[Tensor], about: list[dict[str, Any]]) -> list[Row]:
    """The rows of tensors that were measured, with what else is known about them: the only wait for the device."""
    numbers_of: dict[int, list[float]] = {}
    for device in dict.fromkeys(x.device for x in measured):  # a GPU's step has a few tensors on the host
        places = [place for place, x in enumerate(measured) if x.device == device]
        numbers_of |= dict(zip(places, torch.stack([measured[place] for place in places]).tolist(), strict=True))
    rows = []
    for place, known in enumerate(about):
        numbers = numbers_of[place]
        nan, inf, minus_inf, finite, low, high, total, norm = numbers
        values: dict[str, Any] = {"nan": int(nan), "inf": int(inf), "minus_inf": int(minus_inf), "norm": norm}
        values |= dict.fromkeys(("min", "max", "mean"))
        if finite:
            values |= {"min": low, "max": high, "mean": total / finite}
        rows.append(Row(**known, **values))
    return rows
