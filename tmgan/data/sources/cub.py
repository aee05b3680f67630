"""Read CUB-200-2011 with the captions of Reed and the lists of AttnGAN.

Everything is joined by name, never by position, except where the published pickles have nothing but positions
(captions.pickle, class_info.pickle): there the counts, the captions' own text and the class folders are compared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tmgan.common.commands import command
from tmgan.data.captions import tokenize
from tmgan.data.sources.caption_pickle import CAPTION_PICKLES, SPLITS, check_same_captions, read_captions
from tmgan.data.sources.cub_tables import (
    integers,
    is_inside,
    read_beside_images,
    read_boxes,
    read_names,
    read_train_ids,
)
from tmgan.data.sources.lines import read_lines, read_text
from tmgan.data.sources.lost_words import LostWords
from tmgan.data.sources.source import Item, Source, Split
from tmgan.data.sources.unpickle import load_metadata_pickle


@dataclass(frozen=True)
class Layout:
    """Where the parts of a CUB folder are; a missing part is None."""

    path: Path
    cub: Path
    lists: Path
    text: Path | None
    captions: Path | None
    segmentations: Path | None
    parts: Path | None
    colours: Path | None
    patterns: Path | None
    archive: Path | None  # captions that were not unpacked: AttnGAN's birds.zip holds a text.zip, easily overlooked

    @classmethod
    def find(cls, path: Path) -> Layout:
        """Look for the parts in and around `path`. ValueError when there is no CUB_200_2011/images."""
        cub = path / "CUB_200_2011" if (path / "CUB_200_2011").is_dir() else path
        if not (cub / "images").is_dir():
            raise ValueError(
                f"{path} has neither CUB_200_2011/images nor metadata.jsonl. What is expected where is shown by\n"
                f"  {command('data', 'doctor', path)}"
            )
        around = [path, cub] if cub != path else [path, path.parent]

        def first(*names: str) -> Path | None:
            return next((folder / name for folder in around for name in names if (folder / name).exists()), None)

        filenames = first("train/filenames.pickle")
        return cls(
            path=path,
            cub=cub,
            lists=filenames.parent.parent if filenames else path,
            text=first("text", "text_c10"),
            captions=first(*CAPTION_PICKLES),
            segmentations=first("segmentations"),
            parts=first("parts_map"),
            colours=first("colours.json"),
            patterns=first("patterns.json"),
            archive=first("text.zip", "birds.zip"),
        )


@dataclass(frozen=True)
class _Entry:
    name: str
    class_id: int
    split: Split


def read(layout: Layout) -> Source:
    """Read the lists and captions of a CUB folder.

    Raises:
        ValueError: a list is missing, damaged or does not fit another; the message says which, and what to do.
    """
    if (layout.lists / "train/filenames.pickle").exists():
        entries, class_names, notes = _split_of_pickles(layout.lists)
    else:
        entries, class_names = _split_of_cub(layout.cub)
        notes = [
            "train/filenames.pickle is missing: CUB's own split is used, in which both splits have all classes (the "
            "published one has other classes in its test split)"
        ]
    _check_unique(entries, layout)
    if layout.captions is None and layout.text is None:
        unpack = f"unpack {layout.archive} there" if layout.archive else "put a text (or text_c10) folder there"
        raise ValueError(f"{layout.path} has no captions: {unpack}, with <class>/<image>.txt in it, or captions.pickle")

    text_folder = _read_texts(layout.text, entries)
    texts, problems, dropped = text_folder.captions, text_folder.problems, text_folder.dropped
    vocabulary = token_ids = None
    if layout.captions is not None:
        counts: dict[Split, int] = {split: sum(entry.split == split for entry in entries) for split in SPLITS}
        vocabulary, token_ids = read_captions(layout.captions, counts)
        check_same_captions(layout.captions, [entry.name for entry in entries], vocabulary, token_ids, texts)
        texts = [[" ".join(vocabulary[token] for token in ids) for ids in image] for image in token_ids]
        problems = {
            entry.name: f"no captions in {layout.captions}"
            for entry, image in zip(entries, texts, strict=True)
            if not image
        }
        dropped = 0
    else:
        text_folder.lost.check(layout.path)
        notes += text_folder.notes()

    box_table = read_boxes(layout.cub)
    boxes, bad_boxes = (None, {}) if box_table is None else box_table
    colours = _read_of_parts(layout.colours, "red") if layout.colours else {}
    patterns = _read_of_parts(layout.patterns, "spotted") if layout.patterns else {}
    items = []
    for entry, captions in zip(entries, texts, strict=True):
        problem = problems.get(entry.name) or bad_boxes.get(entry.name, "")
        if boxes is not None and entry.name not in boxes:
            problem = problem or f"no bounding box: images.txt does not list {entry.name}.jpg"
        if layout.colours and entry.name not in colours:
            problem = problem or f"no colours: {layout.colours} does not list {entry.name}"
        if layout.patterns and entry.name not in patterns:
            problem = problem or f"no patterns: {layout.patterns} does not list {entry.name}"
        items.append(
            Item(
                name=entry.name,
                image=layout.cub / "images" / f"{entry.name}.jpg",
                captions=tuple(captions),
                class_id=entry.class_id,
                split=entry.split,
                box=boxes.get(entry.name) if boxes is not None else None,
                mask=layout.segmentations / f"{entry.name}.png" if layout.segmentations else None,
                parts=layout.parts / f"{entry.name}.png" if layout.parts else None,
                colours=colours.get(entry.name),
                patterns=patterns.get(entry.name),
                problem=problem,
            )
        )
    return Source(
        path=layout.path,
        kind="cub",
        items=tuple(items),
        class_names=class_names,
        vocabulary=vocabulary,
        token_ids=token_ids,
        dropped=dropped,
        notes=tuple(notes),
    )


@dataclass
class _Texts:
    """What the text folder says.

    Attributes:
        captions: of each entry, those with a word in them.
        problems: what is wrong with the captions of a name.
        dropped: number of lines without a word.
        damaged: lines with bytes that are not UTF-8, as "file, line n".
    """

    captions: list[list[str]]
    problems: dict[str, str] = field(default_factory=dict)
    dropped: int = 0
    lost: LostWords = field(default_factory=LostWords)
    damaged: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """What of the captions is not read."""
        damaged = f"caption lines with bytes that are not UTF-8 (they split words): {len(self.damaged)}, the first in "
        return [
            *([damaged + self.damaged[0]] if self.damaged else []),
            *([self.lost.note()] if self.lost.note() else []),
        ]


def _read_texts(folder: Path | None, entries: list[_Entry]) -> _Texts:
    texts = _Texts([[] for _ in entries])
    for entry, captions in zip(entries, texts.captions, strict=True):
        if folder is None:
            continue
        file = folder / f"{entry.name}.txt"
        if not file.is_file():
            texts.problems[entry.name] = f"no captions: {file} is missing"
            continue
        for line in read_lines(file):
            text = line.text.strip()
            texts.lost.add(text)
            if tokenize(text):
                captions.append(text)
            else:
                texts.dropped += 1
            if line.damaged:
                texts.damaged.append(f"{file}, line {line.number}")
        if not captions:
            texts.problems[entry.name] = f"no captions: {file} holds none"
    return texts


def _read_of_parts(file: Path, example: str) -> dict[str, dict[str, str]]:
    """What a file says of each image's parts: name -> part -> word."""
    try:
        table = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON ({error})") from None
    for name, parts in table.items() if isinstance(table, dict) else [("", table)]:
        if not isinstance(parts, dict) or not all(isinstance(word, str) for word in parts.values()):
            raise ValueError(
                f'{file}: expected an object such as {{"001.Kind/Kind_0000": {{"head": "{example}"}}}}, found '
                f"{f'{name!r}: ' if name else ''}{parts!r:.60}"
            )
    return table


def _split_of_pickles(folder: Path) -> tuple[list[_Entry], dict[int, str], list[str]]:
    """AttnGAN's split (by class): {train,test}/filenames.pickle, and class_info.pickle if it exists."""
    entries: list[_Entry] = []
    class_names: dict[int, str] = {}
    notes: list[str] = []
    for split in SPLITS:
        file, info = folder / split / "filenames.pickle", folder / split / "class_info.pickle"
        if not file.exists():
            raise ValueError(
                f"{file} is missing, but that of the other split exists: both belong to AttnGAN's metadata"
            )
        names = load_metadata_pickle(file)
        if not isinstance(names, list) or not all(map(is_inside, names)):
            raise ValueError(f"{file}: expected a list of names such as 001.Blackbird/Blackbird_0000_000001")
        if info.exists():
            classes = integers(load_metadata_pickle(info), info)
            if len(classes) != len(names):
                raise ValueError(
                    f"{info} has {len(classes)} classes, {file} {len(names)} names: they are not of one set"
                )
            folders = _name_classes(info, names, classes)
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
        entries += [_Entry(name, number, split) for name, number in zip(names, classes, strict=True)]
    return entries, class_names, notes


def _name_classes(file: Path, names: list[str], classes: list[int]) -> dict[int, str]:
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


def _split_of_cub(cub: Path) -> tuple[list[_Entry], dict[int, str]]:
    """CUB's own split: images.txt, train_test_split.txt and image_class_labels.txt, joined by image id."""
    names = read_names(cub)
    train, classes = read_train_ids(cub, names), read_beside_images(cub, "image_class_labels.txt", names)
    numbers = integers([classes[n].text for n in names], cub / "image_class_labels.txt")
    class_names = _name_classes(cub / "image_class_labels.txt", list(names.values()), numbers)
    entries = [
        _Entry(name, number, "train" if n in train else "test")
        for (n, name), number in zip(names.items(), numbers, strict=True)
    ]
    return sorted(entries, key=lambda entry: entry.split == "test"), class_names


def _check_unique(entries: list[_Entry], layout: Layout) -> None:
    if not entries:
        raise ValueError(f"{layout.path}: its lists name no image")
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.name in seen:
            splits = f"{seen[entry.name]} and {entry.split}"
            raise ValueError(f"{entry.name} is listed twice ({splits}): an image belongs to one split, once")
        seen[entry.name] = entry.split
