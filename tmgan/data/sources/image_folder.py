"""Read an image folder with metadata.jsonl, laid out as Hugging Face's `imagefolder` data sets are.

Each line is an object with `file_name` (relative to its metadata.jsonl) and `text`, `texts`, `caption` or `captions`;
optional are `class`, `bbox` ([x, y, width, height]), `mask` and `split`. Several lines for one file add their captions.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tmgan.data.captions import tokenize
from tmgan.data.sources.lines import read_lines
from tmgan.data.sources.lost_words import LostWords
from tmgan.data.sources.metadata_row import SPLITS, Row, Unreadable, read_row, split_of
from tmgan.data.sources.source import Item, Source, Split

METADATA = "metadata.jsonl"
_OTHER_METADATA = ("metadata.csv", "metadata.parquet")  # that Hugging Face's loader reads too
_SHOWN = 5  # keys and files that a note names


def refuse_other_metadata(path: Path) -> None:
    """Raise ValueError when a folder has its metadata in a form that is not read: its images would be left out."""
    for folder, _ in _places(path):
        for name in _OTHER_METADATA:
            if (folder / name).is_file() and not (folder / METADATA).is_file():
                reader = name.replace("metadata.", "read_")
                raise ValueError(
                    f"{folder / name} is not read, only {METADATA} is: one JSON object per line. With pandas: "
                    f'pandas.{reader}("{name}").to_json("{METADATA}", orient="records", lines=True)'
                )


def refuse_misplaced_metadata(path: Path) -> None:
    """Raise ValueError when the metadata of a folder without metadata.jsonl is in another form or one level deeper."""
    refuse_other_metadata(path)
    for file in sorted(path.glob(f"*/{METADATA}")) + sorted(path.glob(f"*/*/{METADATA}")):
        raise ValueError(f"{path} has no {METADATA}, but {file.parent} has: name that folder, or move its files here")


def _places(path: Path) -> list[tuple[Path, Split | None]]:
    """The folder itself, and its subfolders that are named like a split, however that is written on the disk."""
    order = list(SPLITS)
    found = [name for name in os.listdir(path) if split_of(name) and (path / name).is_dir()]
    found.sort(key=lambda name: (order.index(name.strip().lower()), name))
    return [(path, None), *((path / name, split_of(name)) for name in found)]


@dataclass
class _Listing:
    """What the lines of all files add up to."""

    rows: dict[str, Row] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    lost: LostWords = field(default_factory=LostWords)


@dataclass(frozen=True)
class Layout:
    """A folder and its metadata.jsonl files, each with the split that its subfolder stands for (None at the top)."""

    path: Path
    files: dict[Path, Split | None]

    @classmethod
    def find(cls, path: Path) -> Layout | None:
        """The metadata.jsonl of `path` and of its subfolders that are named like a split; None when there are none."""
        files = {folder / METADATA: split for folder, split in _places(path) if (folder / METADATA).is_file()}
        return cls(path, files) if files else None


def read(layout: Layout) -> Source:
    """Read every metadata.jsonl of an image folder.

    Without a split, an image is in the test split when its name's hash says so (1 in 10, the same in every run).
    Without a class, every image is its own class. A line that is wrong is its image's problem, or unreadable.

    Raises:
        ValueError: there are no lines, classes are of two kinds, or captions are in a script that is not read.
    """
    path, files = layout.path, layout.files
    refuse_other_metadata(path)
    listing = _read_files(path, files)
    if not listing.rows and not listing.unreadable:
        raise ValueError(f"{path}: its metadata.jsonl names no image")
    listing.lost.check(path)
    rows = sorted(listing.rows.values(), key=lambda row: row.split == "test")
    captions = [tuple(text.strip() for text in row.texts if tokenize(text)) for row in rows]
    class_ids, class_names = _classes(rows, path)
    _find_gaps(rows, captions)
    items = [
        Item(
            name=row.name,
            image=path / row.name,
            captions=usable,
            class_id=class_id,
            split=row.split,
            box=row.box,
            mask=None if row.mask is None else path / row.mask,
            problem=row.problem,
        )
        for row, usable, class_id in zip(rows, captions, class_ids, strict=True)
    ]
    return Source(
        path=path,
        kind="imagefolder",
        items=tuple(items),
        class_names=class_names,
        dropped=sum(len(row.texts) for row in rows) - sum(map(len, captions)),
        unreadable=listing.unreadable,
        notes=tuple(note for note in _notes(path, files, listing) if note),
    )


def _read_files(path: Path, files: dict[Path, Split | None]) -> _Listing:
    listing = _Listing()
    for file, split in files.items():
        for line in read_lines(file):
            if not line.text.strip():
                continue
            where = f"{file.relative_to(path).as_posix()}, line {line.number}"
            try:
                row = read_row(line, where, path, file.parent, split)
            except Unreadable as error:
                listing.unreadable[where] = str(error)
                continue
            listing.unread.update(row.unread)
            for text in row.texts:
                listing.lost.add(text)
            first = listing.rows.setdefault(row.name, row)
            if first is not row:
                first.merge(row)
    return listing


def _find_gaps(rows: list[Row], captions: list[tuple[str, ...]]) -> None:
    """What other images have and this one lacks is its problem: nothing is guessed."""
    some_masks, some_classes = (any(getattr(row, key) is not None for row in rows) for key in ("mask", "label"))
    for row, usable in zip(rows, captions, strict=True):
        if row.problem:
            continue
        if not usable:
            row.problem = f"no caption with a word in {row.where}"
        elif some_masks and row.mask is None:
            row.problem = f"no mask in {row.where}, though other images have one"
        elif some_classes and row.label is None:
            row.problem = f"no class in {row.where}, though other images have one"


def _classes(rows: list[Row], path: Path) -> tuple[list[int], dict[int, str]]:
    """The class id of each row, -1 for a row that has no class though others have, and the names of the ids."""
    labels = [row.label for row in rows]
    numbers = {label: row.where for label, row in zip(labels, rows, strict=True) if isinstance(label, int)}
    names = {label: row.where for label, row in zip(labels, rows, strict=True) if isinstance(label, str)}
    if numbers and names:
        (number, here), (name, there) = next(iter(numbers.items())), next(iter(names.items()))
        raise ValueError(
            f"{path}: some classes are numbers ({number} at {here}), others names ({name!r} at {there}): write all of "
            "them in one way"
        )
    if numbers:
        return [label if isinstance(label, int) else -1 for label in labels], {n: str(n) for n in sorted(numbers)}
    if names:
        ids = {name: number for number, name in enumerate(sorted(names))}
        return [ids[label] if isinstance(label, str) else -1 for label in labels], dict(enumerate(sorted(names)))
    return list(range(len(rows))), {}


def _notes(path: Path, files: dict[Path, Split | None], listing: _Listing) -> list[str]:
    """What was not read, and what captions lost."""
    keys = [f"{key!r} ({count} line{'s' * (count != 1)})" for key, count in listing.unread.most_common()]
    others = [file.relative_to(path).as_posix() for file in _other_files(path) if file not in files]
    return [
        f"keys that are not read: {_few(keys)}" if keys else "",
        f"not read: {_few(others)}; {METADATA} is read in {path} and in subfolders named like a split"
        if others
        else "",
        listing.lost.note(),
    ]


def _other_files(path: Path) -> list[Path]:
    """Every file that holds metadata by its name, anywhere in a folder."""
    names = {METADATA, *_OTHER_METADATA}
    return sorted(Path(folder, name) for folder, _, files in os.walk(path) for name in names.intersection(files))


def _few(words: list[str]) -> str:
    more = [f"and {len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return ", ".join(words[:_SHOWN] + more)
