"""What a training holds does not grow: memory, handles, threads, tensors."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
import torch

from benchmarks.reliability.endurance import BOUNDS, held, too_much, train
from benchmarks.reliability.smallest import Forks, write_pack

# Over fifty steps, what the allocator keeps for a while is the larger part of the resident memory.
SHORT = {**BOUNDS, "resident_bytes": 100.0e6}


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks()


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("endurance"))


def _write_samples(pack: Path, folder: Path, steps: int, leaks: bool) -> None:
    kept: list[object] = []

    def leak() -> None:
        """A handle, a thread, and 400 kB of memory, which a tensor has."""
        kept.append(os.dup(0))
        kept.append(thread := threading.Thread(target=threading.Event().wait, daemon=True))
        thread.start()
        kept.append(torch.ones(100_000))

    samples = train(pack, folder, steps, each_step=leak if leaks else lambda: None)
    (folder / "samples.json").write_text(json.dumps(samples))


def samples_of(forks: Forks, pack: Path, folder: Path, steps: int, leaks: bool = False) -> list[dict[str, int]]:
    """In a process of its own, which holds nothing of other tests."""
    assert forks.run(_write_samples, pack, folder, steps, leaks) == 0
    return json.loads((folder / "samples.json").read_text())


def test_nothing_grows(forks, pack, tmp_path):
    samples = samples_of(forks, pack, tmp_path, 120)
    assert len(samples) == 12 and samples[-1]["step"] > 110
    assert too_much(samples, SHORT) == [], samples


def test_leaks_are_found(forks, pack, tmp_path):
    samples = samples_of(forks, pack, tmp_path, 30, leaks=True)
    assert too_much(samples, SHORT) == ["resident_bytes", "handles", "threads", "tensors", "tensor_bytes"], samples


def test_a_single_sample_beside_a_save_is_no_growth():
    samples = [{"step": step, "tensors": 400 + 150 * (step == 90)} for step in range(0, 100, 10)]
    assert too_much(samples, SHORT) == []
    assert too_much([{"step": step, "tensors": 400 + step // 40} for step in range(0, 300, 10)], SHORT) == ["tensors"]


def _train_again_and_again(pack: Path, folder: Path) -> None:
    for number in range(2):
        train(pack, folder / str(number), 1)
        left = {name: held()[name] for name in ("handles", "threads")}
        (folder / f"{number}.json").write_text(json.dumps(left))


def test_a_training_leaves_nothing_behind(forks, pack, tmp_path):
    """As in a notebook, which calls it again."""
    assert forks.run(_train_again_and_again, pack, tmp_path) == 0
    assert (tmp_path / "0.json").read_text() == (tmp_path / "1.json").read_text()


@pytest.mark.slow
def test_nothing_grows_in_3000_steps(forks, pack, tmp_path):
    samples = samples_of(forks, pack, tmp_path, 3000)
    assert too_much(samples, BOUNDS) == [], samples
