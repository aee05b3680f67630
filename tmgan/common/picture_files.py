"""Picture files: their format follows their ending, and what goes wrong is a sentence that names the file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tmgan.common.errors import is_disk_full
from tmgan.common.files import write_bytes


def format_of(path: Path) -> str:
    """Pillow's name of the format that a path's ending stands for. ValueError if it stands for none."""
    formats = Image.registered_extensions()
    if path.suffix.lower() not in formats:
        raise ValueError(f"{path}: give the picture an ending such as .png or .jpg.")
    return formats[path.suffix.lower()]


def write_picture(path: Path, data: bytes) -> None:
    """Write a picture's bytes whole or not at all.

    Raises:
        OSError: the disk is full; its filename is `path`.
        ValueError: `path` cannot be written for another reason.
    """
    try:
        write_bytes(path, data)
    except OSError as error:
        if is_disk_full(error):
            raise
        if not path.parent.is_dir():
            raise ValueError(f"{path} cannot be written: there is no folder {path.parent}. Make it first.") from None
        raise ValueError(f"{path} cannot be written: {error.strerror or error}.") from error
