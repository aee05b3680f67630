"""How many bytes are alive in each part of a step: a GPU's allocator knows, and elsewhere tensors are counted.

Counting needs no values, so it also tells what tensors would take that are not there (torch's fake tensors).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Part = tuple[str, Callable[[], None]]


class Bytes(NamedTuple):
    """Of a part of a step.

    Attributes:
        alive: bytes that its end leaves alive: weights, optimisers and batch, and what later parts need.
        peak: most bytes that are alive at any time in it.
    """

    alive: int
    peak: int


class AliveBytes(TorchDispatchMode):
    """While active, counts the bytes of the memory behind the tensors that operations take and give.

    A tensor from before is counted from its first use on. Not seen: what an operation needs inside, and what compiled
    functions do.

    Attributes:
        alive: bytes at this moment.
        peak: most bytes since it was last set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, outputs)):
            self.add(leaf)
        return outputs

    def add(self, tensor: Any) -> None:
        """Count the memory behind a tensor, if this is one, until it is freed; memory that is known counts once."""
        if not isinstance(tensor, Tensor):
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def forget(_: weakref.ref) -> None:
            del self._known[key]
            self.alive -= size

        self._known[key] = weakref.ref(storage, forget)
        self.alive += size
        self.peak = max(self.peak, self.alive)


def by_part(parts: list[Part], device: torch.device) -> dict[str, Bytes]:
    """Run the parts of a step twice, the first time to bring everything into being; the bytes of the second time.

    Without a GPU only the eager engine can be counted.
    """
    if device.type == "cuda":
        return _allocated(parts, device)
    with AliveBytes() as counter:
        return counted(parts, counter)


def counted(parts: list[Part], counter: AliveBytes) -> dict[str, Bytes]:
    """As `by_part`, by a counter that is active."""
    for _, part in parts:
        part()
    sizes = {}
    for name, part in parts:
        counter.peak = counter.alive
        part()
        sizes[name] = Bytes(counter.alive, counter.peak)
    return sizes


def _allocated(parts: list[Part], device: torch.device) -> dict[str, Bytes]:
    for _, part in parts:
        part()
    sizes = {}
    for name, part in parts:
        torch.cuda.reset_peak_memory_stats(device)
        part()
        sizes[name] = Bytes(torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device))
    return sizes
