"""The bytes of a step by part, against the allocator; and --memory low: the same numbers in less of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.flop_counter import FlopCounterMode

from tests.training import steps
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import RuntimeConfig
from tmgan.training import bench
from tmgan.training.memory import AliveBytes, by_part


def synthetic(memory: str, batch: int = 8) -> bench.SyntheticStep:
    config = dataclasses.replace(configfile.from_preset("quickstart"), batch=batch, memory=memory)
    return bench.synthetic_step(config, decide(RuntimeConfig(device="cpu", threads=1)))


def allocated(parts) -> dict[str, tuple[int, int]]:
    """(at its end, at its peak) of each part, above what there was before the first one, by torch's CPU allocator."""
    with torch.profiler.profile(profile_memory=True, acc_events=True) as profiler:
        for _, part in parts:
            part()
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    )
    begin = profiler.profiler.kineto_results.trace_start_ns()
    ranges = {event.name: event.time_range for event in profiler.events() if event.is_user_annotation}
    sizes, alive, place = {}, 0, 0
    for name, _ in parts:
        peak = alive
        while place < len(changes) and (changes[place][0] - begin) / 1e3 <= ranges[name].end:
            alive += changes[place][1]
            peak = max(peak, alive)
            place += 1
        sizes[name] = alive, peak
    return sizes


def test_counted_bytes_are_those_of_the_allocator():
    case = synthetic("normal")
    parts = bench.components(case.step, case.batch)
    counted = by_part(parts, torch.device("cpu"))
    start = counted["average"].alive  # as much as before the step
    most = max(size.peak for size in counted.values()) - start
    for name, (left, peak) in allocated(parts).items():
        assert counted[name].alive - start == pytest.approx(left, rel=0.02, abs=0.005 * most), name
        assert counted[name].peak - start == pytest.approx(peak, rel=0.03, abs=0.005 * most), name


def test_memory_is_counted_once_and_until_it_is_freed():
    before = torch.zeros(100)
    with AliveBytes() as counter:
        one = before + 1
        view = one[10:]
        assert (counter.alive, counter.peak) == (800, 800)
        two = view.sum()
        del one
        assert counter.alive == 804, "the view keeps it"
        del view
        assert (counter.alive, counter.peak) == (404, 804)
        graph = (before.clone().requires_grad_() * two).exp()
        del graph
    assert counter.alive == 404, "what autograd kept is gone"


@pytest.mark.parametrize("preset", ["everything", "manigan", "manigan-dcm", "editor"])
def test_a_step_with_low_memory_is_the_same_step(preset):
    """Bit for bit: losses and gradients in float64, and in float32 all that two steps change."""

    def make(memory: str):
        return steps.make(preset, change=lambda config: dataclasses.replace(config, memory=memory))

    normal, low = (steps.losses_and_gradients(*steps.in_double(*make(memory))) for memory in ("normal", "low"))
    for one, other in zip(normal, low, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-12, atol=1e-14, msg=name)
    states = []
    for memory in ("normal", "low"):
        step, batch = make(memory)
        for images in (0, 4):
            step(batch, images)
        states.append(step._state())  # the running statistics of batch norms too
    assert states[0].keys() == states[1].keys() and len(states[0]) > 100
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["everything", "manigan", "manigan-dcm", "editor"])
def test_low_memory_is_compiled_to_three_graphs_that_agree(preset):
    """As test_engines.py asks of the normal step; tests/models/test_recompute.py does it for two networks, sooner."""
    torch._dynamo.reset()
    losses, gradients = steps.losses_and_gradients(*steps.make(preset))
    backend = CompileCounterWithBackend("aot_eager")
    low, batch = steps.make(
        preset, "compiled", change=lambda config: dataclasses.replace(config, memory="low"), backend=backend
    )
    again, others = steps.losses_and_gradients(low, batch)
    for name, loss in losses.items():
        torch.testing.assert_close(again[name], loss, rtol=1e-5, atol=1e-7)
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name
    with torch._dynamo.config.patch(error_on_recompile=True):
        low(batch, 0)
    assert backend.frame_count == 3


def test_low_memory_keeps_less_for_at_most_two_fifths_more_arithmetic():
    kept, work = {}, {}
    for memory in ("normal", "low"):
        case = synthetic(memory, batch=2)
        sizes = by_part(bench.components(case.step, case.batch), torch.device("cpu"))
        kept[memory] = sizes["generator loss"].alive - sizes["average"].alive
        with FlopCounterMode(display=False) as counter:
            case.step(case.batch, 2)
        work[memory] = counter.get_total_flops()
    assert kept["low"] < 0.6 * kept["normal"]
    assert 1.2 * work["normal"] < work["low"] < 1.4 * work["normal"]
