"""The parts of a step: what profilers see of them, and what a full GPU makes a command say."""

from __future__ import annotations

import pytest
import torch

from tests.training import steps
from tmgan.cli import main
from tmgan.common.errors import sentence
from tmgan.config.runtime import decide
from tmgan.training.editor_task import EditorTask
from tmgan.training.parts import Parts
from tmgan.training.step import TrainStep

NAMES = [
    "generate",
    "discriminator loss",
    "discriminator backward",
    "discriminator update",
    "generator loss",
    "generator backward",
    "generator update",
    "average",
]


def test_a_profiler_sees_the_parts_in_their_order(tiny, pack, encoders):
    task = EditorTask(tiny, pack, encoders, decide(tiny.runtime))
    with torch.profiler.profile(acc_events=True) as profiler:
        task.step(0)
    ranges = [event for event in profiler.events() if event.is_user_annotation and event.name in ("load", *NAMES)]
    ranges.sort(key=lambda event: event.time_range.start)
    assert [event.name for event in ranges] == ["load", *NAMES]
    assert all(a.time_range.end <= b.time_range.start for a, b in zip(ranges, ranges[1:], strict=False))


def test_without_a_profiler_no_range_is_opened(monkeypatch):
    step, batch = steps.make("quickstart")
    monkeypatch.setattr(torch.profiler, "record_function", None)
    assert all(not loss.requires_grad for loss in step(batch, 0).values())
    with pytest.raises(TypeError), torch.profiler.profile():
        step(batch, 4)


def full(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(("memory", "remedy"), [("normal", "Try --memory low, "), ("low", "Try a smaller --batch.")])
def test_a_command_whose_gpu_is_full_says_where_and_what_to_do(memory, remedy, monkeypatch, capsys):
    monkeypatch.setattr(TrainStep, "average", full)
    with pytest.raises(SystemExit) as ended:
        main(f"bench --batch 2 --engines eager --runtime.device cpu --runtime.threads 1 --memory {memory}".split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "the GPU's memory is full. This was in the part 'average' of the training step. " + remedy in said
    assert "Tried to allocate 2.00 GiB." in said and "smaller --batch" in said


def test_the_peak_of_each_part_is_looked_up_once_and_told(monkeypatch):
    peaks = iter([3 << 30, 7 << 29])
    resets = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(peaks))
    within = Parts(torch.device("cuda"), "Buy another.")
    for _ in range(2):
        with within("generate"):
            pass
    with pytest.raises(torch.OutOfMemoryError) as caught, within("generator backward"):
        full()
    assert len(resets) == 2 and within.peaks == {"generate": 3 << 30, "generator backward": 7 << 29}
    assert sentence(caught.value) == (
        "the GPU's memory is full. This was in the part 'generator backward' of the training step. Most by part so "
        "far: generate 3.00 GiB; generator backward 3.50 GiB. Buy another.\n"
        "CUDA out of memory. Tried to allocate 2.00 GiB."
    )
