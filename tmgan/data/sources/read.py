"""Read a source folder, whatever its layout."""

from __future__ import annotations

from pathlib import Path

from tmgan.data.sources import cub, image_folder
from tmgan.data.sources.source import Source


def read_source(path: Path) -> Source:
    """Read the lists and captions of the folder `path`, in either layout (`tmgan data doctor` shows both).

    The folder may be the one that holds `CUB_200_2011`, or `CUB_200_2011` itself with the captions in it or beside it.

    Raises:
        ValueError: a list is missing, damaged or does not fit another; the message says which, and what to do.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder" if not path.exists() else f"{path}: not a folder")
    if image_folder.metadata_files(path):
        return image_folder.read(path)
    if not (path / "CUB_200_2011").is_dir() and not (path / "images").is_dir():
        image_folder.refuse_misplaced_metadata(path)
    return cub.read(cub.Layout.find(path))
