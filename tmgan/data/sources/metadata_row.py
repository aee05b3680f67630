"""Read one line of a metadata.jsonl.

A mistake in a line costs the image it names, not the set: it becomes the row's problem, and `prepare` lists it with the
others. Only a line that names no image is Unreadable.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from tmgan.common.json_text import parse_json
from tmgan.data.sources.lines import DAMAGE, Line
from tmgan.data.sources.source import BOX_RULE, Box, Split, to_box

# Held-out splits of any name are our test split. In the order in which their folders are read.
SPLITS: dict[str, Split] = {"train": "train", "test": "test", "validation": "test", "valid": "test", "val": "test"}
SPLITS |= {"training": "train", "testing": "test", "eval": "test", "evaluation": "test", "dev": "test"}
CAPTION_KEYS = ("text", "texts", "caption", "captions")
KEYS = ("file_name", *CAPTION_KEYS, "class", "bbox", "mask", "split")
_MOST_CLASS = 2**63  # packs store class numbers in 8 bytes
_T = TypeVar("_T")


class Unreadable(ValueError):
    """A line that names no image; the message says why."""


class _Mistake(ValueError):
    """What is wrong with one value of a line."""


@dataclass
class Row:
    """What one line, or several about one image, say.

    Attributes:
        name: of the picture, relative to the source folder.
        where: file and line.
        texts: all captions, those too that have no word in them.
        label: its class, a number or a name.
        unread: keys that mean nothing to tmgan.
        problem: what is wrong, with file and line; "" if nothing.
    """

    name: str
    where: str
    texts: list[str]
    label: int | str | None
    box: Box | None
    split: Split
    mask: str | None
    unread: tuple[str, ...] = ()
    problem: str = ""

    def merge(self, other: Row) -> None:
        """Add the captions of another line about the same image. That they differ in anything else is a problem."""
        for key, name in (("label", "class"), ("box", "box"), ("split", "split"), ("mask", "mask")):
            first, second = getattr(self, key), getattr(other, key)
            if first != second and not other.problem:
                other.problem = (
                    f"{other.where}: {self.name} was listed before ({self.where}) with another {name}: {first!r}, here "
                    f"{second!r}"
                )
        self.problem = self.problem or other.problem
        self.texts += other.texts


def split_of(name: str) -> Split | None:
    """The split that a word stands for, however it is written."""
    return SPLITS.get(name.strip().lower())


def split_by_name(name: str) -> Split:
    """The split of an image that no list gives one: 1 in 10 is for testing, by its name, the same in every run."""
    digest = hashlib.sha256(name.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % 10 == 0 else "train"


def read_row(line: Line, where: str, root: Path, folder: Path, split: Split | None) -> Row:
    """Read a line of a metadata.jsonl in `folder`, in the source folder `root`; `split` is what the folder stands for.

    Raises:
        Unreadable: it names no image.
    """
    value = _object(line)
    name = value.get("file_name")
    if not isinstance(name, str):
        raise Unreadable('expected an object with "file_name", such as {"file_name": "0001.png", "text": "a bird"}')
    if "file_name" in value.twice:
        raise Unreadable('the key "file_name" occurs twice')
    try:
        name = path_on_disk(name, root, folder)
    except _Mistake as mistake:
        raise Unreadable(str(mistake)) from None
    mistakes = [f'the key "{key}" occurs twice' for key in value.twice]

    def read(function: Callable[..., _T], *arguments: Any, otherwise: _T) -> _T:
        try:
            return function(*arguments)
        except _Mistake as mistake:
            mistakes.append(str(mistake))
            return otherwise

    row = Row(
        name=name,
        where=where,
        texts=read(_texts, value, otherwise=[]),
        label=read(_label, value.get("class"), otherwise=None),
        box=read(_box, value.get("bbox"), otherwise=None),
        split=read(_split, value.get("split"), split, name, otherwise="train"),
        mask=read(_mask, value.get("mask"), root, folder, otherwise=None),
        unread=tuple(key for key in value if key not in KEYS),
    )
    if mistakes:
        row.problem = f"{where}: {'; '.join(mistakes)}"
    return row


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys occurred twice: json would take the last one without a word."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs)
        self.twice = [key for key, count in counts.items() if count > 1]


def _object(line: Line) -> _Object:
    if line.damaged:
        raise Unreadable(DAMAGE)
    try:
        value = parse_json(line.text, object_pairs_hook=_Object)
    except ValueError as error:
        raise Unreadable(f"not JSON ({error})") from None
    if not isinstance(value, _Object):
        raise Unreadable('expected an object with "file_name", such as {"file_name": "0001.png", "text": "a bird"}')
    return value


def path_on_disk(name: Any, root: Path, folder: Path) -> str:
    """`name`, which is relative to `folder`, made relative to `root`, and as it is spelt on the disk.

    A list that was written on Windows has backslashes, and one from a Mac may have é as e and an accent: such a name is
    obeyed when its file exists.
    """
    windows = PureWindowsPath(name) if isinstance(name, str) else None
    if not name or windows is None or windows.root or ".." in windows.parts or "\0" in name:
        raise _Mistake(f"{name!r} is not a path inside {folder}")
    try:
        name = next((spelling for spelling in _spellings(name) if (folder / spelling).exists()), name)
    except (OSError, ValueError) as error:  # too long, or with characters that no file name has
        raise _Mistake(f"{name!r:.80} cannot be the name of a file ({error})") from None
    path = (PurePosixPath(folder.relative_to(root).as_posix()) / name).as_posix()
    try:
        path.encode()
    except UnicodeEncodeError:
        raise _Mistake(f"{name!r} is not text") from None
    return path


def _spellings(name: str) -> Iterator[str]:
    """Ways to write a name, as it is first."""
    yield name
    for text in (name, name.replace("\\", "/")):
        yield text
        for form in ("NFC", "NFD"):
            yield unicodedata.normalize(form, text)


def _texts(value: _Object) -> list[str]:
    found = [key for key in CAPTION_KEYS if key in value]
    if len(found) != 1:
        names = '"text", "texts", "caption" and "captions"'
        raise _Mistake(f"expected exactly one of {names}, found {len(found)} of them")
    texts = value[found[0]]
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _Mistake(f"a caption is a string, or a list of strings; {found[0]} is {texts!r:.60}")
    return texts


def _label(value: Any) -> int | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and -_MOST_CLASS <= value < _MOST_CLASS:
        return value
    raise _Mistake(f"a class is a name or a whole number (of at most 8 bytes), found {value!r:.60}")


def _box(value: Any) -> Box | None:
    if value is None:
        return None
    box = to_box(value) if isinstance(value, list) else None
    if box is None:
        raise _Mistake(f"bbox is {BOX_RULE}, found {value!r:.60}")
    return box


def _split(value: Any, folder: Split | None, name: str) -> Split:
    """What the line says, else what the folder of the metadata or the nearest one of the picture stands for.

    Else by the picture's name (split_by_name).
    """
    if value is None:
        folders = reversed(PurePosixPath(name).parts[:-1])
        named = folder or next(filter(None, map(split_of, folders)), None)
        if named is not None:
            return named
        return split_by_name(name)
    split = split_of(value) if isinstance(value, str) else None
    if split is None:
        raise _Mistake(f"the split is one of {', '.join(SPLITS)}, found {value!r:.60}")
    return split


def _mask(value: Any, root: Path, folder: Path) -> str | None:
    return None if value is None else path_on_disk(value, root, folder)
