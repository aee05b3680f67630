"""Readers of files from anywhere, on changed files: seconds of what benchmarks/reliability/fuzz.py does for an hour.

The cases are the same in every run, and each reader has as many on any machine.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.changes import changes
from tests.fuzz.guard import MEGABYTE, Limit, judge
from tests.fuzz.targets import TARGETS, Target, warm_up

CASES = 60  # of a reader


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_a_changed_file_is_read_or_refused(target: Target, tmp_path: Path):
    case = target.make(tmp_path)
    warm_up(case)

    @seed(0)
    @settings(
        max_examples=CASES, database=None, deadline=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(changes(target.form, case.seeds))
    def check(data: bytes) -> None:
        case.place(data)
        verdict = judge(case.read, tmp_path, len(data), target.limit)
        assert not verdict.failures, f"{target.name}, {data[:300]!r}: {verdict.failures}"

    check()


SMALL = Limit(10, 20 * MEGABYTE)


def _writes_outside(folder: Path) -> None:
    (folder.parent / "outside").write_text("x")


def _swallows(folder: Path) -> None:
    """As a reader may do with any error."""
    try:
        _writes_outside(folder)
    except Exception:
        raise ValueError("damaged") from None


_FORBIDDEN = {
    "a write outside": (_writes_outside, "open of"),
    "a write outside, swallowed": (_swallows, "open of"),
    "a file removed": (lambda folder: os.remove(folder.parent / "there"), "os.remove of"),
    "a folder made": (lambda folder: os.mkdir(folder.parent / "new"), "os.mkdir of"),
    "a link followed": (lambda folder: (folder / "link").write_text("x"), "open of"),
    "a process": (lambda folder: subprocess.run(["true"]), "subprocess.Popen"),
    "a shell": (lambda folder: os.system("true"), "os.system"),
    "a connection": (lambda folder: socket.create_connection(("127.0.0.1", 1)), "socket"),
    "code": (lambda folder: exec(compile("1", "/tmp/foreign.py", "exec")), "compile of"),
    "a pickle that runs": (lambda folder: pickle.loads(b"cposix\nsystem\n(S'true'\ntR."), "os.system"),
    "memory": (lambda folder: bytes(bytearray(os.urandom(64)) * 2**20), "MB of memory"),
    "another error": (lambda folder: {}["x"], "KeyError"),
    "no message": (lambda folder: (_ for _ in ()).throw(ValueError), "without a message"),
}


@pytest.mark.parametrize(("act", "named"), _FORBIDDEN.values(), ids=_FORBIDDEN)
def test_the_guard_notices(act, named, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "there").touch()
    (folder / "link").symlink_to(tmp_path / "outside")
    verdict = judge(lambda: act(folder), folder, 100, SMALL)
    assert any(named in failure for failure in verdict.failures), verdict
    assert not (tmp_path / "outside").exists() and (tmp_path / "there").exists()


def test_the_guard_lets_readers_read_and_refuse(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"abc")
    assert judge((tmp_path / "file").read_bytes, tmp_path, 3, SMALL).failures == []
    assert judge(lambda: (tmp_path / "new").write_bytes(b"abc"), tmp_path, 3, SMALL).failures == []
    refused = judge(lambda: (tmp_path / "missing").read_bytes(), tmp_path, 3, SMALL)
    assert refused.failures == [] and refused.outcome == "FileNotFoundError"
