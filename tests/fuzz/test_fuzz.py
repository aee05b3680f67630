"""Readers of files from anywhere, on changed files: seconds of what benchmarks/reliability/fuzz.py does for an hour.

The cases are the same in every run, and each reader has as many on any machine.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from PIL import Image

from tests.fuzz.changes import changes
from tests.fuzz.guard import MEGABYTE, Limit, judge, settle
from tests.fuzz.targets import BYTES_PER_PIXEL, TARGETS, Target, warm_up
from tmgan.data.decode import open_photo
from tmgan.data.mask_file import open_mask
from tmgan.editing.photo_file import read_photo

CASES = 40  # of a reader


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_a_changed_file_is_read_or_refused(target: Target, tmp_path: Path):
    case = target.make(tmp_path)
    warm_up(case)

    @seed(0)
    @settings(
        max_examples=CASES,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(changes(target.form, case.seeds))
    def check(data: bytes) -> None:
        case.place(data)
        verdict = judge(case.read, tmp_path, len(data), target.limit)
        assert not verdict.failures, f"{target.name}, {data[:300]!r}: {verdict.failures}"

    check()


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("RGB", "WEBP")])
def test_a_picture_takes_memory_by_its_pixels(mode: str, kind: str, tmp_path: Path):
    """A small file may have many of them: Pillow's limit is that of SECURITY.md."""
    assert Image.MAX_IMAGE_PIXELS is not None and 2 * Image.MAX_IMAGE_PIXELS < 179e6
    size, path = (2000, 2000), tmp_path / "photo"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned, which copies it
    more = {"transparency": 0} if mode == "P" else {}
    Image.new(mode, size, 3 if mode == "P" else (9, 8, 7, 200)[: len(mode)]).save(path, kind, exif=exif, **more)
    settle()
    for read in (partial(open_photo, exif=True), read_photo, partial(open_mask, size=size, exif=True)):
        limit = Limit(0, BYTES_PER_PIXEL * size[0] * size[1] + 8 * MEGABYTE)
        assert judge(partial(read, path), tmp_path, 1, limit).failures == []


SMALL = Limit(10, 20 * MEGABYTE)


def _writes_outside(folder: Path) -> None:
    (folder.parent / "outside").write_text("x")


def _swallows(folder: Path) -> None:
    """As a reader may do with any error."""
    try:
        _writes_outside(folder)
    except Exception:
        raise ValueError("damaged") from None


# typing.ForwardRef("1"), evaluated by typing.
_ANNOTATIONS = b"ctyping\n_eval_type\n(ctyping\nForwardRef\n(V1\ntR}}tR."

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
    "a pickle that executes": (lambda folder: pickle.loads(b"cbuiltins\nexec\n(V1\ntR."), "compile of"),
    "a pickle that evaluates": (lambda folder: pickle.loads(b"cbuiltins\neval\n(V1\ntR."), "compile of"),
    "code named as ours": (lambda folder: exec(compile("1", os.__file__, "exec")), "compile of"),
    "a pickle through a maker": (lambda folder: pickle.loads(_ANNOTATIONS), "compile of"),
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
