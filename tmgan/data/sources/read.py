"""Read a source folder, whatever its layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tmgan.common.commands import command
from tmgan.data.sources import coco, coco_metadata, cub, flowers, image_folder
from tmgan.data.sources.source import Source

Layout = image_folder.Layout | cub.Layout | coco_metadata.Layout | coco.Layout | flowers.Layout


class Unrecognised(ValueError):
    """A folder in none of the layouts that are read."""


@dataclass(frozen=True)
class _Reader:
    """One layout: what messages call it, how a folder's parts are found (None: it is another), how it is read."""

    name: str
    find: Callable[[Path], Any]
    read: Callable[[Any], Source]


# In the order in which they are tried: COCO's archives may lie beside AttnGAN's lists of them, which are then obeyed.
_READERS = {
    image_folder.Layout: _Reader("an image folder", image_folder.Layout.find, image_folder.read),
    cub.Layout: _Reader("a CUB folder", cub.Layout.find, cub.read),
    coco_metadata.Layout: _Reader("COCO in AttnGAN's layout", coco_metadata.Layout.find, coco_metadata.read),
    coco.Layout: _Reader("a COCO folder", coco.Layout.find, coco.read),
    flowers.Layout: _Reader("Oxford-102 flowers", flowers.Layout.find, flowers.read),
}


def find_layout(path: Path) -> Layout:
    """Recognise the layout of the folder `path`, by its files' names; their contents are mostly not read.

    Raises:
        Unrecognised: it has none of the layouts.
        ValueError: it is no folder, or nearly has one; the message says what to do.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder" if not path.exists() else f"{path}: not a folder")
    for reader in _READERS.values():
        layout = reader.find(path)
        if layout is not None:
            return layout
    images = (path / "images").is_dir()
    if not (images and (path / "train/filenames.pickle").is_file()):
        coco.refuse_misplaced(path)
    if images:  # CUB's, with AttnGAN's lists or with some of its own missing
        return cub.Layout.around(path, path)
    image_folder.refuse_misplaced_metadata(path)
    raise Unrecognised(
        f"{path} has neither CUB_200_2011/images nor metadata.jsonl, {coco.PATTERN} or Oxford's jpg/image_00001.jpg. "
        f"What is expected where is shown by\n  {command('data', 'doctor', path)}"
    )


def read_source(path: Path) -> Source:
    """Read the lists and captions of the folder `path`, in any layout (`tmgan data doctor` shows them).

    Of CUB the folder may be the one that holds `CUB_200_2011`, or `CUB_200_2011` itself with the captions in it or
    beside it.

    Raises:
        ValueError: a list is missing, damaged or does not fit another; the message says which, and what to do.
    """
    layout = find_layout(path)
    reader = _READERS[type(layout)]
    source = reader.read(layout)
    others = _others(layout)
    if others:
        source = replace(source, notes=(f"read as {reader.name}; not read: {', '.join(others)}", *source.notes))
    return source


def _others(layout: Layout) -> list[str]:
    """Layouts that the folder has too and in which it is not read."""
    others = []
    for kind, reader in _READERS.items():
        try:
            if kind is not type(layout) and reader.find(layout.path) is not None:
                others.append(reader.name)
        except ValueError:  # a damaged list of a layout that is not read
            others.append(reader.name)
    return others
