"""Checkpoints survive kills, damage and a full folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tmgan.common.files import write_atomically
from tmgan.training.checkpoint import Checkpoints


def store(folder: Path, keep: int = 3) -> tuple[Checkpoints, list[str]]:
    said: list[str] = []
    return Checkpoints(folder, keep, said.append), said


def test_round_trip_and_pruning(tmp_path):
    checkpoints, _ = store(tmp_path)
    assert checkpoints.load_latest() is None
    for images in (10, 20, 30, 40):
        checkpoints.save(images, {"step": images // 10, "task": {"w": torch.full((3,), float(images))}})
    assert [p.name for p in checkpoints.paths()] == [f"images-{i:012d}.pt" for i in (40, 30, 20)]
    state = checkpoints.load_latest()
    assert state["images"] == 40 and state["step"] == 4 and torch.equal(state["task"]["w"], torch.full((3,), 40.0))


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip"])
def test_damaged_newest_falls_back_with_a_warning(tmp_path, damage):
    checkpoints, said = store(tmp_path)
    for images in (10, 20):
        checkpoints.save(images, {"step": 1, "task": {"w": torch.arange(5000.0)}})
    newest = checkpoints.paths()[0]
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 0xFF
    newest.write_bytes(data[: len(data) // 2] if damage == "truncate" else b"" if damage == "empty" else data)
    assert checkpoints.load_latest()["images"] == 10
    assert "damaged" in said[0] and newest.name in said[0]


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
    checkpoints, _ = store(tmp_path)
    checkpoints.save(10, {"step": 1, "task": {}}).write_bytes(b"x")
    with pytest.raises(ValueError, match="None of the checkpoints"):
        checkpoints.load_latest()


def test_other_format_is_refused(tmp_path):
    checkpoints, _ = store(tmp_path)
    checkpoints.save(10, {"format": 99, "step": 1, "task": {}})
    with pytest.raises(ValueError, match="format 99"):
        checkpoints.load_latest()


def test_best_is_kept_beyond_pruning(tmp_path):
    checkpoints, _ = store(tmp_path, keep=2)
    for images, score in ((10, 0.2), (20, 0.9), (30, 0.5), (40, 0.4), (50, None)):
        checkpoints.save(images, {"step": 1, "task": {}}, score)
    assert checkpoints.best() == {"file": "images-000000000020.pt", "images": 20, "score": 0.9}
    assert [int(p.stem[7:]) for p in checkpoints.paths()] == [50, 40, 20]
    (tmp_path / "best.json").write_text("{")
    checkpoints.save(60, {"step": 1, "task": {}}, 0.1)  # a damaged record does not end the run
    assert checkpoints.best()["images"] == 60


def test_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_kill_9_never_leaves_an_unreadable_checkpoint(tmp_path):
    """A writer that saves back to back is killed at many moments; what is there must load, and orphans go."""
    script = (
        "import sys, torch; from pathlib import Path; from tmgan.training.checkpoint import Checkpoints\n"
        "c = Checkpoints(Path(sys.argv[1]), 2, print); w = torch.arange(1_000_000.)\n"
        "for i in range(1, 100000): c.save(i, {'step': i, 'task': {'w': w}}); print(i, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for attempt in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, env=environment
        )
        assert writer.stdout.readline()  # one save is done: what comes next may be cut off anywhere
        time.sleep(0.037 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        checkpoints, said = store(tmp_path, keep=2)
        state = checkpoints.load_latest()
        assert state is not None and state["task"]["w"].shape == (1_000_000,) and not said
        assert not list(tmp_path.glob(".*tmp*"))


def test_a_checkpoint_of_another_form_is_damaged(tmp_path):
    checkpoints, said = store(tmp_path)
    checkpoints.save(10, {"step": 1, "task": {}})
    torch.save({"format": 1, "images": 20}, tmp_path / "images-000000000020.pt")
    assert checkpoints.load_latest()["images"] == 10 and "it holds no step and no task" in said[0]
