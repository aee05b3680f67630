"""Which tensor of a recorded step went bad first, and what to say about it.

A NaN or an infinity is bad when it lasts: when it goes on, from tensor to tensor, into a loss, a gradient, a weight or
a moment, or is there before the step. Others are part of the arithmetic: the code masks padding with -inf, and torch
computes 0 / 0 in the gradient of a norm before it puts a 0 there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import torch

from tmgan.common.text import columns
from tmgan.training.intermediates import BEFORE
from tmgan.training.parts import LOAD
from tmgan.training.tensor_stats import Row

_FLIPS = ("neg", "sub", "rsub", "mul", "div")  # how the names of operations begin that may turn -inf into +inf
_HALF = ("bfloat16", "float16")
_BOUNDED = {"div", "sqrt", "rsqrt", "log", "pow", "reciprocal"}  # in names of operations that dislike 0
_BEFORE, _LARGEST = 5, 5  # operations before the first bad one, and the largest tensors, that are shown


def lasting(rows: Sequence[Row]) -> list[Row]:
    """The bad rows, in their order: the first one went bad first."""
    bad = {row.order for row in rows if not row.finite} - _meant(rows)
    found: set[int] = set()
    for row in reversed(rows):  # from what lasts back to where it came from
        named = row.name and not row.name.endswith("]")  # not only a place in a list
        if row.order in bad and (named or row.order in found):
            found |= {row.order, *bad.intersection(row.inputs)}
    return [row for row in rows if row.order in found]


def _meant(rows: Sequence[Row]) -> set[int]:
    """`order` of the rows that are not finite because of a number that the code has given, and of nothing else."""
    signs: dict[int, set[int]] = {}  # of the infinities that are meant, by row
    for row in rows:
        if row.finite or (row.nan and row.inputs):
            continue
        meant = {-1, 1} if row.constant else set().union(*(signs.get(order, set()) for order in row.inputs))
        if meant and row.operation.rpartition("aten.")[2].startswith(_FLIPS):
            meant = {-1, 1}
        present = {sign for sign, count in ((1, row.inf), (-1, row.minus_inf)) if count}
        if present <= meant and (row.constant or not row.nan):
            signs[row.order] = present
    return set(signs)


def table(rows: Sequence[Row]) -> str:
    """A line for each part of the step: how many tensors, the largest value, how many values are not finite, and how
    many are not but do not last."""
    bad = {row.order for row in lasting(rows)}
    lines: list[tuple[str, ...]] = [
        ("part", "tensors", "largest", "NaN", "infinite", "masked", "first bad, or where the largest is")
    ]
    for part in dict.fromkeys(row.part for row in rows):
        inside = [row for row in rows if row.part == part]
        wrong = [row for row in inside if row.order in bad]
        largest = max(inside, key=lambda row: row.magnitude)
        counts = sum(row.nan for row in wrong), sum(row.inf + row.minus_inf for row in wrong)
        masked = sum(row.nan + row.inf + row.minus_inf for row in inside) - sum(counts)
        numbers = (f"{len(inside):,}", f"{largest.magnitude:.3g}", *(f"{count:,}" for count in (*counts, masked)))
        lines.append((part, *numbers, what(wrong[0] if wrong else largest)))
    return columns(lines)


def what(row: Row) -> str:
    """A tensor in words."""
    operation = f"{row.operation} -> {row.name}" if row.operation and row.name else row.operation or row.name
    where = ", ".join(filter(None, (row.module if row.operation else "", row.place)))
    return f"{operation} ({where})" if where else operation


def statistics(row: Row) -> str:
    """Its size and its numbers, for a line."""
    shape = " x ".join(map(str, row.shape)) or "scalar"
    counts = {"NaN": row.nan, "+inf": row.inf, "-inf": row.minus_inf}
    wrong = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    known = f"{row.min:.4g} to {row.max:.4g}" if row.min is not None else "no finite value"
    return f"{row.dtype} {shape}: {known}{f', {wrong} of {math.prod(row.shape):,}' if wrong else ''}"


def verdict(rows: Sequence[Row], step: int, start: int) -> Iterator[str]:
    """What went bad first, with what it was made of and what came before it, and what to try; lines.

    Args:
        rows: of the step `step`.
        start: step before which the state was loaded.
    """
    bad = lasting(rows)
    if not bad:
        yield "Nothing went bad: every loss, gradient, weight and moment is finite."
        yield "The largest values:"
        for row in sorted(rows, key=_share, reverse=True)[:_LARGEST]:
            yield f"  {row.magnitude:.3g}  {what(row)}, in part {row.part!r}: {statistics(row)}"
        return
    first = bad[0]
    yield f"First bad: {what(first)}, in part {first.part!r}"
    yield f"  {statistics(first)}"
    for order in first.inputs:
        yield f"  made of    {what(rows[order])}: {statistics(rows[order])}"
    earlier = [row for row in rows[: first.order] if row.part not in (BEFORE, LOAD)][-_BEFORE:]
    for row in earlier if first.part not in (BEFORE, LOAD) else ():
        yield f"  before it  {what(row)}: {statistics(row)}"
    if len(bad) > 1:
        yield f"  After it, {len(bad) - 1:,} more tensors of this step are bad."
    yield _remedy(first, step, start)


def _share(row: Row) -> float:
    """The largest value as a share of what its type can hold."""
    return row.magnitude / torch.finfo(getattr(torch, row.dtype)).max


def _remedy(first: Row, step: int, start: int) -> str:
    if first.part == LOAD:
        return "It came with the batch, before any network saw it: check the pack with `tmgan data doctor`."
    if first.part == BEFORE and step > start:
        return f"It was bad before this step began. Replay an earlier one: --step {step - 1} or before."
    if first.part == BEFORE:
        return (
            "The checkpoint holds it. Move the newest checkpoints away until one is sound, and repeat the command of "
            "the run: it goes on from there."
        )
    advice = "Try lower learning rates (--optim.lr-g, --optim.lr-d; of encoders --pretrain.lr): a run may change them."
    if first.dtype in _HALF:
        advice += " Or another run with --runtime.precision fp32."
    if _BOUNDED.intersection(re.split(r"[._]", first.operation)):
        advice += " What this line of code divides by, or takes a root or logarithm of, may have come near 0: bound it."
    return advice
