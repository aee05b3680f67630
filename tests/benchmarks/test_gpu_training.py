"""benchmarks/gpu/training.py and idle.py; tests/benchmarks/test_gpu.py runs the script."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.gpu import idle, journal, training
from benchmarks.gpu.supervisor import Options
from tmgan.config import configfile


def test_the_share_of_the_time_in_which_nothing_runs():
    overlapping = [(0.0, 2.0), (1.0, 3.0), (1.5, 1.7), (4.0, 5.0), (9.0, 10.0)]
    assert idle.idle_share(overlapping, skip=0.0) == (pytest.approx(0.5), 10.0)
    assert idle.idle_share(overlapping, skip=0.45) == (pytest.approx(4 / 5.5), 5.5), "the first spans are left out"
    assert idle.idle_share([(2.0, 4.0)], skip=0.5) == (0.0, 1.0)
    with pytest.raises(ValueError, match="saw nothing"):
        idle.idle_share([])


def test_a_range_around_kernels_is_no_work():
    """Whatever it is called: Inductor and the optimisers of torch draw theirs too."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function("Optimizer.step#Adam.step"):
        torch.ones(2).add_(1)
    cpu = torch.autograd.DeviceType.CPU
    every = [event for event in profiler.events() if event.device_type == cpu]
    ranges = [event for event in every if event.name.startswith("Optimizer")]
    assert len(ranges) == 1 and len(idle.spans(profiler.events(), cpu)) == len(every) - 1
    assert (ranges[0].time_range.start, ranges[0].time_range.end) not in idle.spans(profiler.events(), cpu)
    assert not idle.spans(profiler.events(), torch.autograd.DeviceType.CUDA)


def test_a_loop_s_speed_is_that_of_its_steady_part(tmp_path):
    """Without the first status line, which compiles, and those of steps that a profiler ran beside."""
    options = Options(tmp_path, 540, False, True)
    file = journal.Journal(tmp_path / "rows.jsonl", {"run": "a"})
    trace = idle.Trace(file, options, batch=16)
    watch = training.Watch(file, options, tmp_path, trace)
    ends = [4_000, 8_000, 12_000, 16_000]
    assert trace.images == (8_000, 8_816), "within the third status line"
    watch.ticks = [
        {"images": images, "images_per_second": speed, "after": after}
        for images, speed, after in zip(ends, (1.0, 100.0, 2.0, 120.0), (5.0, 45.0, 500.0, 600.0), strict=True)
    ]
    watch.conclude()
    row = journal.rows(file.lines())["loop"]
    assert row["images_per_second"] == 110.0 and row["samples"] == 2
    assert row["with_pauses_images_per_second"] == pytest.approx(8_000 / 140), "not 12,000 in 595 seconds"
    assert row["images"] == 16_000 and row["seconds"] == 595.0, "of the loop as it was"


def test_the_step_by_itself_is_that_of_the_training(pack):
    """But for what a pack decides: its path and the size of its pictures; and encoders are trained once only."""
    on_gpu = Options(Path(), 540, False, True)
    alone, trained = training.settings(on_gpu), training.settings(on_gpu, str(pack.path))
    differ = {"data", "model.image_size", *(f"pretrain.{field}" for field in ("images", "batch", "lr", "dropout"))}
    plain = [configfile.to_dict(config) for config in (alone, trained)]
    assert set(configfile.differences(*plain)) <= differ and alone.preset == "editor"
    assert alone.model.image_size == 256
