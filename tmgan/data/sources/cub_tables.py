"""CUB's text tables: each line is an image id and a value. Everything is joined by id, then by name."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tmgan.common.text import shown
from tmgan.data.sources.lines import DAMAGE, read_lines
from tmgan.data.sources.source import Box, to_box

_ID = re.compile(r"[0-9]{1,18}")  # not str.isdigit, to which ² is a digit
_MOST_CLASS = 2**63  # packs store class numbers in 8 bytes


class Cell(NamedTuple):
    """A value, and the number of the line it stands in."""

    text: str
    line: int


def read_table(file: Path) -> dict[int, Cell]:
    """The values of a table by id. ValueError names the line that is not `id value`, or repeats an id."""
    if not file.exists():
        raise ValueError(f"{file} is missing: it belongs to the CUB_200_2011 archive")
    rows: dict[int, Cell] = {}
    for line in read_lines(file):
        if not line.text.strip():
            continue
        if line.damaged:
            raise ValueError(f"{file}, line {line.number}: {DAMAGE}")
        number, _, rest = line.text.strip().partition(" ")
        if not _ID.fullmatch(number) or not rest or int(number) in rows:
            raise ValueError(f"{file}, line {line.number}: expected a new id and a value, found {line.text!r:.200}")
        rows[int(number)] = Cell(rest.strip(), line.number)
    return rows


def read_names(cub: Path) -> dict[int, str]:
    """The names of images.txt by id, without their suffix."""
    file = cub / "images.txt"
    names: dict[int, str] = {}
    lines: dict[str, int] = {}
    for number, (name, line) in read_table(file).items():
        if not is_inside(name):
            raise ValueError(f"{file}, line {line}: {name!r} is not a path inside {cub / 'images'}")
        names[number] = name.rsplit(".", 1)[0]
        first = lines.setdefault(names[number], line)
        if first != line:
            raise ValueError(f"{file}, line {line}: {name} stands in line {first} already, with another id")
    return names


def is_inside(name: Any) -> bool:
    """Whether a name from a list is a relative path that stays where it begins."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def read_beside_images(cub: Path, file: str, names: dict[int, str]) -> dict[int, Cell]:
    """A table that has a line for every image of images.txt. ValueError when it has not."""
    table = read_table(cub / file)
    if table.keys() != names.keys():
        number = min(table.keys() ^ names.keys())
        raise ValueError(f"{cub / file} does not fit images.txt: image id {number} is in only one of them")
    return table


def read_train_ids(cub: Path, names: dict[int, str]) -> set[int]:
    """The ids that train_test_split.txt gives to the training split."""
    table = read_beside_images(cub, "train_test_split.txt", names)
    for text, line in table.values():
        if text not in ("0", "1"):
            raise ValueError(
                f"{cub}/train_test_split.txt, line {line}: expected 1 (training) or 0 (test) after the id, found "
                f"{text!r}"
            )
    return {number for number, cell in table.items() if cell.text == "1"}


def read_boxes(cub: Path) -> tuple[dict[str, Box], dict[str, str]] | None:
    """Boxes by name, and what is wrong with those of other names; None when the set has no bounding_boxes.txt.

    As published: coordinates are truncated.
    """
    if not (cub / "bounding_boxes.txt").exists():
        return None
    names = read_names(cub)
    boxes: dict[str, Box] = {}
    problems: dict[str, str] = {}
    for number, (text, line) in read_beside_images(cub, "bounding_boxes.txt", names).items():
        box = _box(text)
        if box is None:
            problems[names[number]] = (
                f"{cub}/bounding_boxes.txt, line {line}: expected `id x y width height`, found `{number} {text:.60}`"
            )
        else:
            boxes[names[number]] = box
    return boxes, problems


def _box(text: str) -> Box | None:
    try:
        box = to_box([float(value) for value in text.split()])
    except ValueError:
        return None
    return None if box is None else (int(box[0]), int(box[1]), int(box[2]), int(box[3]))


def integers(values: Any, file: Path) -> list[int]:
    """Values of a list as class or word numbers. ValueError names the file when they are none."""
    try:
        numbers = [int(value) for value in values]
        if all(-_MOST_CLASS <= number < _MOST_CLASS for number in numbers):
            return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{file}: expected whole numbers, found {shown(values)}")
