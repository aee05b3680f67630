"""Files that are whole or do not exist, links that stay links, and a disk that is full."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest
import torch

from tmgan.common import files
from tmgan.common.errors import exit_status, sentence
from tmgan.common.lock import only_one
from tmgan.training.checkpoint import Checkpoints


@pytest.fixture
def small_disk(monkeypatch):
    """A disk on which no file grows beyond 1000 bytes."""
    whole = files._File.flush

    def flush(file):
        if file.tell() > 1000:
            file.error = OSError(errno.ENOSPC, "No space left on device")
            raise file.error
        whole(file)

    monkeypatch.setattr(files._File, "flush", flush)


def test_a_full_disk_is_a_sentence_and_the_old_file_is_intact(tmp_path, small_disk):
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(OSError) as error:
        files.write_bytes(path, bytes(5_000_000))
    assert sentence(error.value) == (
        f"{path} cannot be written: the disk is full (No space left on device, and about 5.0 MB are needed). "
        "Free some space and run it again."
    )
    assert exit_status(error.value) == 2
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_while_torch_writes_a_checkpoint(tmp_path, monkeypatch):
    """torch.save turns the error of the file into a RuntimeError of its own writer."""
    checkpoints = Checkpoints(tmp_path, 3, print)
    first = checkpoints.save(10, {"step": 1, "task": {"weights": torch.zeros(1000)}})
    before = files._File.write

    def write(file, data):
        if file.tell() + len(data) > 2000:
            file.error = OSError(errno.EFBIG, "File too large")
            raise file.error
        return before(file, data)

    monkeypatch.setattr(files._File, "write", write)
    with pytest.raises(OSError, match="File too large, and about 0.4 MB are needed") as error:
        checkpoints.save(20, {"step": 2, "task": {"weights": torch.zeros(100_000)}})
    assert error.value.filename == str(tmp_path / "images-000000000020.pt")
    assert checkpoints.paths() == [first] and checkpoints.load_latest()["images"] == 10


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "big").mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to("big/a.txt")
    for text in ("one", "two"):  # where it leads to nothing yet, and where there is a file
        files.write_text(link, text)
        assert link.is_symlink() and (tmp_path / "big" / "a.txt").read_text() == text
    assert not list(tmp_path.glob(".*"))


def test_a_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("ä" * 125 + ".json")
    files.write_text(path, "x")
    assert path.read_text() == "x"


def test_home_is_replaced(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.user_path("~/a") == tmp_path / "a" and files.user_path("a~/b").as_posix() == "a~/b"


def test_an_error_without_words_is_a_sentence():
    error = OSError(5)
    error.filename = "birds.png"
    assert "None" not in sentence(error)


def refuse(number):
    def flock(*_):
        raise OSError(number, "")

    return flock


def test_where_there_are_no_locks_none_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", refuse(errno.ENOLCK))
    with only_one(tmp_path / "new" / ".lock", "busy") as held:
        assert not held and not list(tmp_path.iterdir()), "nothing tells others that this is taken"
    monkeypatch.undo()
    with only_one(tmp_path / ".lock", "busy") as held:
        assert held


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOLCK])
def test_the_lock_file_of_another_process_stays(tmp_path, monkeypatch, number):
    """Shares say EACCES where others say EWOULDBLOCK; a table of locks may be full for a moment."""
    with only_one(tmp_path / ".lock", "busy"):
        with monkeypatch.context() as patch:
            patch.setattr("fcntl.flock", refuse(number))
            with contextlib.suppress(ValueError), only_one(tmp_path / ".lock", "busy") as held:
                assert not held and number == errno.ENOLCK
        with pytest.raises(ValueError, match="busy"), only_one(tmp_path / ".lock", "busy"):
            pass


def test_a_holder_may_remove_the_folder_of_the_lock(tmp_path, monkeypatch):
    """It was made for a lock that is released between our making it and our opening it."""
    path, really = tmp_path / "new" / ".lock", os.open

    def opening(*arguments):
        path.parent.rmdir()
        monkeypatch.setattr("os.open", really)
        return really(*arguments)

    monkeypatch.setattr("os.open", opening)
    with only_one(path, "busy") as held:
        assert held
    (tmp_path / ".lock").symlink_to("nowhere/.lock")
    with pytest.raises(FileNotFoundError), only_one(tmp_path / ".lock", "busy"):
        pass


def test_a_lock_is_held_by_one_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "new" / ".lock"
    with only_one(path, "busy"):
        with pytest.raises(ValueError, match="busy"), only_one(path, "busy"):
            pass
        assert path.exists()
    assert not path.exists()
    with only_one(path, "busy"):  # and it is free again
        pass
    assert not list(tmp_path.iterdir()), "the folder was made for it"
