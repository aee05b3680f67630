"""`tmgan replay`: a step of a run once more, to the bit, and which of its tensors went bad first."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import SMALL, TINY
from tests.training.test_train import assert_equal_states
from tmgan.cli import main
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import RuntimeConfig, TrainConfig
from tmgan.training.checkpoint import newest_of
from tmgan.training.editor_task import EditorTask
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.jobs import train_editor
from tmgan.training.recorder import FILE
from tmgan.training.reopen import reopen, settings_of
from tmgan.training.replay import record_step, replay
from tmgan.training.run_folder import RunFolder


def tiny_config(packed: Path, run: Path) -> TrainConfig:
    config = configfile.merge(configfile.from_preset("lightweight"), SMALL, "small")
    config = configfile.merge(config, TINY, "tiny")
    config = configfile.merge(config, {"output": {"keep": 9}, "runtime": {"threads": 1}}, "test")
    return dataclasses.replace(config, data=str(packed), run=str(run))


@pytest.fixture(scope="module")
def finished(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps, and of four of its encoders, with checkpoints before every second one."""
    run = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        leave_out_what_takes_long(patch)
        return train_editor(tiny_config(packed, run), evaluated=False)


def leave_out_what_takes_long(patch: pytest.MonkeyPatch) -> None:
    """And changes no weight."""
    for task in (EditorTask, EncoderTask):
        patch.setattr(task, "measure", lambda task, images: {})
        patch.setattr(task, "draw", lambda task, path: Image.new("RGB", (8, 8)).save(path))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def checkpoint(run: Path, images: int) -> dict:
    return newest_of([run / "checkpoints" / f"images-{images:012d}.pt"], print)


@contextlib.contextmanager
def changed(run: Path, images: int):
    """A checkpoint, to be changed."""
    state = checkpoint(run, images)
    yield state
    torch.save(state, run / "checkpoints" / f"images-{images:012d}.pt")


def without_checkpoints(run: Path, *images: int) -> None:
    for number in images:
        (run / "checkpoints" / f"images-{number:012d}.pt").unlink()


def state_after(run: Path, step: int, start: int) -> dict:
    """What a run's task is after a step, the steps before it run as `replay` runs them."""
    reopened = reopen(run, settings_of(run), step)
    assert reopened.start == start
    task = reopened.task(reopened.runtime)
    for number in range(start, step):
        task.step(number)
    record_step(task, step)
    return task.state_dict()


@pytest.mark.parametrize("inside", ["", "encoders"])
def test_the_state_after_a_replayed_step_is_that_of_the_run(finished, inside):
    run = finished / inside
    assert_equal_states(state_after(run, 3, start=2), checkpoint(run, 16)["task"])


@pytest.mark.parametrize("inside", ["", "encoders"])
def test_from_the_beginning(run, inside):
    expected = checkpoint(run / inside, 8)["task"]
    without_checkpoints(run / inside, 8)
    assert_equal_states(state_after(run / inside, 1, start=0), expected)


def test_from_the_beginning_of_a_run_that_went_on_from_another(finished, tmp_path, monkeypatch):
    leave_out_what_takes_long(monkeypatch)
    second = tmp_path / "second"
    config = dataclasses.replace(configfile.started_from(str(finished), run=str(second)), run=str(second))
    train_editor(dataclasses.replace(config, images=8, seed=7), evaluated=False)
    expected = checkpoint(second, 8)["task"]
    without_checkpoints(second, 8)
    assert_equal_states(state_after(second, 1, start=0), expected)
    record = json.loads((second / "run.json").read_text())
    record["from"]["sha256"] = "0"
    (second / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="another one than .* began with"):
        replay(second, 0)


def test_another_engine_computes_the_steps_before(run, monkeypatch, capsys):
    """The step itself runs operation by operation; compiling is left out here."""
    with changed(run, 8) as state:
        state["numerics"]["engine"] = "compiled"
    monkeypatch.setattr("tmgan.training.engine.torch.compile", lambda function, **options: function)
    found = replay(run, 3)
    assert any("engine is compiled" in note for note in found.notes)
    assert "eager" not in capsys.readouterr().out
    with changed(run, 8) as state:
        state["numerics"]["engine"] = "eager"
    task = (reopened := reopen(run, settings_of(run), 3)).task(reopened.runtime)
    task.step(2)
    assert found.losses == pytest.approx({name: loss.item() for name, loss in task.step(3).items()})
    assert any(row.module == "generator.coarse.spatial" for row in found.tensors)


# What went bad.


def test_a_sound_step(finished, capsys):
    found = replay(finished, 4)
    assert found.first_bad is None
    assert "from the checkpoint of 16 images, no step up to it" in capsys.readouterr().out
    assert "Nothing went bad" in str(found)
    assert found.recorded is None


def test_a_weight_that_overflows_is_found_where_it_does(run):
    with changed(run, 16) as state:
        state["task"]["discriminator"]["first.weight"].fill_(3e38)
    first = replay(run, 4).first_bad
    assert first.module == "discriminator.first"
    assert (first.part, first.kind, first.operation) == ("discriminator loss", "operation", "aten.convolution")


def test_a_loss_that_is_not_a_number_from_some_step_on(finished, monkeypatch):
    """It is the third step from the checkpoint on that is replayed: the operation is found by its name and its line."""
    import tmgan.training.objective as objective

    count = 0
    kl = objective.kl_loss

    def broken(mu, logvar):
        nonlocal count
        count += 1
        return kl(mu, logvar) * (math.nan if count == 2 else 1)

    monkeypatch.setattr(objective, "kl_loss", broken)
    found = replay(finished, 3)
    first = found.first_bad
    assert (first.part, first.operation, first.nan) == ("generator loss", "aten.mul.Tensor", 1)
    assert first.place.startswith("tmgan/training/objective.py:")
    assert math.isnan(found.losses["kl"])
    text = str(found)
    assert "First bad: aten.mul.Tensor (tmgan/training/objective.py:" in text
    assert text.count("\n  before it ") == 5 and "\n  made of " in text


def test_a_step_that_the_run_has_skipped(run, monkeypatch):
    """Its own gradients are bad, and the steps after it are those of the run."""
    import tmgan.training.objective as objective

    leave_out_what_takes_long(monkeypatch)
    kl, step, now = objective.kl_loss, EditorTask.step, [0]
    monkeypatch.setattr(EditorTask, "step", lambda task, number: (now.__setitem__(0, number), step(task, number))[1])
    monkeypatch.setattr(objective, "kl_loss", lambda *inputs: kl(*inputs) * (math.nan if now[0] == 2 else 1))
    without_checkpoints(run, 16, 24)
    train_editor(dataclasses.replace(settings_of(run), run=str(run)), evaluated=False)
    before, after = (checkpoint(run, images)["task"]["adam_g"]["state"][0]["step"] for images in (8, 16))
    assert after - before == 1, "of two steps one was skipped"
    found = replay(run, 2)
    assert (found.first_bad.part, found.first_bad.operation) == ("generator loss", "aten.mul.Tensor")
    assert math.isnan(found.losses["grad_g"]) and math.isfinite(found.losses["grad_d"])
    expected = checkpoint(run, 24)["task"]
    without_checkpoints(run, 16)
    assert_equal_states(state_after(run, 5, start=2), expected)


def test_a_bad_moment_was_bad_before(run):
    with changed(run, 16) as state:
        state["task"]["adam_d"]["state"][0]["exp_avg_sq"].fill_(math.inf)
    found = replay(run, 4)
    assert found.first_bad.name.startswith("adam_d.exp_avg_sq of discriminator.")
    assert "The checkpoint holds it" in str(found)


# The flight record.


def write_record(run: Path, rows: list[dict]) -> None:
    numerics = decide(RuntimeConfig(device="cpu", threads=1)).numerics()
    (run / FILE).write_text(json.dumps({"format": 1, "reason": "", "seed": 0, **numerics, "batch": 4, "rows": rows}))


def test_what_was_recorded_is_what_comes_out(run):
    reopened = reopen(run, settings_of(run), 2)
    task = reopened.task(reopened.runtime)
    rows = [{"step": n, "images": 4 * n, **{name: loss.item() for name, loss in task.step(n).items()}} for n in (2, 3)]
    write_record(run, rows)
    found = replay(run, 3)
    assert found.recorded == found.losses == {name: rows[1][name] for name in rows[1] if name not in ("step", "images")}
    assert str(found).count(" equal\n") == len(found.losses)
    write_record(run, [rows[0], {**rows[1], "d": "nan", "kl": 2 * found.losses["kl"] + 1}])
    found = replay(run)
    assert found.step == 3
    text = str(found)
    assert text.count(" equal\n") == len(found.losses) - 2 and " differs\n" in text
    assert "recorded this step as bad, and here it is not" in text


def test_the_first_bad_step_of_the_record(run):
    rows = [{"step": n, "images": 4 * n, "loss": 1.0, "grad": "inf" if n > 1 else 2.0} for n in range(4)]
    write_record(run / "encoders", rows)
    assert replay(run / "encoders").step == 2


def test_without_a_checkpoint_the_record_says_what_the_run_was_computed_with(run):
    numerics = decide(RuntimeConfig(device="cpu", threads=1, precision="bf16")).numerics()
    assert reopen(run, settings_of(run), 1, numerics=numerics).runtime.precision == "bf16"
    assert reopen(run, settings_of(run), 2, numerics=numerics).runtime.precision == "fp32", (
        "a checkpoint says it itself"
    )


@pytest.mark.parametrize("content", [None, "{", '{"rows": [{"step": 1, "images": 4, "d": 0.5}]}', '{"rows": 3}'])
def test_without_a_bad_step_one_must_be_named(run, content):
    if content is not None:
        (run / FILE).write_text(content)
    with pytest.raises(ValueError, match="--step N"):
        replay(run)


# What it leaves alone, and what it refuses.


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file() and "replay" not in path.parts[len(folder.parts) :])
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_running_run_is_not_changed_and_goes_on(run, capsys):
    config = settings_of(run)
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = contents(run)
        main(["replay", str(run), "--step", "3"])
    assert contents(run) == before
    out = capsys.readouterr().out
    rows = [json.loads(line) for line in (run / "replay" / "step-3.jsonl").read_text().splitlines()]
    assert f"All {len(rows):,} tensors: {run / 'replay' / 'step-3.jsonl'}" in out
    assert [row["order"] for row in rows] == list(range(len(rows)))
    assert {"module", "operation", "place", "shape", "min", "max", "mean", "norm", "nan", "inf", "bad"} <= rows[
        0
    ].keys()
    resumed = RunFolder(run, config, 9)  # a folder of ours in it is no reason to refuse it
    resumed.close()
    assert (run / "replay" / "step-3.jsonl").exists()


def test_another_folder_to_write_to(finished, tmp_path, capsys):
    before = sorted(finished.iterdir())
    main(["replay", str(finished / "encoders"), "--step", "0", "--out", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["step-0.jsonl"]
    assert sorted(finished.iterdir()) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="no folder"):
        replay(finished, 0, out=tmp_path / "file")


def test_a_damaged_checkpoint_costs_steps_and_no_more(run, capsys):
    (run / "checkpoints" / "images-000000000008.pt").write_bytes(b"damaged")
    found = replay(run, 2)
    assert found.start == 0
    assert "from the beginning, 2 steps up to it" in capsys.readouterr().out
    assert any("is damaged" in note for note in found.notes)


def test_steps_that_there_are_not(finished, packed, tmp_path):
    for step in (-1, 6):
        with pytest.raises(ValueError, match="has steps 0 to 5, of 4 images each"):
            replay(finished, step)
    with pytest.raises(ValueError, match="no run folder"):
        replay(tmp_path / "nowhere", 0)
    with pytest.raises(ValueError, match="no run of"):
        replay(packed, 0)
    (tmp_path / "run.json").write_text('{"status": "imported"}')
    with pytest.raises(ValueError, match="is an import"):
        replay(tmp_path, 0)


def test_data_that_have_moved_and_others(run, packed, tmp_path):
    moved = shutil.copytree(packed, tmp_path / "moved")
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace(str(packed), str(tmp_path / "gone")))
    with pytest.raises(ValueError, match="--data PACK"):
        replay(run, 2)
    assert replay(run, 2, data=str(moved)).first_bad is None
    with changed(run, 8) as state:
        state["identity"]["pack"] = "another"
    with pytest.raises(ValueError, match="another pack"):
        replay(run, 2, data=str(moved))
    assert replay(run / "encoders", 0).first_bad is None  # they name the pack themselves


def test_other_encoders_are_refused(run):
    with changed(run, 8) as state:
        state["identity"]["pair of encoders"] = "another"
    with pytest.raises(ValueError, match="another pair of encoders"):
        replay(run, 2)


def test_a_run_whose_encoders_are_unfinished(run):
    shutil.rmtree(run / "checkpoints")
    (run / "encoders.safetensors").unlink()
    (run / "encoders" / "encoders.safetensors").unlink()
    with pytest.raises(ValueError, match="no step of its editor"):
        replay(run, 0)
    assert replay(run / "encoders", 3).first_bad is None


def test_a_machine_without_the_gpu_of_the_run(run):
    with changed(run, 8) as state:
        state["numerics"] |= {"device": "cuda", "engine": "graphed"}
    if not torch.cuda.is_available():
        assert any("device cuda then, cpu now" in note for note in replay(run, 2).notes)


def test_learning_rates_that_were_changed_are_named(run):
    text = (run / "config.yaml").read_text()
    rate = settings_of(run).optim.lr_g
    assert text.count(f"lr_g: {rate}") == 1
    (run / "config.yaml").write_text(text.replace(f"lr_g: {rate}", f"lr_g: {rate / 2}"))
    (note,) = replay(run, 3).notes
    assert note == f"optim.lr_g was {rate:g} at the checkpoint and is {rate / 2:g} now, as this step takes it."
