"""How a step runs: operation by operation, as three compiled functions, or as one CUDA graph.

All three compute the same (the rule of agreement is in DESIGN 5, its test in tests/training/test_engines.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from tmgan.training.loaders.batch import Batch
from tmgan.training.objective import Losses, Objective

# What Inductor is told, by the counts of benchmarks/offline (docs/performance.md).
_NHWC = {
    "force_layout_optimization": True
}  # all convolutions here are channels_last; left to guess, it puts some in NCHW
_RECOMPUTE = {"realize_reads_threshold": 8}  # what is cheap is computed anew by each reader, not stored, up to 8 inputs

_WARM_UP = 3  # steps before a capture: cuDNN and the allocator settle, compilers finish


class Eager:
    """The three functions of an objective, operation by operation: the reference."""

    def __init__(self, objective: Objective):
        self.generate, self.d_loss, self.g_loss = objective.generate, objective.d_loss, objective.g_loss


class Compiled:
    """The three functions of an objective, each compiled to one graph for one shape: a graph break is an error.

    backward() and the optimisers stay outside: a compiler would cut the graph there.
    """

    def __init__(self, objective: Objective, backend: str = "inductor"):
        def compile_function(function: Callable, options: dict) -> Callable:
            return torch.compile(
                function,
                fullgraph=True,
                dynamic=False,
                backend=backend,
                options=options if backend == "inductor" else None,
            )

        self.generate = compile_function(objective.generate, _NHWC)
        self.d_loss = compile_function(objective.d_loss, _NHWC | _RECOMPUTE)
        self.g_loss = compile_function(objective.g_loss, _NHWC)


class Graphed:
    """graphed(batch) -> losses: `step`, captured in one CUDA graph at the first call and replayed from then on.

    Args:
        step: what to capture; it must not wait for the device, and must read and write the same tensors in each call.
        state: gives every tensor that a step changes, by name. Warming up trains, so these are put back to what they
            were; one that appears while warming up (of an optimiser) starts at zero.

    The losses are overwritten by the next call.
    """

    def __init__(self, step: Callable[[Batch], Losses], state: Callable[[], dict[str, Tensor]]):
        self._step, self._state = step, state
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> Losses:
        if self._graph is None:
            self._capture(batch)
        for field in dataclasses.fields(batch):
            given, fixed = getattr(batch, field.name), getattr(self._batch, field.name)
            if fixed is not None:
                fixed.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._losses

    def reset(self) -> None:
        """Forget the capture, because tensors of the state were replaced by others."""
        self._graph = None

    def _capture(self, batch: Batch) -> None:
        fixed = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
        self._batch = Batch(**{name: None if x is None else x.clone() for name, x in fixed.items()})
        before = {name: x.clone() for name, x in self._state().items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._step(self._batch)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Threads of a loader may use the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._losses = self._step(self._batch)
        self._graph = graph
        with torch.no_grad():
            for name, x in self._state().items():
                x.copy_(before[name]) if name in before else x.zero_()
