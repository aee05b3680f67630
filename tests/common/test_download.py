"""A download is whole and right, or leaves things as they were, whatever server, disk and user do."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import threading
import urllib.request

import pytest

from tests.loopback import nobody, sends, serve
from tmgan.common import download as module
from tmgan.common import files
from tmgan.common.download import DownloadError, download
from tmgan.common.errors import exit_status, sentence
from tmgan.common.lock import only_one
from tmgan.common.progress import Progress

DATA = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(DATA).hexdigest()
QUIET = Progress(visible=False)


@pytest.fixture
def server(monkeypatch):
    with serve(monkeypatch) as server:
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "file.pth"


def fetch(server, path, show=QUIET) -> None:
    download(f"{server.url}/file.pth", path, DIGEST, len(DATA), show)


def left(path) -> list[str]:
    """All names in the folder; none if it is not even made."""
    return sorted(os.listdir(path.parent)) if path.parent.exists() else []


@pytest.mark.parametrize("digits", [64, 8])
def test_what_is_right_is_there_alone(server, path, digits):
    server.answer = sends(DATA)
    download(f"{server.url}/file.pth", path, DIGEST[:digits], len(DATA), QUIET)
    assert path.read_bytes() == DATA and left(path) == ["file.pth"]
    assert path.stat().st_mode & 0o444 == 0o444 & ~_umask(), "others may read it as any file"
    fetch(server, path)
    assert server.asked == ["/file.pth"], "it is not asked for again"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_wrong_size_in_our_table_does_not_decide(server, path):
    server.answer = sends(DATA, length=-1)
    download(f"{server.url}/file.pth", path, DIGEST, 2 * len(DATA), QUIET)
    assert path.read_bytes() == DATA


def chunks_that_end_early(handler):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"1000\r\n" + DATA[:4096] + b"\r\n1000\r\n" + DATA[4096:5000])
    handler.close_connection = True


def reset_in_the_middle(handler):
    sends(DATA[:300_000], len(DATA))(handler)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends in a reset
    handler.connection.close()


BROKEN = {
    "half": (
        sends(DATA[: len(DATA) // 2], len(DATA)),
        f"broke off after 640,000 of {len(DATA):,} bytes. Run it again.",
    ),
    "half, length not said": (
        sends(DATA[:1000], -1),
        f"1,000 bytes of application/octet-stream in place of {len(DATA):,}",
    ),
    "chunks": (chunks_that_end_early, "broke off after"),
    "reset": (reset_in_the_middle, "broke off after"),
    "other bytes": (sends(DATA[::-1]), "is not the file that was published: its sha256 begins with "),
    "a page": (sends(b"<html>log in</html>", kind="text/html"), "19 bytes of text/html in place of"),
    "more bytes": (sends(DATA + b"!"), "is not the file that was published"),
    "nothing": (sends(b""), "0 bytes of"),
    "404": (lambda handler: handler.send_error(404), "cannot be downloaded: its server says 404 Not Found."),
    "503": (lambda handler: handler.send_error(503, "Busy"), "its server says 503 Busy."),
    "hangs up": (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "cannot be reached ("),
    "no HTTP": (lambda handler: handler.wfile.write(b"220 ftp\r\n"), "cannot be reached ("),
    "moved in a circle": (
        lambda handler: (handler.send_response(302), handler.send_header("Location", "/x"), handler.end_headers()),
        "its server says 302",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("before", [None, b"what was there before"])
def test_nothing_is_left_of_what_is_not_right(server, path, case, before):
    server.answer, said = BROKEN[case]
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    with pytest.raises(DownloadError) as error:
        fetch(server, path)
    assert said in str(error.value) and f"{server.url}/file.pth" in str(error.value)
    assert exit_status(error.value) == 2
    assert left(path) == ([] if before is None else ["file.pth"])
    assert before is None or path.read_bytes() == before


def test_no_server_at_all(path):
    with nobody() as url, pytest.raises(DownloadError) as error:
        download(f"{url}/file.pth", path, DIGEST, len(DATA), QUIET)
    assert str(error.value) == f"{url}/file.pth cannot be reached (Connection refused)."
    assert not path.parent.exists()


def test_a_server_that_falls_silent(server, path, monkeypatch):
    monkeypatch.setattr(module, "_SILENCE", 0.05)
    awake = threading.Event()
    for begin, said in ((lambda handler: None, "cannot be reached (timed out)"), (sends(DATA[:9], 99), "broke off")):
        server.answer = lambda handler, begin=begin: (begin(handler), handler.wfile.flush(), awake.wait(10))
        with pytest.raises(DownloadError) as error:
            fetch(server, path)
        assert said in str(error.value) and left(path) == []
    awake.set()


def test_a_full_disk_is_a_sentence(server, path, monkeypatch):
    def write(file, data):
        file.error = OSError(errno.ENOSPC, "No space left on device")
        raise file.error

    server.answer = sends(DATA)
    monkeypatch.setattr(files._File, "write", write)
    with pytest.raises(OSError) as error:
        fetch(server, path)
    assert exit_status(error.value) == 2 and left(path) == []
    assert sentence(error.value) == (
        f"{path} cannot be written: the disk is full (No space left on device, and about 1.3 MB are needed). "
        "Free some space and run it again."
    )


def test_a_folder_that_cannot_be_written_to(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is no folder. Choose another"):
        fetch(server, tmp_path / "file" / "x.pth")
    monkeypatch.setattr(os, "access", lambda *_: False)  # to root everything is allowed
    with pytest.raises(ValueError, match="allows no writing. Choose another"):
        fetch(server, tmp_path / "x.pth")
    assert server.asked == []


def test_an_interrupted_download_leaves_nothing(server, path):
    class Stop(Progress):
        def advance(self, count: int = 1) -> None:
            raise KeyboardInterrupt

    server.answer = sends(DATA)
    with pytest.raises(KeyboardInterrupt):
        fetch(server, path, Stop(visible=False))
    assert left(path) == [] and not path.parent.exists()


def test_what_a_killed_download_has_left_is_removed(server, path):
    path.parent.mkdir()
    for name in (".file.pth.tmp-1-aaaa", ".other.pth.tmp-1-aaaa"):
        (path.parent / name).write_bytes(b"half")
    server.answer = sends(DATA)
    fetch(server, path)
    assert left(path) == [".other.pth.tmp-1-aaaa", "file.pth"], "another process may be writing the other"


def test_two_at_once(server, path):
    """The second is refused while the first is at it, and afterwards finds the file."""
    began, go_on = threading.Event(), threading.Event()

    def slowly(handler):
        began.set()
        go_on.wait(10)
        sends(DATA)(handler)

    server.answer = slowly
    first = threading.Thread(target=fetch, args=(server, path))
    first.start()
    began.wait(10)
    with pytest.raises(ValueError, match=r"file\.pth is being downloaded by another process. Wait for it"):
        fetch(server, path)
    go_on.set()
    first.join()
    fetch(server, path)
    assert server.asked == ["/file.pth"] and left(path) == ["file.pth"]


def test_the_lock_is_that_of_the_file_alone(server, path):
    server.answer = sends(DATA)
    with only_one(path.with_name(".another.pth.lock"), "busy"):
        fetch(server, path)
        assert path.read_bytes() == DATA


def test_a_link_stays_one(server, tmp_path):
    server.answer = sends(DATA)
    (tmp_path / "store").mkdir()
    (tmp_path / "file.pth").symlink_to(tmp_path / "store" / "blob")
    fetch(server, tmp_path / "file.pth")
    assert (tmp_path / "file.pth").is_symlink() and (tmp_path / "store" / "blob").read_bytes() == DATA


def test_through_a_proxy_of_the_environment(server, path, monkeypatch):
    server.answer = sends(DATA)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    download("http://weights.invalid/file.pth", path, DIGEST, len(DATA), QUIET)
    assert server.asked == ["http://weights.invalid/file.pth"] and path.read_bytes() == DATA


def test_a_server_that_does_not_stop_is_left(server, path):
    """It would fill the disk before the sha256 is looked at."""

    def flood(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(DATA)

    server.answer = flood
    with pytest.raises(DownloadError, match=f"sends more than the file that was published, of {len(DATA):,} bytes"):
        fetch(server, path)
    assert left(path) == []
