"""A copy of a training state on the host, made while the next step already runs.

Parameters, the averaged ones and Adam's moments change only in a step's updates; buffers (the statistics of batch
norms) change in its forward passes too. So the buffers, which are small, are copied at once, and all else by another
thread during the next step's forward and backward passes. The step waits for that before its first update: on the
host for a CPU, on the stream for a GPU, which copies on a stream of its own. Cloning everything at once would be
simpler and hold the step up for the time of the whole copy, 0.2 s at the published size on a CPU.

It takes as much memory on the host as the state has, allocated by the first snapshot and used again by the later ones.
For a GPU it is page-locked, which takes the first snapshot a while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Side(NamedTuple):
    """A stream beside the training's, and what orders the two: the step boundary, and the end of the copy."""

    stream: torch.cuda.Stream
    boundary: torch.cuda.Event
    done: torch.cuda.Event


class Snapshot:
    """begin() at a step boundary, copy() in another thread, wait() before the next update; one after the other.

    Args:
        device: of the training.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._side = (
            _Side(torch.cuda.Stream(device), torch.cuda.Event(), torch.cuda.Event()) if device.type == "cuda" else None
        )
        self._memory: list[Tensor] = []  # one for each tensor of the state, in its order
        self._later: list[tuple[Tensor, Tensor]] = []
        self._copied = threading.Event()  # for a GPU: the copy is in the queue of its stream
        self._pending = False  # an update would have to wait

    def begin(self, state: Any, buffers: list[Tensor]) -> Any:
        """Copy the buffers, and keep the rest for copy().

        Args:
            state: nested plain types, whose tensors no update replaces by others.
            buffers: what forward passes change of it.

        Returns:
            The state on the host. Its numbers are right from the end of copy() until the next begin().
        """
        at_once = {buffer.data_ptr() for buffer in buffers}
        pairs: dict[tuple, tuple[Tensor, Tensor]] = {}  # networks may share a part, which the file then has once

        def on_host(tensor: Tensor) -> Tensor:
            key = (tensor.data_ptr(), *_layout(tensor))
            if key not in pairs:
                place = len(pairs)
                if place == len(self._memory):
                    self._memory.append(self._like(tensor))
                elif _layout(self._memory[place]) != _layout(tensor):  # the state of a new Adam is shorter
                    self._memory[place] = self._like(tensor)
                pairs[key] = (self._memory[place], tensor)
            return pairs[key][0]

        host = _map(state, on_host)
        self._later = []
        for target, source in pairs.values():
            if source.data_ptr() in at_once:
                target.copy_(source, non_blocking=True)
            else:
                self._later.append((target, source))
        if self._side is not None:
            self._side.boundary.record(torch.cuda.current_stream(self._device))
        self._copied.clear()
        self._pending = True
        return host

    def copy(self) -> None:
        """Copy the rest. Returns when all of it is on the host."""
        try:
            with torch.cuda.stream(None if self._side is None else self._side.stream):
                if self._side is not None:
                    self._side.stream.wait_event(self._side.boundary)
                for target, source in self._later:
                    target.copy_(source, non_blocking=True)
                if self._side is not None:
                    self._side.done.record(self._side.stream)
        finally:
            self._copied.set()  # or nobody would learn of an error
        if self._side is not None:
            self._side.done.synchronize()

    def wait(self) -> None:
        """Let no update overtake the copy: on the host until a GPU has it in its queue, then on the GPU alone."""
        if not self._pending:
            return
        self._copied.wait()
        if self._side is not None:
            torch.cuda.current_stream(self._device).wait_event(self._side.done)
        self._pending = False

    def _like(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="cpu", pin_memory=self._side is not None)


def _layout(tensor: Tensor) -> tuple:
    return tensor.shape, tensor.stride(), tensor.dtype


def _map(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested plain types with other tensors."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, dict):
        return {key: _map(value, change) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_map(value, change) for value in state)
    return state
