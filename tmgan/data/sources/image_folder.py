"""Read an image folder with metadata.jsonl, laid out as Hugging Face's `imagefolder` data sets are.

Each line is an object with `file_name` (relative to its metadata.jsonl) and `text`, `texts` or `captions`; optional
are `class`, `bbox` ([x, y, width, height]), `mask` and `split`. Several lines for one file add their captions.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

from tmgan.data.captions import tokenize
from tmgan.data.sources.source import Item, Source, Split

# Held-out splits of any name are our test split.
SPLITS: dict[str, Split] = {"train": "train", "test": "test", "validation": "test", "valid": "test", "val": "test"}


def metadata_files(path: Path) -> dict[Path, str | None]:
    """The metadata.jsonl files of a folder, with the split that their subfolder stands for (None at the top)."""
    places: list[tuple[Path, str | None]] = [(path, None), *((path / name, split) for name, split in SPLITS.items())]
    return {folder / "metadata.jsonl": split for folder, split in places if (folder / "metadata.jsonl").is_file()}


def read(path: Path) -> Source:
    """Read every metadata.jsonl of `path`.

    Without a split, an image is in the test split when its name's hash says so (1 in 10, the same in every run).
    Without a class, every image is its own class.

    Raises:
        ValueError: a line is wrong; the message names the file and the line.
    """
    rows: dict[str, dict[str, Any]] = {}
    dropped = 0
    for file, split in metadata_files(path).items():
        for number, line in enumerate(file.read_text("utf-8-sig", errors="replace").split("\n"), 1):
            if line.strip():
                row, empty = _read_line(line, f"{file}, line {number}", path, file.parent, split)
                dropped += empty
                _merge(rows, row, f"{file}, line {number}")
    if not rows:
        raise ValueError(f"{path}: its metadata.jsonl names no image")
    entries = sorted(rows.values(), key=lambda row: row["split"] == "test")
    class_ids, class_names = _classes(entries, path)
    some_masks = any(row["mask"] for row in entries)
    items = []
    for row, class_id in zip(entries, class_ids, strict=True):
        problem = "" if row["captions"] else "no caption with a word in metadata.jsonl"
        if some_masks and row["mask"] is None:
            problem = problem or "no mask in metadata.jsonl, though other images have one"
        items.append(
            Item(
                name=row["name"],
                image=path / row["name"],
                captions=tuple(row["captions"]),
                class_id=class_id,
                split=row["split"],
                box=row["box"],
                mask=row["mask"],
                problem=problem,
            )
        )
    return Source(path=path, kind="imagefolder", items=tuple(items), class_names=class_names, dropped=dropped)


def _read_line(line: str, where: str, root: Path, folder: Path, split: str | None) -> tuple[dict[str, Any], int]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from None
    if not isinstance(value, dict) or not isinstance(value.get("file_name"), str):
        raise ValueError(
            f'{where}: expected an object with "file_name", such as {{"file_name": "0001.png", "text": "a bird"}}'
        )
    captions = [value[key] for key in ("text", "texts", "captions") if key in value]
    if len(captions) != 1:
        raise ValueError(
            f'{where}: expected exactly one of "text", "texts" and "captions", found {len(captions)} of them'
        )
    captions = [captions[0]] if isinstance(captions[0], str) else captions[0]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"{where}: a caption is a string, or a list of strings")
    box = value.get("bbox")
    if box is not None:
        if (
            not isinstance(box, list)
            or len(box) != 4
            or not all(isinstance(side, (int, float)) and math.isfinite(side) for side in box)
        ):
            raise ValueError(f"{where}: bbox is [x, y, width, height] in pixels, found {box!r}")
        box = tuple(float(side) for side in box)
    name = _inside(value["file_name"], folder, root, where)
    mask = value.get("mask")
    split = value.get("split", split)
    if split is None:
        digest = hashlib.sha256(name.encode()).digest()
        split = "test" if int.from_bytes(digest[:8], "big") % 10 == 0 else "train"
    if split not in SPLITS:
        raise ValueError(f"{where}: the split is one of {', '.join(SPLITS)}, found {split!r}")
    usable = [caption.strip() for caption in captions if tokenize(caption)]
    row = {
        "name": name,
        "captions": usable,
        "class": value.get("class"),
        "box": box,
        "split": SPLITS[split],
        "mask": None if mask is None else root / _inside(mask, folder, root, where),
    }
    return row, len(captions) - len(usable)


def _inside(name: Any, folder: Path, root: Path, where: str) -> str:
    """`name`, which is relative to `folder`, made relative to `root`."""
    if not isinstance(name, str) or not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{where}: {name!r} is not a path inside {folder}")
    return (folder.relative_to(root) / name).as_posix()


def _merge(rows: dict[str, dict[str, Any]], row: dict[str, Any], where: str) -> None:
    first = rows.setdefault(row["name"], row)
    if first is row:
        return
    for key in ("class", "box", "split", "mask"):
        if first[key] != row[key]:
            raise ValueError(
                f"{where}: {row['name']} was listed before with another {key}: {first[key]!r}, here {row[key]!r}"
            )
    first["captions"] += row["captions"]


def _classes(rows: list[dict[str, Any]], path: Path) -> tuple[list[int], dict[int, str]]:
    classes = [row["class"] for row in rows]
    if all(value is None for value in classes):
        return list(range(len(rows))), {}
    if all(isinstance(value, int) for value in classes):
        return classes, {value: str(value) for value in sorted(set(classes))}
    if all(isinstance(value, str) for value in classes):
        names = sorted(set(classes))
        return [names.index(value) for value in classes], dict(enumerate(names))
    raise ValueError(f"{path}: give every image a class, all numbers or all names, or none a class")
