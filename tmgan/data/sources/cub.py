"""Read CUB-200-2011 with the captions of Reed and the lists of AttnGAN.

Everything is joined by name, never by position, except where the published pickles have nothing but positions
(captions.pickle, class_info.pickle): there the counts, the captions' own text and the class folders are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tmgan.common.json_text import parse_json
from tmgan.data.sources.caption_pickle import CAPTION_PICKLES
from tmgan.data.sources.cub_tables import integers, read_beside_images, read_boxes, read_names, read_train_ids
from tmgan.data.sources.lines import read_text
from tmgan.data.sources.published_captions import read_published
from tmgan.data.sources.source import Item, Source
from tmgan.data.sources.split_pickles import Entry, check_unique, count_splits, name_classes, read_split


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
    def find(cls, path: Path) -> Layout | None:
        """Look for the parts in and around `path`; None when it neither holds CUB_200_2011 nor is it."""
        if (path / "CUB_200_2011" / "images").is_dir():
            return cls.around(path, path / "CUB_200_2011")
        return cls.around(path, path) if (path / "images").is_dir() and (path / "images.txt").is_file() else None

    @classmethod
    def around(cls, path: Path, cub: Path) -> Layout:
        """Look for the parts in `path` and in or around the folder `cub` that has the images."""
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


def read(layout: Layout) -> Source:
    """Read the lists and captions of a CUB folder.

    Raises:
        ValueError: a list is missing, damaged or does not fit another; the message says which, and what to do.
    """
    if (layout.lists / "train/filenames.pickle").exists():
        entries, class_names, notes = read_split(layout.lists, "001.Blackbird/Blackbird_0000_000001")
    else:
        entries, class_names = _split_of_cub(layout.cub)
        notes = [
            "train/filenames.pickle is missing: CUB's own split is used, in which both splits have all classes (the "
            "published one has other classes in its test split)"
        ]
    check_unique(entries, layout.path)
    if layout.captions is None and layout.text is None:
        unpack = f"unpack {layout.archive} there" if layout.archive else "put a text (or text_c10) folder there"
        raise ValueError(f"{layout.path} has no captions: {unpack}, with <class>/<image>.txt in it, or captions.pickle")

    files = {entry.name: layout.text and layout.text / f"{entry.name}.txt" for entry in entries}
    captions = read_published(layout.path, files, layout.captions, count_splits(entries))
    box_table = read_boxes(layout.cub)
    boxes, bad_boxes = (None, {}) if box_table is None else box_table
    colours = _read_of_parts(layout.colours, "red") if layout.colours else {}
    patterns = _read_of_parts(layout.patterns, "spotted") if layout.patterns else {}
    items = []
    for entry, texts in zip(entries, captions.texts, strict=True):
        problem = captions.problems.get(entry.name) or bad_boxes.get(entry.name, "")
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
                captions=tuple(texts),
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
        vocabulary=captions.vocabulary,
        token_ids=captions.token_ids,
        dropped=captions.dropped,
        notes=(*notes, *captions.notes),
    )


def _read_of_parts(file: Path, example: str) -> dict[str, dict[str, str]]:
    """What a file says of each image's parts: name -> part -> word."""
    try:
        table = parse_json(read_text(file))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from None
    for name, parts in table.items() if isinstance(table, dict) else [("", table)]:
        if not isinstance(parts, dict) or not all(isinstance(word, str) for word in parts.values()):
            raise ValueError(
                f'{file}: expected an object such as {{"001.Kind/Kind_0000": {{"head": "{example}"}}}}, found '
                f"{f'{name!r}: ' if name else ''}{parts!r:.60}"
            )
    return table


def _split_of_cub(cub: Path) -> tuple[list[Entry], dict[int, str]]:
    """CUB's own split: images.txt, train_test_split.txt and image_class_labels.txt, joined by image id."""
    names = read_names(cub)
    train, classes = read_train_ids(cub, names), read_beside_images(cub, "image_class_labels.txt", names)
    numbers = integers([classes[n].text for n in names], cub / "image_class_labels.txt")
    class_names = name_classes(cub / "image_class_labels.txt", list(names.values()), numbers)
    entries = [
        Entry(name, number, "train" if n in train else "test")
        for (n, name), number in zip(names.items(), numbers, strict=True)
    ]
    return sorted(entries, key=lambda entry: entry.split == "test"), class_names
