"""The arithmetic of the benchmarks, which no GPU is needed to check."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math

import pytest
import torch

from benchmarks import machine, schema
from benchmarks.kernels import cases, collector, timer
from benchmarks.kernels.cases import OPERATIONS, Case
from benchmarks.kernels.prepare import Prepared, prepare_case

MEGABYTE = 1 << 20
PLANS = cases.gpu_plan() + cases.cpu_plan()


# ----------------------------------------------------------------- the timer
@pytest.mark.parametrize(
    ("set_bytes", "sets"),
    [(60 * MEGABYTE, 4), (240 * MEGABYTE, 2), (500 * MEGABYTE, 2), (7 * MEGABYTE, 35), (1 * MEGABYTE, 240)],
)
def test_input_sets_are_four_times_the_cache(set_bytes, sets):
    assert timer.input_sets(set_bytes, 60 * MEGABYTE) == sets
    assert sets * set_bytes >= timer.CACHE_MULTIPLE * 60 * MEGABYTE


@pytest.mark.parametrize("sets", [2, 5, 35])
@pytest.mark.parametrize("estimate", [0.0, 3.0, 12.0, 400.0, 20000.0])
def test_a_graph_is_long_enough_and_uses_every_set_equally(sets, estimate):
    calls = timer.calls_in_graph(sets, estimate)
    assert calls >= sets and calls % sets == 0
    assert calls * max(estimate, 0.1) >= timer.GRAPH_MICROSECONDS
    assert calls == sets or (calls - sets) * estimate < timer.GRAPH_MICROSECONDS, "no longer than it must be"


def test_median_and_interquartile_range():
    timing = timer.Timing((5.0, 1.0, 2.0, 4.0, 3.0), calls=10, sets=2)
    assert (timing.median, timing.iqr) == (3.0, 2.0)
    assert timer.Timing((7.0,), 1, 1).iqr == 0.0


class FakeGraph:
    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1


class FakeEvent:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return 2.0  # milliseconds


def test_graph_timer_captures_every_set_and_divides_by_the_calls(monkeypatch):
    """The control flow of a capture, on a torch.cuda that only pretends."""
    capturing = []

    @contextlib.contextmanager
    def graph(_, stream):
        capturing.append(True)
        yield
        capturing.pop()

    for name, fake in {
        "synchronize": lambda: None,
        "graph": graph,
        "CUDAGraph": FakeGraph,
        "Event": FakeEvent,
        "memory_allocated": lambda: 100,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 250,
        "set_sync_debug_mode": lambda mode: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(timer, "_stream", lambda: None)
    captured = []

    def call(i):
        if capturing:
            captured.append(i)
        return torch.zeros(1)

    clock = timer.GraphTimer(lambda: call, sets=3)
    assert captured == [0, 1, 2], "2 ms per call: once through the sets is enough"
    for _ in range(4):
        clock.round()
    timing = clock.timing()
    assert clock.graph.replays == 8, "an untimed replay before each timed one"
    assert timing.samples == (2000.0 / 3,) * 4
    assert timing.peak_bytes == 150


@pytest.mark.parametrize("which", ["forward", "backward", "both"])
def test_calls_return_what_they_time(which):
    work = Prepared(Case("laplace_sharpness", (1, 3, 8, 8)), "eager", 2)
    result = work.call(which)(1)
    (image,) = work.sets[1]
    (gradient,) = torch.autograd.grad(work.function(image), [image], work.cotangents[1])
    if which == "forward":
        torch.testing.assert_close(result, work.function(image))
    else:
        torch.testing.assert_close((result if which == "backward" else result[1])[0], gradient)


# ----------------------------------------------------------------- the cases
def shrunk(case: Case) -> Case:
    channels = min(case.shape[1], 4) if case.operation == "instance_norm_glu" else case.shape[1]
    return dataclasses.replace(case, shape=(2, channels, 16, 16))


def image_bytes(tensors) -> int:
    """Of images and planes; a value or a threshold for an image is not counted."""
    return sum(x.numel() * x.element_size() for x in tensors if x.dim() == 4)


@pytest.mark.parametrize("case", dict.fromkeys(shrunk(case) for case, _ in PLANS), ids=str)
def test_declared_bytes_are_those_of_the_tensors(case):
    """Inputs, outputs, incoming and outgoing gradients, as the definition takes and returns them."""
    operation = OPERATIONS[case.operation]
    work = Prepared(case, "eager", 1)
    tensors, results = work.sets[0], work.all_of(work.function)
    count = len(results) - len(work.differentiable)
    outputs, gradients = results[:count], results[count:]
    traffic = operation.traffic(case.shape[1], tensors[0].element_size())
    pixels = case.shape[0] * case.shape[2] * case.shape[3]
    if "forward" in operation.passes:
        crops = case.operation == "gather_crop"  # reads the crops alone, of larger tiles
        assert traffic.inputs * pixels == (pixels * case.shape[1] if crops else image_bytes(tensors))
        assert traffic.outputs * pixels == image_bytes(outputs)
    assert traffic.gradients * pixels == image_bytes(gradients)
    assert traffic.cotangents * pixels == (image_bytes(work.cotangents) if work.differentiable else 0)
    assert traffic.of("both") == traffic.of("forward") + traffic.of("backward")
    assert all(cases.bytes_moved(case, which) > 0 for which in operation.passes)


TRAINED = {case.operation: shrunk(case) for case, _ in reversed(PLANS) if OPERATIONS[case.operation].differentiable}


@pytest.mark.parametrize("case", TRAINED.values(), ids=str)
def test_declared_kept_bytes_are_what_the_kernels_save(case):
    """Beside inputs, which are not written by the forward pass; second derivatives may need more of those."""
    work = Prepared(case, "eager", 1)
    own = {x.data_ptr() for x in work.sets[0]}
    kept = {}

    def pack(x):
        if x.dim() == 4 and x.data_ptr() not in own:
            kept[x.data_ptr()] = x.numel() * x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        cases.call_of(case, "triton")(*work.sets[0])
    traffic = OPERATIONS[case.operation].traffic(case.shape[1], work.sets[0][0].element_size())
    assert traffic.kept * case.shape[0] * case.shape[2] * case.shape[3] == sum(kept.values())


def test_the_floor_of_a_blur_is_the_one_everybody_knows():
    """64 images of three float32 channels, read and written: 100.7 MB, 23.4 us at 4.3 TB/s."""
    moved = cases.bytes_moved(Case("box_blur", (64, 3, 256, 256), options=(("kernel_size", 5),)), "forward")
    assert moved == 2 * 64 * 3 * 256 * 256 * 4
    floor = schema.derive(30.0, moved, {"gigabytes_per_second": 4300.0})
    assert math.isclose(floor["floor_microseconds"], 23.41, abs_tol=0.01)
    assert math.isclose(floor["copy_fraction"], 23.41 / 30, abs_tol=1e-3)


def test_plans_name_each_row_once_and_every_operation():
    for plan in (cases.gpu_plan(), cases.cpu_plan()):
        assert len(plan) == len(set(plan))
        assert {case.operation for case, _ in plan} == set(cases.kernels.__all__)
    gpu = cases.gpu_plan()
    assert {case.shape[0] for case, _ in gpu} == {16, 64, 256}
    assert {case.shape[1:] for case, _ in gpu if case.operation == "instance_norm_glu"} == {
        (512, 16, 16),
        (256, 32, 32),
        (128, 64, 64),
        (64, 128, 128),
        (64, 256, 256),
    }
    assert all(provider in schema.PROVIDERS for _, provider in gpu)


RIVALS = dict.fromkeys((shrunk(case), provider) for case, provider in PLANS if provider in ("best-eager", "kornia"))


@pytest.mark.parametrize(("case", "provider"), RIVALS, ids=str)
def test_rivals_compute_the_same(case, provider):
    Prepared(case, provider, 1)


def test_a_provider_that_computes_something_else_is_refused(monkeypatch):
    monkeypatch.setitem(OPERATIONS["box_blur"].rivals, "best-eager", lambda image, kernel_size: image * 1.0)
    with pytest.raises(ValueError, match="differ from the definition"):
        Prepared(Case("box_blur", (1, 3, 16, 16), options=(("kernel_size", 5),)), "best-eager", 1)


def test_a_rival_that_gives_no_numbers_is_refused(monkeypatch):
    monkeypatch.setitem(OPERATIONS["box_blur"].rivals, "best-eager", lambda image, kernel_size: image * math.nan)
    with pytest.raises(ValueError, match="100% of result 0 differ from the definition"):
        Prepared(Case("box_blur", (1, 3, 16, 16), options=(("kernel_size", 5),)), "best-eager", 1)


# ------------------------------------------------------------- the collector
class Benchmark:
    def __init__(self):
        self.extra_info = {}


def test_failures_and_what_was_not_reached_are_in_the_file(tmp_path):
    collected = collector.Results(budget=0, only_compile=False, say=lambda line: None)
    collected.gpu, collected.copy, collected.machine = False, None, machine.describe("cpu")
    keys = [
        {**Case("box_blur", (2, 3, 8, 8), options=(("kernel_size", 5),)).key(), "pass": "forward", "provider": provider}
        for provider in ("eager", "kornia", "compile", "triton")
    ]
    collected.planned = keys
    with collected.measuring(keys[0], collected.rows):
        collected.add(keys[0], timer.Timing((3.0, 3.5), 4, 2), 3072, Benchmark())
    with pytest.raises(pytest.xfail.Exception), collected.measuring(keys[1], collected.rows):
        raise RuntimeError("first line\nsecond line")
    with pytest.raises(ZeroDivisionError), collected.measuring(keys[3], collected.rows):
        raise ZeroDivisionError("division by zero")
    path = collected.write(tmp_path)
    assert path.name == f"kernels-cpu-{collected.machine['date']}.json"
    document = json.loads(path.read_text())
    assert [row.get("error") for row in document["rows"]] == [
        None,
        "RuntimeError: first line",
        "ZeroDivisionError: division by zero",
    ]
    assert [row["provider"] for row in document["not_measured"]] == ["compile"]


def test_nothing_starts_after_the_budget():
    collected = collector.Results(budget=1e-9, only_compile=False, say=lambda line: None)
    with pytest.raises(pytest.skip.Exception), collected.measuring({}, collected.rows):
        raise AssertionError("started")
    assert not collected.rows


def test_the_first_error_of_a_chain_is_kept():
    try:
        try:
            raise ValueError("the cause")
        finally:
            raise RuntimeError("the end of the capture")
    except RuntimeError as error:
        assert collector.describe_error(error) == "RuntimeError: the end of the capture; after ValueError: the cause"


@pytest.fixture(autouse=True)
def _forget_prepared():
    yield
    prepare_case.cache_clear()
