"""Read the split of published metadata: {train,test}/filenames.pickle, and class_info.pickle beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tmgan.data.sources.cub_tables import integers, is_inside
from tmgan.data.sources.source import Split
from tmgan.data.sources.unpickle import load_metadata_pickle

SPLITS: tuple[Split, ...] = ("train", "test")


class Entry(NamedTuple):
    """One image of a list: its name without a suffix, its class and its split."""

    name: str
    class_id: int
    split: Split


def read_names(file: Path, example: str) -> list[str]:
    """The names of a filenames.pickle. ValueError, with an `example` of a name, when it holds something else."""
    names = load_metadata_pickle(file)
    if not isinstance(names, (list, tuple)) or not all(map(is_inside, names)):
        raise ValueError(f"{file}: expected a list of names such as {example}")
    return list(names)


def read_split(folder: Path, example: str) -> tuple[list[Entry], dict[int, str], list[str]]:
    """The images of both splits, the training split first; the folder of each class; notes.

    Raises:
        ValueError: a list is missing or damaged, or class_info.pickle does not fit it.
    """
    entries: list[Entry] = []
    class_names: dict[int, str] = {}
    notes: list[str] = []
    for split in SPLITS:
        file, info = folder / split / "filenames.pickle", folder / split / "class_info.pickle"
        if not file.exists():
            raise ValueError(
                f"{file} is missing, but that of the other split exists: both belong to AttnGAN's metadata"
            )
        names = read_names(file, example)
        if info.exists():
            classes = integers(load_metadata_pickle(info), info)
            if len(classes) != len(names):
                raise ValueError(
                    f"{info} has {len(classes)} classes, {file} {len(names)} names: they are not of one set"
                )
            folders = name_classes(info, names, classes)
            if any(class_names.get(number, name) != name for number, name in folders.items()):
                # Each split counts its classes on its own: keep them apart.
                shift = max(class_names) + 1
                classes = [number + shift for number in classes]
                folders = {number + shift: name for number, name in folders.items()}
            class_names |= folders
        else:  # As published: without class_info.pickle every image is a class of its own
            notes.append(f"{info} is missing: every {split} image is its own class")
            start = max((entry.class_id for entry in entries), default=-1) + 1
            classes = list(range(start, start + len(names)))
        entries += [Entry(name, number, split) for name, number in zip(names, classes, strict=True)]
    return entries, class_names, notes


def name_classes(file: Path, names: list[str], classes: list[int]) -> dict[int, str]:
    """The folder of each class. A class in two folders means that the list is for another order of images."""
    class_names: dict[int, str] = {}
    for name, number in zip(names, classes, strict=True):
        folder = name.split("/")[0] if "/" in name else str(number)
        first = class_names.setdefault(number, folder)
        if first != folder:
            raise ValueError(
                f"{file}: class {number} is {first}, but at {name} it is {folder}: it does not belong to this "
                "list of names. Get both again; without the file, every image is its own class"
            )
    return class_names


def check_unique(entries: Sequence[Entry], path: Path) -> None:
    """Raise ValueError when the lists of the folder `path` name no image, or one twice."""
    if not entries:
        raise ValueError(f"{path}: its lists name no image")
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.name in seen:
            splits = f"{seen[entry.name]} and {entry.split}"
            raise ValueError(f"{entry.name} is listed twice ({splits}): an image belongs to one split, once")
        seen[entry.name] = entry.split


def count_splits(entries: Sequence[Entry]) -> dict[Split, int]:
    """How many images each split has."""
    return {split: sum(entry.split == split for entry in entries) for split in SPLITS}
