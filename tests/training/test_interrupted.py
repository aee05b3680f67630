"""What was interrupted is never taken for finished; how a command ends is told by its exit status."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tmgan.cli import main
from tmgan.common.interrupt import Interrupted, raise_on_sigterm
from tmgan.config import configfile
from tmgan.editing.editor import load
from tmgan.models import bundle
from tmgan.training import jobs
from tmgan.training.jobs import train_editor, train_encoders
from tmgan.training.run_folder import StopRequest


class SigtermAfter(StopRequest):
    """A stop request that arrives after so many looks at it, in place of a real signal."""

    looks = 2

    def __init__(self) -> None:
        self._left = self.looks

    @property
    def signal(self):
        self._left -= 1
        return "SIGTERM" if self._left < 0 else None

    def restore(self) -> None:
        pass


def status_of(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


def settings_file(config, path: Path) -> Path:
    path.write_text(yaml.safe_dump(configfile.to_dict(config)))
    return path


def test_statuses_of_interrupts():
    assert [Interrupted(number).status for number in (signal.SIGINT, signal.SIGTERM)] == [130, 143]
    with pytest.raises(Interrupted, match="SIGTERM"), raise_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_unfinished_encoders_are_refused_unless_asked_for(tiny, tiny_damsm, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(jobs, "StopRequest", SigtermAfter)
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
        patch.setattr(jobs, "StopRequest", SigtermAfter)
        patch.setattr(SigtermAfter, "looks", 7)  # the encoders take five
        train_editor(tiny)
    (note,) = load(tiny.run).notes
    assert note == "this run is unfinished: it has seen 8 of 24 images."
    train_editor(tiny, evaluated=False)
    assert load(tiny.run).notes == []


def test_an_interrupt_while_encoders_are_trained_is_one_of_the_run(tiny, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(jobs, "StopRequest", SigtermAfter)
        train_editor(tiny)
    assert json.loads((Path(tiny.run) / "run.json").read_text())["status"] == "stopped"


def test_an_interrupt_after_the_training_stops_the_measuring(tiny, monkeypatch):
    """The run is complete; the same command measures it."""
    asked = []

    class SigtermLate(SigtermAfter):
        @property
        def signal(self):
            return "SIGTERM" if asked else None

    def evaluate(*arguments):
        asked.append(1)
        return before(*arguments)

    before = jobs.evaluate
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(jobs, "StopRequest", SigtermLate)
        patch.setattr(jobs, "evaluate", evaluate)
        train_editor(tiny)
    assert len(asked) == 1 and not (Path(tiny.run) / "evaluation.json").exists()
    assert "the same command measures it" in (Path(tiny.run) / "log.txt").read_text()
    train_editor(tiny)
    assert (Path(tiny.run) / "evaluation.json").exists()


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
