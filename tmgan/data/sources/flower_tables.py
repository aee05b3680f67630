"""The lists of Oxford-102 flowers: Matlab's imagelabels.mat and setid.mat, and the classes of Reed's split."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from tmgan.data.sources.lines import DAMAGE, read_lines
from tmgan.data.sources.matlab import MOST_BYTES, read_arrays
from tmgan.data.sources.source import Split

CLASS_LISTS: dict[str, Split] = {"trainvalclasses.txt": "train", "testclasses.txt": "test"}
# Oxford's validation set is for training here, as it is in Reed's split: "trainval".
SETS: dict[str, Split] = {"trnid": "train", "valid": "train", "tstid": "test"}
_MOST = 99_999  # of the five digits of image_00001
_CLASS = re.compile(r"class_[0-9]{5}")


def image_name(number: int) -> str:
    """image_00001 for 1."""
    return f"image_{number:05d}"


def read_labels(file: Path) -> list[int]:
    """The class of image 1, 2, ... from imagelabels.mat. ValueError when it is damaged or holds something else."""
    return _read_mat(file, ("labels",))["labels"]


def read_sets(file: Path, count: int | None) -> dict[int, Split]:
    """The split of each image number, from setid.mat.

    Args:
        count: how many images imagelabels.mat has; None: unknown.

    Raises:
        ValueError: the file is damaged, holds something else, an image twice or one that there is not.
    """
    splits: dict[int, Split] = {}
    for key, numbers in _read_mat(file, tuple(SETS)).items():
        for number in numbers:
            if number > (count or _MOST):
                raise ValueError(f"{file}: {key} holds image {number}, but imagelabels.mat has {count or _MOST} images")
            if number in splits:
                raise ValueError(f"{file}: image {number} is in two of its sets, or twice in one: get the file again")
            splits[number] = SETS[key]
    return splits


def read_class_lists(folder: Path) -> dict[str, Split]:
    """The split of each class, by the name of its folder, from Reed's trainvalclasses.txt and testclasses.txt.

    Raises:
        ValueError: one of them is missing, has a line that names no class, or a class is in both.
    """
    splits: dict[str, Split] = {}
    for name, split in CLASS_LISTS.items():
        file = folder / name
        if not file.exists():
            raise ValueError(f"{file} is missing, but the list of the other split exists: both belong to Reed's split")
        for line in read_lines(file):
            text = line.text.strip()
            if line.damaged:
                raise ValueError(f"{file}, line {line.number}: {DAMAGE}")
            if text and not _CLASS.fullmatch(text):
                raise ValueError(
                    f"{file}, line {line.number}: expected a class such as class_00001, found {text!r:.60}"
                )
            if splits.setdefault(text, split) != split:
                raise ValueError(f"{file}, line {line.number}: {text} is in the list of the other split too")
    splits.pop("", None)
    return splits


def _read_mat(file: Path, keys: Collection[str]) -> dict[str, list[int]]:
    """Arrays of positive whole numbers of a Matlab file."""
    size = file.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{file}: {size:,} bytes are too much for such lists (at most {MOST_BYTES:,})")
    try:
        table = read_arrays(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: not a readable Matlab file ({error}): get it again") from None
    arrays: dict[str, list[int]] = {}
    for key in keys:
        value = table.get(key)
        if (
            value is None
            or not 0 < value.size <= _MOST
            or not ((value == np.floor(value)) & (value >= 1) & (value <= _MOST)).all()
        ):
            raise ValueError(f"{file}: expected {' and '.join(keys)}, of whole numbers from 1: it is another file")
        arrays[key] = [int(number) for number in value]
    return arrays
