"""Numbers of the steps: means without bad steps, streaks, and the record of a flight."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from tests.training.test_train import StopAfter, assert_equal_states, latest, run_gan
from tests.training.test_train import _NoWaits as NoWaits
from tmgan.training.checkpoint import checkpoints_in
from tmgan.training.editor_task import EditorTask
from tmgan.training.jobs import train_encoders
from tmgan.training.recorder import STREAK, Recorder, write_flight

NAN, INF = float("nan"), float("inf")


def record(*values: float, start: int = 0) -> Recorder:
    recorder = Recorder()
    for step, value in enumerate(values, start):
        add(recorder, step, value)
    return recorder


def add(recorder: Recorder, step: int, value: float) -> None:
    if recorder.full:
        recorder.streak()
    recorder.add(step, {"grad": torch.tensor(value), "g": torch.tensor(2.0)})


def test_means_leave_out_what_is_not_finite_and_bad_steps_are_counted():
    recorder = record(1.0, NAN, 3.0, INF)
    assert recorder.read() == ({"grad": 2.0, "g": 2.0}, 2)
    assert recorder.read() == ({}, 0)
    add(recorder, 4, NAN)
    means, bad = recorder.read()
    assert math.isnan(means["grad"]) and means["g"] == 2.0 and bad == 1


def test_only_gradients_make_a_step_bad():
    """What is only watched changes no weight."""
    recorder = Recorder()
    for step in range(20):
        recorder.add(step, {"d_words": torch.tensor(INF), "grad_d": torch.tensor(1.0)})
    assert recorder.streak() == 0 and recorder.read().bad == 0


def test_a_streak_is_of_steps_in_a_row_over_ticks_and_may_end():
    recorder = record(NAN, 1.0, NAN, NAN)
    recorder.read()
    assert recorder.streak() == 2 and recorder.first_bad() == 2
    for step in range(4, 4 + STREAK):
        add(recorder, step, NAN)
    assert recorder.streak() == STREAK + 2 and recorder.first_bad() == 2
    add(recorder, 4 + STREAK, 1.0)
    assert recorder.streak() == 0 == Recorder().streak() and Recorder().first_bad() is None


def test_the_record_keeps_the_last_hundred_steps_and_the_begin_of_a_streak():
    rows = record(*map(float, range(250))).rows()
    assert [row["step"] for row in rows] == list(range(150, 250))
    assert rows[0] == {"step": 150, "grad": 150.0, "g": 2.0}
    recorder = record(*map(float, range(120)), *[NAN] * 300)
    assert recorder.streak() == 300 and recorder.first_bad() == 120
    steps = [row["step"] for row in recorder.rows()]
    assert steps == list(range(120 + STREAK - 100, 120 + STREAK))
    assert Recorder().rows() == []


def test_nothing_waits_for_the_device_while_steps_are_taken():
    recorder = record(1.0)
    with NoWaits():
        for step in range(1, 100):
            recorder.add(step, {"grad": torch.tensor(NAN), "g": torch.tensor(1.0)})
    assert recorder.full
    with pytest.raises(AssertionError, match="looked at"):
        recorder.add(100, {"grad": torch.tensor(NAN), "g": torch.tensor(1.0)})


def test_the_file_holds_what_json_has_no_numbers_for(tmp_path):
    path = tmp_path / "flight.json"
    assert not write_flight(path, Recorder(), 4, {}) and not path.exists()
    assert write_flight(path, record(1.5, NAN, -INF, start=7), 4, {"reason": "why", "seed": 3})
    flight = json.loads(path.read_text())
    assert {k: v for k, v in flight.items() if k != "rows"} == {"format": 1, "reason": "why", "seed": 3, "batch": 4}
    assert flight["rows"] == [
        {"step": 7, "images": 28, "grad": 1.5, "g": 2.0},
        {"step": 8, "images": 32, "grad": "nan", "g": 2.0},
        {"step": 9, "images": 36, "grad": "-inf", "g": 2.0},
    ]


def bad_from(first: int, last: float = math.inf):
    """EditorTask.step, but with pictures that are not numbers from one step on."""
    step_of = EditorTask.step

    def step(task: EditorTask, number: int):
        load = task.loader
        if first <= number <= last:
            task.loader = lambda n: dataclasses.replace(batch := load(n), images=batch.images * NAN)
        try:
            return step_of(task, number)
        finally:
            task.loader = load

    return step


def test_a_streak_stops_the_run_and_says_what_to_do(tiny, pack, encoders, monkeypatch):
    config = dataclasses.replace(tiny, images=60)
    with monkeypatch.context() as patch, pytest.raises(FloatingPointError) as error:
        patch.setattr(EditorTask, "step", bad_from(3))
        run_gan(config, pack, encoders)
    run = Path(config.run)
    message = str(error.value)
    assert "from image 12 on, gradients are not finite" in message
    (newest,) = checkpoints_in(run / "checkpoints")
    assert newest.name == "images-000000000008.pt", "what was reached in a streak does not replace it"
    assert f"The last good checkpoint is {newest}." in message
    assert f"tmgan replay {run} --step 3" in message and "lower learning rates" in message
    flight = json.loads((run / "flight.json").read_text())
    assert [row["step"] for row in flight["rows"]] == list(range(3 + STREAK))
    assert flight["rows"][3]["grad_d"] == "nan" and flight["seed"] == tiny.seed and flight["engine"] == "eager"
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [row.get("bad_steps", 0) for row in rows[:3]] == [0, 1, 2] and rows[1]["d"] > 0
    assert "  skipped 2\n" in (run / "log.txt").read_text()


def test_a_bad_step_now_and_then_ends_nothing(tiny, pack, encoders, monkeypatch):
    monkeypatch.setattr(EditorTask, "step", bad_from(2, 3))
    assert run_gan(tiny, pack, encoders) == "done"
    rows = [json.loads(line) for line in (Path(tiny.run) / "stats.jsonl").read_text().splitlines()]
    assert [row.get("bad_steps", 0) for row in rows] == [0, 2, 0] and not (Path(tiny.run) / "flight.json").exists()


def test_a_run_does_not_end_in_bad_steps(tiny, pack, encoders, monkeypatch):
    monkeypatch.setattr(EditorTask, "step", bad_from(3))
    with pytest.raises(FloatingPointError, match="from image 12 on"):
        run_gan(tiny, pack, encoders)


def test_a_crash_leaves_a_record_too(tiny, pack, encoders, monkeypatch):
    step_of = EditorTask.step

    def step(task, number):
        if number == 4:
            raise TypeError("a slip")
        return step_of(task, number)

    monkeypatch.setattr(EditorTask, "step", step)
    with pytest.raises(TypeError):
        run_gan(tiny, pack, encoders)
    flight = json.loads((Path(tiny.run) / "flight.json").read_text())
    assert flight["reason"] == "TypeError: a slip" and [row["step"] for row in flight["rows"]] == [0, 1, 2, 3]


def test_encoders_that_diverge_stop_too(tiny_damsm):
    wild = dataclasses.replace(tiny_damsm.pretrain, lr=1e30, images=64)
    with pytest.raises(FloatingPointError, match="Training diverged"):
        train_encoders(dataclasses.replace(tiny_damsm, pretrain=wild))


def test_skipped_steps_resume_as_they_were(tiny, pack, encoders, monkeypatch, tmp_path):
    """Whether a step is skipped follows from the step, so an interrupted run skips the same ones."""
    monkeypatch.setattr(EditorTask, "step", bad_from(1, 2))
    run_gan(tiny, pack, encoders)
    pieces = dataclasses.replace(tiny, run=str(tmp_path / "pieces"))
    assert [run_gan(pieces, pack, encoders, StopAfter(2)), run_gan(pieces, pack, encoders)] == ["stopped", "done"]
    assert_equal_states(latest(Path(tiny.run))["task"], latest(tmp_path / "pieces")["task"])


def test_what_cannot_be_measured_is_a_divergence_since_its_first_bad_step(tiny, pack, encoders):
    wild = dataclasses.replace(tiny, images=400, optim=dataclasses.replace(tiny.optim, lr_g=1e30))
    with pytest.raises(
        FloatingPointError, match=r"(?s)from image 4 on, what is measured is not finite.*--step 1\n"
    ) as error:
        run_gan(wild, pack, encoders)
    assert "edits hold numbers that are not finite" in str(error.value.__cause__)


def test_a_run_that_is_bad_from_a_checkpoint_on_says_which_one_is_next(tiny, pack, encoders, monkeypatch):
    """A signal may have saved it in a streak: the same command would begin with it for ever."""
    run = Path(tiny.run)
    run_gan(tiny, pack, encoders)
    longer = dataclasses.replace(tiny, images=100)
    with monkeypatch.context() as patch, pytest.raises(FloatingPointError) as error:
        patch.setattr(EditorTask, "step", bad_from(6))
        run_gan(longer, pack, encoders)
    names = [path.name for path in checkpoints_in(run / "checkpoints")]
    assert names == [f"images-{n:012d}.pt" for n in (24, 16, 8)]
    assert f"{names[0]}. If it goes bad there again, move that away: the one before it, {names[1]}," in str(error.value)
    assert (run / "flight.json").exists()
    run_gan(dataclasses.replace(tiny, images=28), pack, encoders)
    assert not (run / "flight.json").exists() and (run / "flight-before.json").exists()
