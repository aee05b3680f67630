"""The part of a step outside its graphs: Adam by arithmetic; the gradient guard and the average, call by call.

Nothing is compiled here, so each call of torch is one kernel or a few; what they read and write is counted as
counting.py counts it: a floor, each tensor once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from . import counting

# torch's multi_tensor_apply (MultiTensorApply.cuh): elements per block, blocks per launch, tensors per launch by lists
_CHUNK, _BLOCKS, _TENSORS = 65536, 320, {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
_CONCATENATED = 128  # tensors per launch of cat and stack (Shape.cu)
_ONLY_WRITTEN = ("copy_", "_foreach_copy_", "fill_", "zero_")  # do not read what they change


class Work(NamedTuple):
    """What one call does: bytes read and written, kernels launched."""

    bytes: int
    launches: int


class Calls(TorchDispatchMode):
    """Notes what torch is called for, while active within `of(NAME)`.

    Attributes:
        work: of each call, by that name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work: dict[str, list[Work]] = {}
        self._name = ""

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        self._name = name
        with self:
            yield

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.work.setdefault(self._name, []).append(work(function, args, out))
        return out


def launches(sizes: list[int], lists: int) -> int:
    """Launches of one foreach or fused call over tensors of these numbers of elements, `lists` tensors side by side."""
    count = tensors = blocks = 0
    for size in sizes:
        tensors += 1
        for chunk in range(chunks := -(-size // _CHUNK)):
            blocks += 1
            last = chunk == chunks - 1
            if blocks == _BLOCKS or (tensors == _TENSORS[lists] and last):
                count, blocks = count + 1, 0
                tensors = 0 if last else 1
    return count + (blocks > 0)


def work(function: torch._ops.OpOverload, args: tuple, out: object) -> Work:
    """What a call that returned `out` makes a GPU do. A view costs nothing, nor does memory that is not filled."""
    space, _, name = function._schema.name.partition("::")
    if function.is_view or space != "aten" or name.startswith("empty"):  # the others ask for the device of a tensor
        return Work(0, 0)
    changed = [
        tensor
        for argument, value in zip(function._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _flat(value)
    ]
    read = {id(tensor): tensor for tensor in _flat(args)}
    if name in _ONLY_WRITTEN:
        for tensor in changed:
            del read[id(tensor)]
    moved = sum(map(_bytes, read.values())) + sum(map(_bytes, changed or _flat(out)))
    lists = [value for value in args if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor)]
    if name in ("cat", "stack"):
        return Work(moved, -(-len(lists[0]) // _CONCATENATED))
    if not name.startswith("_foreach_"):
        return Work(moved, 1)
    sizes = [tensor.numel() for tensor in lists[0]]
    if name == "_foreach_norm":  # zeros for the parts' norms, the parts, their norms
        return Work(moved, 1 + launches(sizes, 1) + 1)
    if any(value[0].numel() != sizes[0] for value in lists[1:]):
        return Work(moved, len(sizes))  # by tensors of other sizes: the slow path, one launch for each
    return Work(moved, launches(sizes, len(lists) + (not changed)))


def _flat(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _flat(part)] if isinstance(value, (list, tuple)) else []


def _bytes(tensor: Tensor) -> int:
    return counting.touched(list(tensor.shape), list(tensor.stride()), tensor.dtype.itemsize)


def rows(networks: dict[str, nn.Module], calls: Calls) -> list[dict]:
    """{"what", "bytes", "launches"} of Adam, fp32, and of each name that `calls` noted.

    The networks' trained parameters are those that require a gradient. Adam reads weight, gradient and two moments and
    writes three of them, counts its steps, and takes the count back where the guard says so.
    """
    parts = []
    for name, network in networks.items():
        sizes = [parameter.numel() for parameter in network.parameters() if parameter.requires_grad]
        ones = [1] * len(sizes)
        parts.append(
            {
                "what": f"Adam of the {name} (fused)",
                "bytes": 28 * sum(sizes),
                "launches": launches(sizes, 4) + launches(ones, 1) + launches(ones, 2),
            }
        )
    return parts + [
        {"what": name, "bytes": sum(each.bytes for each in noted), "launches": sum(each.launches for each in noted)}
        for name, noted in calls.work.items()
    ]
