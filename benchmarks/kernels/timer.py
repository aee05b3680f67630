"""How long a call takes: CUDA-graph replays over rotating inputs on a GPU, processor time on the CPU.

A kernel of ten microseconds cannot be timed call by call: the host is slower than the device, and inputs used a moment
ago are still in the cache. So one CUDA graph holds many calls, each on the next of several sets of inputs that together
are at least four times the size of the L2 cache; outputs stay alive for as long, so that writes do not land on lines
that are still cached either. A round replays the graph twice and times the second replay: the first leaves the cache as
any replay leaves it, and keeps the device busy while the host queues the second.
"""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 30
CACHE_MULTIPLE = 4
GRAPH_MICROSECONDS = 1000.0  # a replay takes at least about this long, a hundred times what its launch costs
HOST_CALLS = 20  # between two synchronisations: fewer launches than fit in the driver's queue


def input_sets(set_bytes: int, cache_bytes: int) -> int:
    """How many sets of `set_bytes` to rotate through, at least two, so that none is still in the cache when used."""
    return max(2, math.ceil(CACHE_MULTIPLE * cache_bytes / set_bytes))


def calls_in_graph(sets: int, estimate: float) -> int:
    """How many calls of about `estimate` microseconds one graph holds: every set equally often, at least once."""
    return sets * math.ceil(GRAPH_MICROSECONDS / (sets * max(estimate, 0.1)))


@dataclass(frozen=True)
class Timing:
    """Microseconds per call, one sample per round."""

    samples: tuple[float, ...]
    calls: int
    sets: int
    peak_bytes: int | None = None  # memory that one call allocates at once: outputs and temporaries; GPU only

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def iqr(self) -> float:
        if len(self.samples) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return third - first


def cache_bytes() -> int:
    """The size of the GPU's L2 cache."""
    return torch.cuda.get_device_properties(0).L2_cache_size


@functools.cache
def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()


def on_stream() -> contextlib.AbstractContextManager:
    """The one stream for all that is captured, and for the first use of the tensors whose gradients are.

    The autograd engine runs a backward pass on the streams of its forward pass and of its leaves, and a capture must
    not meet a second stream. Without a GPU this does nothing.
    """
    return torch.cuda.stream(_stream()) if torch.cuda.is_available() else contextlib.nullcontext()


class GraphTimer:
    """Times calls on the GPU. `prepare` returns call(i), which runs on the i-th set of inputs."""

    def __init__(self, prepare: Callable[[], Callable[[int], object]], sets: int) -> None:
        self.sets, self.samples = sets, []
        torch.cuda.synchronize()
        with on_stream():
            call = prepare()
            for i in range(3):  # compiles, tunes, and creates handles
                call(i % sets)
            self.peak_bytes = _peak(lambda: call(0))
            self.calls = calls_in_graph(sets, _estimate(call, sets))
            _check_asynchronous(call)
            self.graph = torch.cuda.CUDAGraph()
            alive: deque[object] = deque(maxlen=sets)
            with torch.cuda.graph(self.graph, stream=_stream()):
                for i in range(self.calls):
                    alive.append(call(i % sets))
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._alive = call, alive  # the graph reads and writes their memory

    def round(self) -> None:
        self.graph.replay()
        self._start.record()
        self.graph.replay()
        self._end.record()
        torch.cuda.synchronize()
        self.samples.append(self._start.elapsed_time(self._end) * 1000 / self.calls)

    def timing(self) -> Timing:
        return Timing(tuple(self.samples), self.calls, self.sets, self.peak_bytes)


class ProcessorTimer:
    """The same on the CPU, in one thread, by processor time, which busy neighbours disturb less.

    The inputs are small and cached: this compares, it does not measure.
    """

    def __init__(self, prepare: Callable[[], Callable[[int], object]], sets: int) -> None:
        self.sets, self.samples, self.call = sets, [], prepare()
        for i in range(3):
            self.call(i % sets)
        start = time.process_time()
        self.call(0)
        self.calls = calls_in_graph(sets, (time.process_time() - start) * 1e6)

    def round(self) -> None:
        start = time.process_time()
        for i in range(self.calls):
            self.call(i % self.sets)
        self.samples.append((time.process_time() - start) * 1e6 / self.calls)

    def timing(self) -> Timing:
        return Timing(tuple(self.samples), self.calls, self.sets)


class HostTimer:
    """What a call costs the host: the time until it returns, while the device has next to nothing to do.

    On the CPU that is processor time, and includes the arithmetic, which for so few pixels takes less than the
    dispatch.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self.call, self.samples = call, []
        gpu = torch.cuda.is_available()
        self.clock = time.perf_counter if gpu else time.process_time
        self.synchronise = torch.cuda.synchronize if gpu else lambda: None
        for _ in range(3):
            call()

    def round(self) -> None:
        self.synchronise()
        start = self.clock()
        for _ in range(HOST_CALLS):
            self.call()
        self.samples.append((self.clock() - start) * 1e6 / HOST_CALLS)
        self.synchronise()

    def timing(self) -> Timing:
        return Timing(tuple(self.samples), HOST_CALLS, 1)


def forward_call(function: Callable, sets: Sequence[Sequence[Tensor]]) -> Callable[[int], object]:
    return lambda i: function(*sets[i])


def backward_call(
    function: Callable, sets: Sequence[Sequence[Tensor]], differentiable: Sequence[int], cotangents: Sequence[Tensor]
) -> Callable[[int], object]:
    """The backward pass alone. The forward passes are done here, once for each set, and their graphs are kept."""
    outputs = [function(*tensors) for tensors in sets]
    return lambda i: torch.autograd.grad(
        outputs[i], [sets[i][j] for j in differentiable], cotangents[i], retain_graph=True
    )


def both_call(
    function: Callable, sets: Sequence[Sequence[Tensor]], differentiable: Sequence[int], cotangents: Sequence[Tensor]
) -> Callable[[int], object]:
    def call(i: int) -> object:
        output = function(*sets[i])
        return output, torch.autograd.grad(output, [sets[i][j] for j in differentiable], cotangents[i])

    return call


def copy_timer() -> tuple[GraphTimer, int]:
    """A plain device-to-device copy and the bytes it moves, read and written: what the fractions are fractions of."""
    count = 2 * cache_bytes()  # float32 values: eight times the cache
    pairs = [(torch.rand(count, device="cuda"), torch.empty(count, device="cuda")) for _ in range(2)]
    return GraphTimer(lambda: lambda i: pairs[i][1].copy_(pairs[i][0]), len(pairs)), 2 * 4 * count


def _estimate(call: Callable[[int], object], sets: int) -> float:
    """Microseconds per call, roughly, by device events; too long where the host is slower than the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    count = min(sets, 8)
    start.record()
    for i in range(count):
        call(i)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1000 / count


def _check_asynchronous(call: Callable[[int], object]) -> None:
    """Raise where a call waits for the device, before such a wait breaks a capture less legibly."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call(0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _peak(function: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = function()
    torch.cuda.synchronize()
    del result
    return torch.cuda.max_memory_allocated() - before
