"""Faults from outside: kills, a full disk, files that are damaged or gone, other data, two processes, clocks.

Each time: what the user reads, what run.json says, and that the run is as it was, or that the same command then gives
what an undisturbed run gives, to the bit.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.reliability.kills import kill
from benchmarks.reliability.smallest import (
    Forks,
    command,
    differences,
    newest,
    rows,
    settings,
    wait_for,
    write_pack,
    write_settings,
)
from tmgan.cli import main
from tmgan.config.settings import DamsmConfig, TrainConfig
from tmgan.data.drawn.dataset import write_birds
from tmgan.data.given_words import GivenWords
from tmgan.data.pack import Pack
from tmgan.data.prepare import prepare
from tmgan.training.editor_task import EditorTask
from tmgan.training.jobs import train_editor, train_encoders

IMAGES, HALF, INTERVAL = 16, 8, 4


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks()


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """The runs of this process take one thread, which is set for all that follows, and no TensorBoard."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a pack, a run on it that nobody disturbed (whole), and one that has seen half as much (half)."""
    folder = tmp_path_factory.mktemp("faults")
    pack = write_pack(folder)
    train_editor(settings(pack, folder / "whole", IMAGES, HALF, INTERVAL), evaluated=False)
    half = dataclasses.replace(settings(pack, folder / "half", HALF, HALF, INTERVAL), encoders=_encoders(folder))
    train_editor(half, evaluated=False)
    return folder


def _encoders(folder: Path) -> str:
    return str(folder / "whole" / "encoders")


@pytest.fixture
def config(trained: Path, tmp_path: Path) -> TrainConfig:
    """Of a run that has stopped half way, a copy for each test."""
    shutil.copytree(trained / "half", tmp_path / "run")
    return dataclasses.replace(
        settings(trained / "pack", tmp_path / "run", IMAGES, HALF, INTERVAL), encoders=_encoders(trained)
    )


@pytest.fixture
def whole(trained: Path) -> Path:
    return trained / "whole"


def refused(config: TrainConfig, folder: Path, status: int = 2) -> str:
    """What `tmgan train` says when it ends with this exit status."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as stop:
        main(write_settings(config, folder / "settings.yaml"))
    assert stop.value.code == status, said.getvalue()
    return said.getvalue()


def record(run: str | Path) -> dict:
    return json.loads((Path(run) / "run.json").read_text())


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but its log."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "log.txt")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def require_whole(config: TrainConfig, whole: Path, but: str = "-") -> None:
    """The same command ends with the results of the undisturbed run, apart from files whose names end with `but`."""
    train_editor(config, evaluated=False)
    assert [name for name in differences(whole, Path(config.run)) if not name.endswith(but)] == []
    assert record(config.run)["status"] == "done" and record(config.run)["images"] == IMAGES


# Kills.


def test_kills_lose_no_more_than_an_interval(forks, tmp_path):
    found = kill(tmp_path, 3, seed=2, images=HALF, forks=forks)
    assert found["kills"] == 3 and found["runs_finished"] >= 1


def test_a_kill_while_the_folder_is_made(config, whole, monkeypatch):
    """What is there then is no stranger's folder."""
    shutil.rmtree(config.run)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr(os, "replace", _fail)
        train_editor(config, evaluated=False)
    require_whole(config, whole)


def _fail(source: Path, target: Path) -> None:
    raise OSError(errno.EIO, "Input/output error", str(target))


# A full disk.

# Parts of the names of a run's files, in the order in which they are first written, and the bytes for which there is
# room. With room for small files the run can still say that it has failed.
FULL = [
    ("log.txt", 0),
    ("config.yaml", 0),
    ("run.json", 0),
    ("tfevents", 0),
    ("stats.jsonl", 0),
    ("images-000000000008.png", 0),
    ("metrics.jsonl", 0),
    ("images-000000000008.pt", 0),
    ("best.json", 0),
    ("images-000000000012.pt", 100_000),
    ("encoders.safetensors", 0),
    ("generator.safetensors", 0),
    ("evaluation.json", 0),
]


def _fill_the_disk(arguments: list[str], run: Path, report: Path) -> None:
    """Train; when a file of FULL is opened to be written, nothing more than that room can be written; then the next."""
    full: dict[str, int] = {}
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def watch(event: str, given: tuple) -> None:
        if event == "open" and not isinstance(given[0], int) and given[2] & (os.O_WRONLY | os.O_RDWR):
            for name, room in full.items():
                if name in os.path.basename(os.fsdecode(given[0])):
                    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))

    sys.addaudithook(watch)
    found = []
    for name, room in (*FULL, ("none", 0)):
        full.clear()
        full[name] = room
        said, status = io.StringIO(), 0
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                main(arguments)
            except SystemExit as stop:
                status = stop.code
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        left = record(run) if (run / "run.json").exists() else {}
        found.append({"file": name, "status": status, "said": said.getvalue(), "record": left})
    report.write_text(json.dumps(found))


def test_a_full_disk(forks, config, whole, tmp_path):
    run, report = Path(config.run), tmp_path / "report.json"
    shutil.rmtree(run)
    assert forks.run(_fill_the_disk, write_settings(config, tmp_path / "settings.yaml"), run, report) == 0
    *failed, last = json.loads(report.read_text())
    for found in failed:
        name, said = found["file"], found["said"].splitlines()[-1]
        assert found["status"] == 2, (name, found["said"])
        assert "the disk is full" in said and "Free some space and run it again" in said, (name, said)
        # TensorBoard's thread writes beside the others, may be the first that finds the disk full, and says so itself.
        assert name in said and "Traceback" not in found["said"] or "tensorboard" in said, (name, found["said"])
    (small,) = (found for found in failed if found["file"] == "images-000000000012.pt")
    assert small["record"]["status"] == "failed" and "images-000000000012.pt" in small["record"]["reason"]
    assert small["record"]["images"] == HALF
    assert last["status"] == 0, last["said"]
    assert differences(whole, run) == [] and record(run)["status"] == "done"


# A folder that allows no writing.


def _without_the_rights_of_root(arguments: list[str], output: Path) -> None:
    """`tmgan ARGUMENTS` as a process that modes of files apply to: root's do not, with CAP_DAC_OVERRIDE and others."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # version 3, this process
        assert libc.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
        for number in (0, 1):  # of the first 32 capabilities: effective, permitted
            sets[number] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
    command(arguments, output)


@pytest.mark.parametrize("begun", [True, False])
def test_a_folder_that_allows_no_writing(forks, config, tmp_path, begun):
    run, output = Path(config.run), tmp_path / "output.txt"
    if not begun:
        shutil.rmtree(run)
        run = run / "new"
        run.parent.mkdir()
        config = dataclasses.replace(config, run=str(run))
    top = run if begun else run.parent
    before = content(top)
    modes = {path: path.stat().st_mode for path in (top, *top.rglob("*"))}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        arguments = write_settings(config, tmp_path / "settings.yaml")
        assert forks.run(_without_the_rights_of_root, arguments, output) == 2, output.read_text()
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    said = output.read_text().splitlines()[-1]
    assert f"{run} cannot be written to" in said and "Choose another" in said and content(top) == before


# Files that are damaged.


@pytest.mark.parametrize("fault", ["best.json is not written", "best.json is damaged"])
def test_the_best_checkpoint_stays_the_best(config, monkeypatch, fault):
    """It was the one after HALF images."""
    best = Path(config.run) / "checkpoints" / "best.json"
    shutil.rmtree(config.run)
    monkeypatch.setattr(EditorTask, "measure", lambda task, images: {"score": 0.9 if images == HALF else 0.3})
    if "not written" in fault:
        replace = os.replace

        def fail_at_best(source: Path, target: Path) -> None:
            if Path(target).name == "best.json" and "0.9" in Path(source).read_text():
                raise OSError(errno.EIO, "Input/output error", str(target))
            replace(source, target)

        with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
            patch.setattr(os, "replace", fail_at_best)
            train_editor(config, evaluated=False)
    else:
        train_editor(dataclasses.replace(config, images=HALF), evaluated=False)
        best.write_text("{")
    train_editor(config, evaluated=False)
    assert json.loads(best.read_text())["images"] == HALF and len(list(best.parent.glob("images-*.pt"))) == 3


def _truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zeros(data: bytes) -> bytes:
    return bytes(len(data))


def _flip(data: bytes) -> bytes:
    """Eight bytes in the middle, which are no text then."""
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 8]) + data[middle + 8 :]


DAMAGES = [_truncate, _zeros, _flip]


def damage_file(file: Path, damage: Callable[[bytes], bytes]) -> None:
    file.write_bytes(damage(file.read_bytes()))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_cost_an_interval_at_most(config, whole, damage):
    """The newest checkpoint, and everything that is written again."""
    run = Path(config.run)
    file = newest(run)
    names = ["run.json", "checkpoints/best.json", "generator.safetensors", "encoders.safetensors", "log.txt"]
    for path in (file, *(run / name for name in names)):
        damage_file(path, damage)
    require_whole(config, whole)
    log = (run / "log.txt").read_text(errors="replace")
    assert f"WARNING: {file} is damaged" in log and f"at {HALF - INTERVAL} of {IMAGES} images" in log


def _add_what_is_no_row(data: bytes) -> bytes:
    return data + b'5\nnull\n[1]\n{}\n{"images": "4"}\n'


@pytest.mark.parametrize("damage", [_flip, _add_what_is_no_row])
def test_rows_that_are_damaged_are_left_out(config, whole, damage):
    """The others stay, and what is trained is the same."""
    files = [Path(config.run) / name for name in ("stats.jsonl", "metrics.jsonl")]
    for file in files:
        damage_file(file, damage)
    require_whole(config, whole, "s.jsonl")
    for file in files:
        left, all_ = rows(file), rows(whole / file.name)
        assert all(row in all_ for row in left) and left[-1] == all_[-1]
        lost = len(all_) - len(left)
        assert damage is not _add_what_is_no_row or lost == 0
        assert damage is not _flip or lost <= 2  # the end of a line may be among the eight bytes


def test_damaged_settings_are_refused_and_can_be_given_back(config, tmp_path):
    file = Path(config.run) / "config.yaml"
    before, kept = file.read_bytes(), content(Path(config.run))
    for damage in (*DAMAGES, lambda data: b"", lambda data: b"x: [1"):
        file.write_bytes(damage(before))
        said = refused(config, tmp_path)
        # What is left of half a file may be settings, but not those of this run.
        assert f"{file} is damaged" in said or damage is _truncate and "was started with other settings" in said, said
        assert "choose another --run" in said
        file.write_bytes(before)
        assert content(Path(config.run)) == kept  # run.json says what the run has done


# Other data, other settings.


@pytest.fixture
def own_pack(config, trained, tmp_path) -> TrainConfig:
    """The run with a copy of its pack."""
    return dataclasses.replace(config, data=str(shutil.copytree(trained / "pack", tmp_path / "pack")))


def test_a_pack_of_other_photos_is_refused(own_pack, whole, tmp_path):
    """Of the same words: with others it would be refused before."""
    pack, run = Path(own_pack.data), Path(own_pack.run)
    words = GivenWords(Pack.open(pack).vocabulary, pack)
    pack.rename(tmp_path / "before")
    write_birds(tmp_path / "birds", count=12, seed=4, image_size=64)
    prepare(tmp_path / "birds", pack, image_size=64, workers=1, progress=False, vocabulary=words)
    before = content(run / "checkpoints")
    said = refused(own_pack, tmp_path)
    assert f"{run} was trained with another pack. Restore the previous one" in said, said
    assert content(run / "checkpoints") == before and record(run)["images"] == HALF
    shutil.rmtree(pack)
    (tmp_path / "before").rename(pack)
    require_whole(own_pack, whole)


def test_pixels_that_were_changed_are_refused(own_pack, tmp_path):
    kept = content(Path(own_pack.run))
    for name in ("tiles.u8", "masks.u8"):
        file = Path(own_pack.data) / name
        before = file.read_bytes()
        for damage in (_truncate, _flip):
            file.write_bytes(damage(before))
            said = refused(own_pack, tmp_path)
            assert f"{file} " in said and "repare it again" in said and content(Path(own_pack.run)) == kept, said
        with pytest.raises(ValueError, match="was changed after the pack was made"):
            train_encoders(DamsmConfig(data=own_pack.data, run=str(tmp_path / "new"), encoder=own_pack.encoder))
        file.write_bytes(before)
    Pack.open(Path(own_pack.data)).require_unchanged()


def test_pixels_are_read_only_where_a_file_is_newer(own_pack, monkeypatch):
    """As in a copy without the times."""
    pack = Path(own_pack.data)
    made = (pack / "pack.json").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr("tmgan.data.pack.pixels_hash", None)
        Pack.open(pack).require_unchanged()
    os.utime(pack / "tiles.u8", ns=(made + 1, made + 1))
    Pack.open(pack).require_unchanged()
    with open(pack / "tiles.u8", "r+b") as file:
        file.write(b"\1\2\3")
    os.utime(pack / "tiles.u8", ns=(made + 1, made + 1))
    with pytest.raises(ValueError, match="tiles.u8 was changed after the pack was made"):
        Pack.open(pack).require_unchanged()


def test_other_settings_leave_the_run_as_it_was(config, tmp_path):
    before = content(Path(config.run))
    said = refused(dataclasses.replace(config, batch=4, seed=1), tmp_path)
    assert "batch: 2 in the run, 4 now" in said and "seed: 0 in the run, 1 now" in said
    assert content(Path(config.run)) == before


def test_another_number_of_threads_is_said(config):
    more = dataclasses.replace(config, images=HALF, runtime=dataclasses.replace(config.runtime, threads=2))
    train_editor(more, evaluated=False)
    assert (
        "threads 1 then, 2 now: the run goes on, but not to the same bits" in (Path(config.run) / "log.txt").read_text()
    )
    assert record(config.run)["status"] == "done"


# Two processes.


def _freeze_at_the_first_picture(arguments: list[str], output: Path) -> None:
    EditorTask.draw = lambda task, path: os.kill(os.getpid(), signal.SIGSTOP)
    command(arguments, output)


def test_two_processes_on_one_folder(forks, config, whole, tmp_path):
    shutil.rmtree(config.run)
    arguments = write_settings(config, tmp_path / "first.yaml")
    first = forks.start(_freeze_at_the_first_picture, arguments, tmp_path / "output.txt")
    try:
        until = time.monotonic() + 60
        while Path(f"/proc/{first.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until and first.is_alive(), (tmp_path / "output.txt").read_text()
            time.sleep(0.01)
        before = content(Path(config.run))
        said = refused(config, tmp_path)
        assert f"Another process is training in {config.run}" in said and "choose another --run" in said
        assert content(Path(config.run)) == before and record(config.run)["status"] == "running"
    finally:
        first.kill()
    assert wait_for(first) == -signal.SIGKILL
    require_whole(config, whole)  # the lock has ended with its process


# Clocks.


def test_clocks_decide_nothing(config, whole, monkeypatch):
    """One that goes backwards, and files from the past and the future: the names say which checkpoint is the newest."""
    really = time.time
    for number, path in enumerate(sorted((Path(config.run) / "checkpoints").glob("images-*"))):
        at = really() + 10**9 * (1 - 2 * number)  # the newest one has the oldest time
        os.utime(path, (at, at))
    monkeypatch.setattr(time, "time", lambda: 3 * 10**9 - really())
    require_whole(config, whole)
    log = (Path(config.run) / "log.txt").read_text()
    assert f"at {HALF} of {IMAGES} images" in log and "left -" not in log and " in -" not in log
    written = [json.loads(row) for row in (Path(config.run) / "stats.jsonl").read_text().splitlines()]
    assert all(value >= 0 for row in written for name, value in row.items() if "second" in name or "time" in name)


# Folders and files that are gone.


def test_a_folder_that_was_moved_while_stopped(config, whole, tmp_path):
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    shutil.move(config.run, moved)
    require_whole(dataclasses.replace(config, run=str(moved)), whole)
    assert not Path(config.run).exists()


def _when_drawn(monkeypatch, action) -> None:
    draw = EditorTask.draw

    def drawn(task: EditorTask, path: Path) -> None:
        draw(task, path)
        action()

    monkeypatch.setattr(EditorTask, "draw", drawn)


def test_checkpoints_that_are_deleted_in_a_run(config, whole, monkeypatch):
    """Those that are there are pruned by what is there."""
    folder = Path(config.run) / "checkpoints"
    with monkeypatch.context() as patch:
        _when_drawn(patch, lambda: [file.unlink() for file in folder.glob("images-*.pt")])
        train_editor(config, evaluated=False)
    require_whole(config, whole, "best.json")


@pytest.mark.parametrize("gone", ["", "checkpoints"])
def test_a_folder_that_is_deleted_in_a_run(config, whole, tmp_path, monkeypatch, gone):
    folder = Path(config.run) / gone
    with monkeypatch.context() as patch:
        _when_drawn(patch, lambda: shutil.rmtree(folder))
        said = refused(config, tmp_path)
    assert str(folder) in said and "No such file or directory" in said
    if gone:
        assert record(config.run)["status"] == "failed" and "checkpoints" in record(config.run)["reason"]
    else:
        assert not Path(config.run).exists()
    require_whole(config, whole)
