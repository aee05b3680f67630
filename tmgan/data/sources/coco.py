"""Read a folder in COCO's layout: pictures, and captions_*.json that say what they show.

Each json file is a split by its name. Pictures have no boxes and no classes: every image is its own class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tmgan.common.json_text import parse_json
from tmgan.data.captions import tokenize
from tmgan.data.sources.cub_tables import is_inside
from tmgan.data.sources.lines import read_text
from tmgan.data.sources.lost_words import LostWords
from tmgan.data.sources.metadata_row import SPLITS, path_on_disk, split_by_name, split_of
from tmgan.data.sources.source import Item, Source, Split

PATTERN = "captions_*.json"
_EXAMPLE = '{"images": [{"id": 9, "file_name": "9.jpg"}], "annotations": [{"image_id": 9, "caption": "a cat"}]}'


@dataclass(frozen=True)
class Layout:
    """A folder and its captions_*.json files, in order of their names."""

    path: Path
    files: tuple[Path, ...]

    @classmethod
    def find(cls, path: Path) -> Layout | None:
        """The captions_*.json of `path` and of its folder annotations; None when there are none."""
        files = [file for folder in (path / "annotations", path) for file in sorted(folder.glob(PATTERN))]
        return cls(path, tuple(files)) if files else None

    def splits(self) -> dict[Path, Split | None]:
        """What each file is for; None: it is the only one, so a tenth of its images is for testing.

        Raises:
            ValueError: a name does not say what the file is for, or the files are of several years.
        """
        if len(self.files) == 1:
            return {self.files[0]: None}
        years = {year[0]: file for file in self.files if (year := re.search(r"\d{4}$", file.stem))}
        if len(years) > 1:
            (one, here), (other, there) = list(years.items())[:2]
            raise ValueError(
                f"{here} is of {one}, {there} of {other}: COCO's years split the same photos in different ways, so a "
                "photo could be for training and for testing. Move the files of all years but one elsewhere"
            )
        splits: dict[Path, Split | None] = {}
        for file in self.files:
            found = {split for word in re.findall("[a-z]+", file.stem.lower()) if (split := split_of(word))}
            if len(found) != 1:
                raise ValueError(
                    f"{file}: its name does not say what it is for, as that of captions_train.json does (one of "
                    f"{', '.join(SPLITS)}): rename it, or move it elsewhere"
                )
            splits[file] = found.pop()
        return dict(sorted(splits.items(), key=lambda pair: pair[1] == "test"))


def refuse_misplaced(path: Path) -> None:
    """Raise ValueError when a folder has annotations of COCO without captions, or captions_*.json one level deeper."""
    others = sorted((path / "annotations").glob("*.json"))
    if others:
        raise ValueError(
            f"{others[0].parent} holds {others[0].name}, but no {PATTERN}, which have the captions: they are in the "
            "same archive of annotations"
        )
    for file in sorted([*path.glob(f"*/annotations/{PATTERN}"), *path.glob(f"*/{PATTERN}")]):
        folder = file.parent.parent if file.parent.name == "annotations" else file.parent
        raise ValueError(f"{path} has no {PATTERN}, but {folder} has: name that folder, or move its files here")


@dataclass
class _Image:
    """What one file says of a picture: its name as it is listed, and all captions, those too without a word."""

    id: int | str
    name: str
    captions: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass
class _Listing:
    """What all files add up to."""

    items: dict[str, Item] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)  # each item's file and image id
    unreadable: dict[str, str] = field(default_factory=dict)
    lost: LostWords = field(default_factory=LostWords)
    dropped: int = 0
    notes: list[str] = field(default_factory=list)


def read(layout: Layout) -> Source:
    """Read the captions of a COCO folder, which any number of captions per image may have.

    Raises:
        ValueError: a file is damaged, is not of captions, names an image twice, or its pictures are not there.
    """
    listing = _Listing()
    for file, split in layout.splits().items():
        _read_file(listing, layout.path, file, split)
    if not listing.items and not listing.unreadable:
        raise ValueError(f"{', '.join(map(str, layout.files))}: no image is listed")
    listing.lost.check(layout.path)
    items = sorted(listing.items.values(), key=lambda item: item.split == "test")
    return Source(
        path=layout.path,
        kind="coco",
        items=tuple(replace(item, class_id=number) for number, item in enumerate(items)),
        class_names={},
        dropped=listing.dropped,
        unreadable=listing.unreadable,
        notes=tuple(filter(None, [*listing.notes, listing.lost.note()])),
    )


def _read_file(listing: _Listing, path: Path, file: Path, split: Split | None) -> None:
    """Add the images of one file."""
    images = _images(listing, file)
    folder = _picture_folder(path, file, [image.name for image in images])
    if split is None:
        listing.notes.append(
            f"{file} is the only {PATTERN}: a tenth of its images, chosen by their names, is for testing"
        )
    for image in images:
        where = f"{file.name}, image id {image.id}"
        try:
            name = path_on_disk(image.name, path, folder)
        except ValueError as error:
            listing.unreadable[where] = str(error)
            continue
        if name in listing.items:
            raise ValueError(
                f"{file}: {image.name} (image id {image.id}) is listed twice, first as {listing.where[name]}: an image "
                "belongs to one split, once"
            )
        captions = tuple(text.strip() for text in image.captions if tokenize(text))
        listing.dropped += len(image.captions) - len(captions)
        for text in image.captions:
            listing.lost.add(text)
        problem = image.problem or ("" if captions else f"no caption with a word in {where}")
        listing.where[name] = where
        listing.items[name] = Item(
            name=name,
            image=path / name,
            captions=captions,
            class_id=len(listing.items),
            split=split or split_by_name(name),
            problem=problem,
        )


def _images(listing: _Listing, file: Path) -> list[_Image]:
    """The images of a file with their captions; those that name no picture become unreadable."""
    table = _load(file)
    images: dict[int | str, _Image] = {}
    for number, row in enumerate(table["images"], 1):
        key, name = _pair(row, "id", "file_name")
        if key is None or not isinstance(name, str):
            listing.unreadable[f"{file.name}, image {number} of its list"] = (
                f'expected an object such as {{"id": 9, "file_name": "9.jpg"}}, found {row!r:.60}'
            )
        elif key in images:
            raise ValueError(
                f"{file}: two images have the id {key!r} ({images[key].name!r} and {name!r}), so whose captions are "
                "whose is unknown: get the file again"
            )
        else:
            images[key] = _Image(key, name)
    orphans = 0
    for number, row in enumerate(table["annotations"], 1):
        key, caption = _pair(row, "image_id", "caption")
        if key is None or caption is None:
            raise ValueError(
                f"{file}, annotation {number}: expected an image_id and a caption, found {row!r:.60}: it is another "
                "kind of annotations, or damaged"
            )
        image = images.get(key)
        if image is None:
            orphans += 1
        elif isinstance(caption, str):
            image.captions.append(caption)
        else:
            image.problem = f"{file.name}, annotation {number}: a caption is a string, found {caption!r:.60}"
    if orphans and orphans == len(table["annotations"]):
        raise ValueError(f"{file}: none of its captions is of one of its images: their ids are not of one set")
    if orphans:
        listing.notes.append(f"{file}: captions of images that it does not list, left out: {orphans}")
    return list(images.values())


def _load(file: Path) -> dict[str, list[Any]]:
    try:
        table = parse_json(read_text(file))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error}): get it again") from None
    lists = isinstance(table, dict) and [table.get(key) for key in ("images", "annotations")]
    if not lists or not all(isinstance(value, list) for value in lists):
        raise ValueError(f"{file}: expected an object with images and annotations, such as\n  {_EXAMPLE}")
    return table


def _pair(row: Any, key: str, value: str) -> tuple[int | str | None, Any]:
    """An image's id and another value of an object of a list; None where there is none."""
    if not isinstance(row, dict):
        return None, None
    number = row.get(key)
    is_id = isinstance(number, (int, str)) and not isinstance(number, bool)
    return number if is_id else None, row.get(value)


def _picture_folder(path: Path, file: Path, names: Sequence[str]) -> Path:
    """Where the pictures of a file are: the first of the usual folders that holds one of them.

    Raises:
        ValueError: none does.
    """
    word = file.stem.removeprefix("captions_")  # train2014
    split = word.rstrip("0123456789").rstrip("_-")
    places = [folder / part for part in dict.fromkeys((word, split)) if part for folder in (path, path / "images")]
    places += [path / "images", path]
    names = [name for name in names if is_inside(name)]
    for place in places:
        if not names or place.is_dir() and any(_is_there(place / name) for name in names):
            return place
    raise ValueError(
        f"{file}: none of its {len(names)} pictures is there. They are looked for in "
        f"{', '.join(map(str, places))}: unpack them into the first of these, or move {file.name} elsewhere to do "
        "without them"
    )


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that no file has
        return False
