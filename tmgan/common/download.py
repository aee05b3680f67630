"""A file from a URL: whole and right, or not there.

torch.hub.download_url_to_file is not enough: it takes a connection that breaks off for the end of the file, keeps that
half if it knows no hash and else calls it an "invalid hash value"; it waits for ever for a server that says nothing,
its errors are RuntimeErrors, and what it had written stays when it is killed. pooch needs requests and a whole hash.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from tmgan.common.files import remove_orphans, require_writable, write_atomically
from tmgan.common.lock import only_one
from tmgan.common.progress import Progress
from tmgan.common.version import __version__

_CHUNK = 1 << 18  # bytes
_TOO_MUCH = 2  # times its size: more would only fill the disk
_SILENCE = 30  # seconds that a server may say nothing


class DownloadError(ValueError):
    """Nothing was downloaded, for a reason that is not this machine's disk; the message says which."""


def digest_of(path: Path) -> str:
    """sha256 of a file, 64 hexadecimal digits. Raises OSError when it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: Path, sha256: str, size: int, show: Progress | None = None) -> None:
    """Write what is at `url` to `path`, or leave `path` as it is.

    The bytes go to a temporary file beside it, which takes its name only when its sha256 is right. Proxies are those
    of the environment, as urllib reads them. Not for two processes at once: the second one is refused. A `path` whose
    sha256 is right is not downloaded again.

    Args:
        path: in a folder that is made if there is none.
        sha256: its hexadecimal digits, or the first of them, as many as are known.
        size: bytes that are expected, for the bar; what decides is the sha256, but nothing twice as large is taken.
        show: a bar; None: on a terminal.

    Raises:
        DownloadError: the server is not reached, refuses, breaks off, or sends something else.
        ValueError: the folder cannot be written to, or another process is downloading this very file.
        OSError: the disk is full, with `path` as its filename.
    """
    require_writable(path.parent)
    lock = path.with_name(f".{path.name}.lock")
    busy = f"{path} is being downloaded by another process. Wait for it, then run this again."
    with only_one(lock, busy) as alone:
        if path.is_file() and digest_of(path).startswith(sha256):
            return  # by the process that had the lock before
        path.parent.mkdir(parents=True, exist_ok=True)
        if alone:
            remove_orphans(path.parent, path.name)
        write_atomically(path, lambda file: _fetch(url, file, sha256, size, show or Progress()), size)


def _fetch(url: str, file: BinaryIO, sha256: str, size: int, show: Progress) -> None:
    """Write what is at `url` to an open file, and refuse it when it is not what it should be."""
    digest, count = hashlib.sha256(), 0
    with _open(url) as answer:
        header = answer.headers.get("Content-Length") or ""
        length = int(header) if header.isdigit() else 0  # 0: not said
        with show.bar("MB", _megabytes(length or size)):
            while chunk := _read(url, answer, count):
                if count + len(chunk) > _TOO_MUCH * size + _CHUNK:
                    raise DownloadError(f"{url} sends more than the file that was published, of {size:,} bytes.")
                file.write(chunk)
                digest.update(chunk)
                show.advance(_megabytes(count + len(chunk)) - _megabytes(count))
                count += len(chunk)
        kind = answer.headers.get_content_type()
    if digest.hexdigest().startswith(sha256):
        return
    if count < length:  # http.client ends such a file without a word
        raise _broken_off(url, count, f"of {length:,} bytes")
    raise DownloadError(
        f"What comes from {url} is not the file that was published: its sha256 begins with "
        f"{digest.hexdigest()[: len(sha256)]}, expected {sha256} ({count:,} bytes of {kind} in place of {size:,})."
    )


def _open(url: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": f"tmgan/{__version__}"})
    try:
        return urllib.request.urlopen(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            raise DownloadError(f"{url} cannot be downloaded: its server says {error.code} {error.reason}.") from None
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a redirect to what is no URL
        raise DownloadError(f"{url} cannot be reached ({_reason(error)}).") from None


def _read(url: str, answer: Any, count: int) -> bytes:
    """The next bytes, none at the end. Apart from `_open`, so that no error of the disk is taken for the server's."""
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _broken_off(url, count, f"bytes ({_reason(error)})") from None


def _broken_off(url: str, count: int, rest: str) -> DownloadError:
    return DownloadError(f"The connection to {url} broke off after {count:,} {rest}. Run it again.")


def _reason(error: BaseException) -> str:
    """What an error of urllib says, without its number."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _megabytes(size: int) -> int:
    return size // 1_000_000
