"""The parts of a training step by name: ranges for profilers, and where it was when the GPU's memory was full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from tmgan.common.text import memory

LOAD = "load"  # the part before the step: the loader's share


class Parts:
    """`with parts(NAME):` around each part of a step.

    While a profiler runs (torch.profiler, or torch.autograd.profiler.emit_nvtx), each part is a range of its name;
    while none runs, nothing is recorded. The memory of a GPU is looked at when a part runs for the first time.

    Args:
        device: of the step.
        remedy: what to do when its memory is full, a sentence.

    Attributes:
        peaks: most bytes that were allocated on the GPU in each part so far.
    """

    def __init__(self, device: torch.device, remedy: str):
        self._device, self._remedy = device, remedy
        self.peaks: dict[str, int] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        look = self._device.type == "cuda" and name not in self.peaks
        if look:
            torch.cuda.reset_peak_memory_stats(self._device)
        try:
            with torch.profiler.record_function(name) if torch.autograd._profiler_enabled() else nullcontext():
                yield
        except torch.OutOfMemoryError as error:
            if look:
                self.peaks[name] = torch.cuda.max_memory_allocated(self._device)
            error.add_note(self._where(name))
            raise
        if look:
            self.peaks[name] = torch.cuda.max_memory_allocated(self._device)

    def _where(self, name: str) -> str:
        peaks = "; ".join(f"{part} {memory(most)}" for part, most in self.peaks.items())
        known = f" Most by part so far: {peaks}." if peaks else ""
        return f"This was in the part '{name}' of the training step.{known} {self._remedy}"
