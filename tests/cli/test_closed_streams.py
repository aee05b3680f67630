"""Commands whose output nobody reads: what was done stays done, and what went wrong is still said."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys

import pytest

from tmgan import cli
from tmgan.common.interrupt import Interrupted


def status_of(arguments: list[str], unread: str = "") -> int:
    """The exit status; `unread` is a stream that is a pipe whose other end is closed."""
    with contextlib.ExitStack() as stack:
        if unread:
            end, beginning = os.pipe()
            os.close(end)
            stream = stack.enter_context(open(beginning, "w", buffering=1 if unread == "stderr" else -1))
            stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, unread, stream)
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
    return stop.value.code or 0


@pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdout", "stderr"]], ids="-".join)
def test_closed_streams_are_no_fault(tmp_path, monkeypatch, closed):
    """`>&-`: Python has no stream then."""
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    cli.main(["--version"])
    assert status_of(["data", "doctor", str(tmp_path / "missing")]) == 2
    assert status_of(["train", "--help"]) == 0
    assert status_of(["trian"]) == 2


@pytest.mark.parametrize("arguments", [["--version"], ["train", "--help"]])
def test_a_pipe_that_nobody_reads(arguments):
    assert status_of(arguments, "stdout") == 141


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("no such pack"), 2, "no such pack"),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM"),
        (KeyboardInterrupt(), 130, "stopped"),
        (FloatingPointError("the loss is NaN"), 3, "the loss is NaN"),
        (SystemExit(2), 2, ""),
    ],
)
def test_what_went_wrong_before_is_said(monkeypatch, capsys, error, status, words):
    def run(*_):
        print("some output")
        raise error

    monkeypatch.setattr(cli, "_run", run)
    assert status_of(["train"], "stdout") == status
    assert words in capsys.readouterr().err
    assert status_of(["train"], "stderr") == status


def test_a_closed_stream_is_not_the_next_file(tmp_path):
    """All three closed: what C libraries print must not go into a file of ours."""
    code = "import os, tmgan.cli; tmgan.cli.main(['--version']); os._exit(os.open(os.devnull, os.O_RDONLY))"
    closed = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- >&- 2>&-"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(["sh", "-c", closed], env=environment).returncode > 2


def test_a_note_that_nobody_reads(monkeypatch):
    monkeypatch.setattr(cli, "_run", lambda *_: print("a note", file=sys.stderr))
    assert status_of(["train"], "stderr") == 141
