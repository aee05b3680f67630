"""What a folder of photographs and captions looks like once its lists have been read, whatever its layout was.

Reading a source looks at lists and captions only; pictures are opened by `prepare`. What is wrong with one picture
becomes that item's `problem`, so that all of them can be reported together; what makes the lists themselves unusable
is a ValueError.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Box = tuple[float, float, float, float]
Split = Literal["train", "test"]
Kind = Literal["cub", "imagefolder", "coco", "coco-metadata", "flowers"]
BOX_RULE = "[x, y, width, height] in pixels"
_FARTHEST = 1e9  # in pixels; beyond it is no picture, and whole numbers of that size would overflow later


def to_box(values: Sequence[Any]) -> Box | None:
    """Four finite numbers as a box; None when they are something else. Text is none: see cub.py for lists of words."""
    if len(values) != 4 or any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        return None
    if not all(-_FARTHEST < value < _FARTHEST for value in values):  # NaN is not
        return None
    x, y, width, height = map(float, values)
    return x, y, width, height


def obeys_exif(kind: str) -> bool:
    """Whether a layout's pictures are turned upright: where they may be of one's own. Published code does not."""
    return kind in ("imagefolder", "coco")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One photograph.

    Attributes:
        box: (x, y, width, height) in pixels of the upright image.
        mask: white on the object.
        parts: label map (drawn birds only).
        colours: name of each part's colour (drawn birds only).
        patterns: name of each part's pattern (drawn birds with patterns only).
        problem: why it cannot be used, as far as the lists tell; "" if it can.
    """

    name: str
    image: Path
    captions: tuple[str, ...]
    class_id: int
    split: Split
    box: Box | None = None
    mask: Path | None = None
    parts: Path | None = None
    colours: dict[str, str] | None = None
    patterns: dict[str, str] | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """All photographs of a folder, the training split first, and the words of their captions.

    Attributes:
        vocabulary: words in order of their ids, "<end>" first, from captions.pickle or as given; None without.
        token_ids: word ids of each caption of each item, if there is a vocabulary; else None.
        vocabulary_from: where the vocabulary is from that `prepare` was given in place of the source's own; else "".
        class_names: name of each class id; empty where every image is its own class.
        dropped: number of caption lines without any word.
        unreadable: lines of a list that name no image that could be looked for: "file, line n" -> what is wrong. They
            are images that cannot be used, like an item with a problem.
        notes: what the user should know.
    """

    path: Path
    kind: Kind
    items: tuple[Item, ...]
    class_names: dict[int, str]
    vocabulary: tuple[str, ...] | None = None
    token_ids: tuple[tuple[tuple[int, ...], ...], ...] | None = None
    vocabulary_from: str = ""
    dropped: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def exif(self) -> bool:
        """Whether EXIF orientations are obeyed."""
        return obeys_exif(self.kind)

    def listing_hash(self) -> str:
        """sha256 (hex) of everything the lists say, in order; the pictures are not read."""
        # Earlier versions read COCO's metadata as if it were CUB's: their packs stay the same.
        kind = "cub" if self.kind == "coco-metadata" else self.kind
        digest = hashlib.sha256(json.dumps([kind, self.vocabulary, sorted(self.class_names.items())]).encode())
        for number, item in enumerate(self.items):
            maps = [file and file.name for file in (item.mask, item.parts)]
            ids = self.token_ids and self.token_ids[number]
            row = [item.name, maps, item.captions, ids, item.class_id, item.split, item.box, item.colours]
            row += [item.patterns] if item.patterns is not None else []  # others keep the hash of earlier versions
            digest.update(json.dumps(row, sort_keys=True).encode())
        return digest.hexdigest()
