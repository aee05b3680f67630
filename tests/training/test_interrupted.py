"""What was interrupted is never taken for finished; how a command ends is told by its exit status."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

from tests.training.test_train import assert_equal_states
from tmgan.cli import main
from tmgan.common.interrupt import Interrupted, StopRequest, raise_on_signals
from tmgan.config import configfile
from tmgan.editing.editor import load
from tmgan.models import bundle
from tmgan.training import editor_task, jobs
from tmgan.training.checkpoint import Checkpoints
from tmgan.training.editor_task import EditorTask
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.jobs import train_editor, train_encoders


def signal_in(patch: pytest.MonkeyPatch, owner: object, name: str, call: int = 1) -> None:
    """A real SIGTERM at the beginning of the so-many-th call of OWNER.NAME."""
    before, calls = getattr(owner, name), itertools.count(1)

    def function(*arguments, **options):
        if next(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return before(*arguments, **options)

    patch.setattr(owner, name, function)


def status_of(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


def settings_file(config, path: Path) -> Path:
    path.write_text(yaml.safe_dump(configfile.to_dict(config)))
    return path


def test_statuses_of_interrupts():
    assert [Interrupted(number).status for number in (signal.SIGINT, signal.SIGTERM)] == [130, 143]
    with pytest.raises(Interrupted, match="SIGTERM"), raise_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_unfinished_encoders_are_refused_unless_asked_for(tiny, tiny_damsm, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_in(patch, EncoderTask, "step", 2)
        train_encoders(tiny_damsm)
    folder = Path(tiny_damsm.run)
    status = json.loads((folder / "run.json").read_text())
    assert (status["status"], status["reason"]) == ("stopped", "SIGTERM")
    config = dataclasses.replace(tiny, encoders=str(folder), images=8)
    with pytest.raises(ValueError, match=r"are unfinished: they have seen 8 of 16 images.*--allow-unfinished"):
        train_editor(config)
    assert not Path(tiny.run).exists()
    assert status_of(["tables", "--data", tiny.data, "--reduced", "--encoders", str(folder), "--out", "o"]) == 2
    assert "are unfinished" in capsys.readouterr().err
    train_editor(dataclasses.replace(config, allow_unfinished=True), evaluated=False)
    note = "the encoders are unfinished: they have seen 8 of 16 images."
    assert f"NOTE: {note}" in (Path(tiny.run) / "log.txt").read_text() and load(tiny.run).notes == [note]
    train_encoders(tiny_damsm)
    bundle.require_finished(bundle.load_encoders(folder), folder)


def test_encoders_of_an_earlier_version_do_not_say_how_many_images_they_lack(encoders, tmp_path):
    bundle.save_encoders(dataclasses.replace(encoders, images=7), tmp_path)
    made = bundle.load_encoders(tmp_path)
    assert made.of == 0 and made.finished
    bundle.require_finished(made, tmp_path)
    for status in ("done", "running", "stopped"):
        (tmp_path / "run.json").write_text(json.dumps({"status": status}))
        if status == "stopped":
            with pytest.raises(ValueError, match="was stopped after 7 images"):
                bundle.require_finished(made, tmp_path)
        else:
            bundle.require_finished(made, tmp_path)


def test_an_unfinished_run_is_named_when_it_is_used(tiny, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_in(patch, EditorTask, "step", 2)
        train_editor(tiny)
    (note,) = load(tiny.run).notes
    assert note == "this run is unfinished: it has seen 8 of 24 images."
    train_editor(tiny, evaluated=False)
    assert load(tiny.run).notes == []


def test_an_interrupt_while_encoders_are_trained_is_one_of_the_run(tiny, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_in(patch, EncoderTask, "step")
        train_editor(tiny)
    assert json.loads((Path(tiny.run) / "run.json").read_text())["status"] == "stopped"


def recorded(run: str | Path) -> dict:
    return json.loads((Path(run) / "run.json").read_text())


def rows(run: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def test_nothing_is_lost_wherever_the_training_is_interrupted(tiny, encoders, monkeypatch, tmp_path):
    """The pictures, metrics and weights of a run that was stopped five times are those of one that was not."""
    (tmp_path / "encoders").mkdir()
    bundle.save_encoders(encoders, tmp_path / "encoders")
    tiny = dataclasses.replace(tiny, encoders=str(tmp_path / "encoders"))
    whole, pieces = Path(tiny.run), tmp_path / "pieces"
    train_editor(tiny, evaluated=False)
    tiny = dataclasses.replace(tiny, run=str(pieces))
    begun = [
        ((EditorTask, "step", 1), 0, []),  # before anything is trained; it might have been compiling
        ((EditorTask, "draw", 1), 16, ["picture", "metrics"]),
        ((EditorTask, "measure", 1), 16, ["metrics"]),  # the picture is drawn by then
        ((torch, "save", 1), 16, []),
        ((EditorTask, "step", 2), 24, ["picture", "metrics"]),  # the step is finished
    ]
    for where, images, owed in begun:
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            signal_in(patch, *where)
            train_editor(tiny, evaluated=False)
        record = recorded(pieces)
        assert (record["status"], record["reason"], record["images"]) == ("stopped", "SIGTERM", images), where
        if images:
            state = Checkpoints(pieces / "checkpoints", 3, print).load_latest()
            assert (state["images"], state["owed"]) == (images, owed), where
    train_editor(tiny, evaluated=False)
    assert recorded(pieces)["status"] == "done"
    states = [Checkpoints(run / "checkpoints", 3, print).load_latest() for run in (whole, pieces)]
    assert_equal_states(*states)
    assert states[0]["owed"] == states[1]["owed"] == []
    assert rows(whole, "metrics.jsonl") == rows(pieces, "metrics.jsonl")
    assert [row["images"] for row in rows(pieces, "stats.jsonl")] == [8, 16, 24]
    pictures = [{file.name: file.read_bytes() for file in (run / "samples").iterdir()} for run in (whole, pieces)]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 2
    best = [Checkpoints(run / "checkpoints", 3, print).best() for run in (whole, pieces)]
    assert best[0] == best[1] is not None


@pytest.mark.parametrize("where", [(jobs, "drawn_pack"), (editor_task, "embed_captions"), (jobs, "EncoderTask")])
def test_what_trains_nothing_is_left_at_once(where, tiny, monkeypatch):
    signal_in(monkeypatch, *where)
    before = getattr(*where)
    monkeypatch.setattr(*where, lambda *arguments: pytest.fail(f"went on after {before(*arguments)}"))
    with pytest.raises(Interrupted):
        train_editor(dataclasses.replace(tiny, data="" if where[1] == "drawn_pack" else tiny.data))
    assert (recorded(tiny.run)["status"], recorded(tiny.run)["images"]) == ("stopped", 0)


def test_an_exception_that_a_callback_swallows_stops_the_run_all_the_same(tiny, monkeypatch):
    def draw(task, path):
        with suppress(Interrupted):  # as Python does in a __del__
            signal.raise_signal(signal.SIGTERM)
        return before(task, path)

    before = EditorTask.draw
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(EditorTask, "draw", draw)
        train_editor(tiny)
    state = Checkpoints(Path(tiny.run) / "checkpoints", 3, print).load_latest()
    assert (state["images"], state["owed"]) == (16, ["metrics"]) and recorded(tiny.run)["images"] == 16


def test_an_interrupt_after_the_training_stops_the_measuring(tiny, monkeypatch):
    """The run is complete; the same command measures it."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_in(patch, jobs, "evaluate", 2)
        train_editor(tiny)
    assert recorded(tiny.run)["status"] == "done" and not (Path(tiny.run) / "evaluation.json").exists()
    assert "the same command measures it" in (Path(tiny.run) / "log.txt").read_text()
    train_editor(tiny)
    assert (Path(tiny.run) / "evaluation.json").exists()


def test_a_signal_in_the_last_save_is_not_forgotten(tiny_damsm, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_in(patch, torch, "save", 2)
        train_encoders(tiny_damsm)
    assert (recorded(tiny_damsm.run)["status"], recorded(tiny_damsm.run)["images"]) == ("done", 16)


def test_a_training_in_another_thread_than_the_main_one(tiny_damsm):
    """It cannot handle signals, and trains all the same."""
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(train_encoders, tiny_damsm).result()
    assert recorded(tiny_damsm.run)["status"] == "done" and signal.getsignal(signal.SIGTERM) == before


def test_encoders_whose_training_fails_do_not_say_that_they_are_trained(tiny, monkeypatch):
    monkeypatch.setattr(EncoderTask, "draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_editor(tiny)
    for run in (Path(tiny.run), Path(tiny.run) / "encoders"):
        assert recorded(run)["status"] == "failed", run


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (TypeError("a slip"), 1, "this is a fault of tmgan"),
        (ValueError("no"), 2, "tmgan train: no"),
        (FloatingPointError("NaN"), 3, "tmgan train: NaN"),
        (KeyboardInterrupt(), 130, "tmgan train: stopped."),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
)
def test_statuses(error, status, said, tiny, monkeypatch, tmp_path, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(jobs, "EditorTask", fail)
    assert status_of(["train", "--config", str(settings_file(tiny, tmp_path / "c.yaml"))]) == status
    traceback = Path(tiny.run) / "traceback.txt"
    said_by = capsys.readouterr().err
    assert said in said_by and traceback.exists() == (status == 1)
    if status == 1:
        assert "TypeError: a slip" in traceback.read_text() and f"Saved in {traceback}" in said_by


def test_nobody_who_reads(tmp_path):
    """A real process: a closed pipe is no success either."""
    command = [sys.executable, "-m", "tmgan", "data", "synth", "birds", "--count", "1", "--image-size", "64"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONUNBUFFERED", None)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_a_signal_that_an_import_swallows_stops_the_command_all_the_same():
    def loads_what_swallows():
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            raise ImportError("cannot load module more than once per process") from error

    with pytest.raises(Interrupted, match="SIGINT"), raise_on_signals():
        loads_what_swallows()
    with pytest.raises(Interrupted, match="SIGTERM"), raise_on_signals():
        with suppress(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        StopRequest()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    StopRequest().restore()


def test_encoders_of_an_editor_that_has_begun_are_not_trained_further(tiny):
    train_editor(tiny, evaluated=False)
    before = (Path(tiny.run) / bundle.ENCODERS).read_bytes()
    more = dataclasses.replace(tiny, pretrain=dataclasses.replace(tiny.pretrain, images=160), images=32)
    with pytest.raises(ValueError, match="encoders that have seen 16 images, and 160 are wanted"):
        train_editor(more, evaluated=False)
    assert (Path(tiny.run) / bundle.ENCODERS).read_bytes() == before
    train_editor(dataclasses.replace(tiny, images=32), evaluated=False)


def test_encoders_whose_last_steps_were_all_skipped_are_not_done(tiny_damsm, monkeypatch):
    """Also when there were fewer of them than a streak has: a run that resumes near its end."""
    step = EncoderTask.step
    monkeypatch.setattr(EncoderTask, "step", lambda task, n: {**step(task, n), "grad": torch.tensor(float("nan"))})
    short = dataclasses.replace(tiny_damsm, pretrain=dataclasses.replace(tiny_damsm.pretrain, images=8))
    with pytest.raises(FloatingPointError, match="from image 0 on"):
        train_encoders(short)
    assert json.loads((Path(short.run) / "run.json").read_text())["status"] == "failed"
    assert "FAILED: Training diverged" in (Path(short.run) / "log.txt").read_text()
