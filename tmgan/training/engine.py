"""How a step runs: operation by operation, as three compiled functions, or as one CUDA graph.

All three compute the same step. The rule of agreement, which tests/training/test_engines.py checks:

- Losses agree within 1e-5 relative in fp32, and 2e-2 in bf16.
- The L2 error of every gradient against a run in float64 is at most twice that of eager in the same precision.
- For identical gradients, the optimisers and the averaged generator are exact.
- A loss curve of 200 steps stays within what noise of a millionth on the weights does to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from tmgan.training.loaders.batch import Batch
from tmgan.training.objective import Losses, Objective

# Options for Inductor, chosen by the counts of benchmarks/offline (docs/performance.md).
# All convolutions here are channels_last; left to guess, it puts some in NCHW.
_NHWC = {"force_layout_optimization": True}
# What is cheap is recomputed by each reader, not stored, up to 8 inputs.
_RECOMPUTE = {"realize_reads_threshold": 8}

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

    The losses are overwritten by the next call.

    Args:
        step: what to capture; it must not wait for the device, and must read and write the same tensors in each call.
        state: returns every tensor that a step changes, by name. Warming up trains, so these are restored afterwards;
            one that appears while warming up (of an optimiser) starts at zero.
    """

    def __init__(self, step: Callable[[Batch], Losses], state: Callable[[], dict[str, Tensor]]):
        self._step, self._state = step, state
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> Losses:
        if self._graph is None:
            self._capture(batch)
        for field in dataclasses.fields(batch):
            source, target = getattr(batch, field.name), getattr(self._batch, field.name)
            if target is not None:
                target.copy_(source, non_blocking=True)
        assert self._graph is not None
        self._graph.replay()
        return self._losses

    def reset(self) -> None:
        """Forget the capture, because tensors of the state were replaced by others."""
        self._graph = None

    def _capture(self, batch: Batch) -> None:
        self._batch = batch.map(torch.clone)
        before = {name: x.clone() for name, x in self._state().items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._step(self._batch)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # A loader's threads may use the GPU at the same time.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._losses = self._step(self._batch)
        self._graph = graph
        with torch.no_grad():
            for name, x in self._state().items():
                x.copy_(before[name]) if name in before else x.zero_()
