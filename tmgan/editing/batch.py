"""Which photos one command edits and which files it writes: known, and checked, before anything is written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # endings of photos in a folder
# Suffixes of file names beside the edited photo.
_ATTENTION, _COMPOSITED, _KEEP, _SEEDS = ".attention", ".composited", ".keep", ".seeds"
_NAMED = 5  # files that a note names


@dataclass(frozen=True)
class Item:
    """One photo and what is written about it.

    Attributes:
        photo: the file to edit.
        target: the edited photo.
        mask: the picture of --keep that belongs to the photo, if that is a file.
        with_keep: the composited photo and its keep-mask are written too.
        with_attention: the attention maps are written too.
        with_seeds: the edits of several seeds, side by side, are written too.
    """

    photo: Path
    target: Path
    mask: Path | None
    with_keep: bool
    with_attention: bool
    with_seeds: bool = False

    @property
    def composited(self) -> Path:
        """Where the composited photo is written."""
        return self.target.with_name(f"{self.target.stem}{_COMPOSITED}{self.target.suffix}")

    @property
    def keep(self) -> Path:
        """Where the keep-mask is written."""
        return self.target.with_name(f"{self.target.stem}{_KEEP}.png")

    @property
    def attention(self) -> Path:
        """Where the attention maps are written."""
        return self.target.with_name(f"{self.target.stem}{_ATTENTION}.png")

    @property
    def seeds(self) -> Path:
        """Where the edits of several seeds are written."""
        return self.target.with_name(f"{self.target.stem}{_SEEDS}.png")

    @property
    def outputs(self) -> list[Path]:
        """All files that are written."""
        keep = [self.composited, self.keep] if self.with_keep else []
        attention = [self.attention] if self.with_attention else []
        return [self.target, *keep, *attention, *([self.seeds] if self.with_seeds else [])]


def find_photos(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The photos among `paths` and in the folders among them, each once, and notes on files that are left out.

    Hidden files, other files and the pictures that earlier edits wrote beside theirs are left out of a folder. One
    missing photo among several is not refused here: the others can be edited.

    Raises:
        ValueError: there is no photo, or the only one is missing.
    """
    paths = list(paths)
    photos: dict[str, Path] = {}
    notes = []
    for path in paths:
        found, left_out = _in_folder(path) if path.is_dir() else ([path], [])
        photos.update({os.path.realpath(photo): photo for photo in found})
        if left_out:
            notes.append(f"left out in {path}, as no photos to edit: {_listed(left_out)}")
        if not found:
            notes.append(f"the folder {path} holds no pictures ({', '.join(PICTURES)}).")
    if len(paths) == 1 and not paths[0].exists():
        raise ValueError(f"There is no photo {paths[0]}.")
    if not photos:
        raise ValueError("\n".join(notes) or 'Name one or more photos: tmgan edit RUN PHOTO... --text "..." --out PATH')
    return list(photos.values()), notes


def plan(
    photos: list[Path],
    out: Path,
    several: bool,
    masks: Path | None,
    with_keep: bool,
    with_attention: bool,
    with_seeds: bool = False,
) -> list[Item]:
    """What to write for each photo: `out` for one, a PNG of its name in the folder `out` for several.

    Photos that would share a file get PNGs of their whole names: a.jpg.png and a.png.png.

    Args:
        masks: the file of --keep, or the folder with one for each photo; None if it names none.
        with_keep, with_attention, with_seeds: which pictures are written beside each edit; see Item.

    Raises:
        ValueError: a file would be written twice, or one that is read would be overwritten.
    """

    def items(names: list[str]) -> list[Item]:
        targets = [out / f"{name}.png" for name in names] if several else [out]
        return [
            Item(photo, target, _mask(photo, masks), with_keep, with_attention, with_seeds)
            for photo, target in zip(photos, targets, strict=True)
        ]

    made = items([photo.stem for photo in photos])
    shared = _written_twice(made)
    if shared:
        made = items(
            [
                item.photo.name if shared & {os.path.realpath(path) for path in item.outputs} else item.photo.stem
                for item in made
            ]
        )
        shared = _written_twice(made)
    for path in sorted(shared):
        both = [str(item.photo) for item in made if path in {os.path.realpath(output) for output in item.outputs}]
        raise ValueError(f"The edits of {' and '.join(both)} would both be written to {path}; edit them one by one.")
    _refuse_overwriting(made)
    return made


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """The photos in a folder, and the names of the other files in it."""
    files = sorted(path for path in folder.iterdir() if not path.is_dir())
    photos = [path for path in files if _is_photo(path)]
    return photos, [path.name for path in files if not _is_photo(path)]


def _is_photo(path: Path) -> bool:
    pictures = tuple(f"{suffix}.png" for suffix in (_ATTENTION, _KEEP, _SEEDS))
    ours = path.stem.endswith(_COMPOSITED) or path.name.endswith(pictures)
    return path.suffix.lower() in PICTURES and not path.name.startswith(".") and not ours


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} file{'s' if len(names) > 1 else ''} ({', '.join(names[:_NAMED])}{more})."


def _mask(photo: Path, masks: Path | None) -> Path | None:
    if masks is None or not masks.is_dir():
        return masks
    exact = masks / f"{photo.name}.png"
    return exact if exact.exists() else masks / f"{photo.stem}.png"


def _written_twice(items: list[Item]) -> set[str]:
    """The files, links followed, that more than one edit would write."""
    counts = Counter(os.path.realpath(path) for item in items for path in item.outputs)
    return {path for path, count in counts.items() if count > 1}


def _refuse_overwriting(items: list[Item]) -> None:
    read: dict[object, str] = {}
    for kind, paths in (
        ("mask", [item.mask for item in items if item.mask]),
        ("photo", [item.photo for item in items]),
    ):
        read.update({key: f"{kind} {path}" for path in paths for key in _identities(path)})
    for item in items:
        for path in item.outputs:
            known = [read[key] for key in _identities(path) if key in read]
            if known:
                raise ValueError(f"--out would overwrite the {known[0]}; choose another name or folder.")


def _identities(path: Path) -> Iterable[object]:
    """What two paths of one file have in common: the path without links and, if it exists, its place on the disk."""
    yield os.path.realpath(path)
    if path.exists():
        about = path.stat()
        yield about.st_dev, about.st_ino
