"""Read Oxford-102 flowers with the captions of Reed.

Images are numbered, and everything is joined by that number. The split is the first that is there of Reed's by class
(trainvalclasses.txt), published metadata's (train/filenames.pickle) and Oxford's own (setid.mat).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tmgan.data.sources.caption_pickle import CAPTION_PICKLES
from tmgan.data.sources.flower_tables import CLASS_LISTS, image_name, read_class_lists, read_labels, read_sets
from tmgan.data.sources.published_captions import read_published
from tmgan.data.sources.source import Item, Source, Split
from tmgan.data.sources.split_pickles import SPLITS, Entry, check_unique, count_splits, read_names

_FOLDERS = ("", "flowers-102", "cvpr2016_flowers")  # the second is torchvision's, the third Reed's
_NAME = re.compile(r"image_([0-9]{5})")
_CLASS = re.compile(r"class_([0-9]{5})")


@dataclass(frozen=True)
class Layout:
    """Where the parts of Oxford-102 are; a missing part is None."""

    path: Path
    images: Path
    text: Path | None
    labels: Path | None
    sets: Path | None
    classes: Path | None  # the folder of Reed's two lists
    lists: Path | None  # the folder of {train,test}/filenames.pickle
    captions: Path | None
    archive: Path | None  # captions that were not unpacked

    @classmethod
    def find(cls, path: Path) -> Layout | None:
        """Look for the parts in and around `path`; None when it has neither pictures nor a list of Oxford's."""
        around = [path / folder for folder in _FOLDERS]

        def first(*names: str) -> Path | None:
            return next((folder / name for folder in around for name in names if (folder / name).exists()), None)

        images, labels, sets = first("jpg"), first("imagelabels.mat"), first("setid.mat")
        if images is None or not (labels or sets or any(images.glob("image_*.jpg"))):
            laid_out_as_cub = (path / "images").is_dir() and (path / "train" / "filenames.pickle").is_file()
            if laid_out_as_cub or (labels is None and sets is None):
                return None
            images = path / "jpg"
        if path.name == "flowers-102":  # the captions are not torchvision's, so they may lie beside it
            around.append(path.parent)
        classes, lists = first(*CLASS_LISTS), first(*(f"{split}/filenames.pickle" for split in SPLITS))
        return cls(
            path=path,
            images=images,
            text=first("text_c10", "text"),
            labels=labels,
            sets=sets,
            classes=classes and classes.parent,
            lists=lists and lists.parent.parent,
            captions=first(*CAPTION_PICKLES),
            archive=first("cvpr2016_flowers.tar.gz", "text_c10.zip", "text.zip", "flowers.zip"),
        )


def read(layout: Layout) -> Source:
    """Read the lists and captions of Oxford-102 flowers.

    Without imagelabels.mat an image's class is that of its captions' folder.

    Raises:
        ValueError: a list is missing, damaged or does not fit another; the message says which, and what to do.
    """
    if not layout.images.is_dir():
        raise ValueError(f"{layout.images} is missing: unpack 102flowers.tgz there, for jpg/image_00001.jpg and so on")
    pickle = layout.captions if layout.lists and not layout.classes else None  # it has the order of those lists
    if layout.text is None and pickle is None:
        unpack = f"unpack {layout.archive} there" if layout.archive else "put Reed's text_c10 folder there"
        raise ValueError(f"{layout.path} has no captions: {unpack}, with class_00001/image_00001.txt and so on in it")
    files = _text_files(layout.text) if layout.text else {}
    labels = read_labels(layout.labels) if layout.labels else None
    folders = _class_folders(files, labels, layout)
    splits, notes = _splits(layout, files, folders, labels)
    if layout.captions and not pickle:
        notes.append(f"not read: {layout.captions}, whose captions are in the order of {{train,test}}/filenames.pickle")
    if not folders:
        notes.append("imagelabels.mat is missing, and captions are in no class folders: every image is its own class")
    entries = _entries(layout, splits, folders, labels)
    check_unique(entries, layout.path)
    texts = {entry.name: _text_of(entry.name, layout.text, files, folders) for entry in entries}
    captions = read_published(layout.path, texts, pickle, count_splits(entries))
    unknown = "no class: its captions are in no class folder, and there is no imagelabels.mat"
    return Source(
        path=layout.path,
        kind="flowers",
        items=tuple(
            Item(
                name=entry.name,
                image=layout.images / f"{entry.name}.jpg",
                captions=tuple(image),
                class_id=entry.class_id,
                split=entry.split,
                problem=captions.problems.get(entry.name) or (unknown if entry.class_id < 0 else ""),
            )
            for entry, image in zip(entries, captions.texts, strict=True)
        ),
        class_names={entry.class_id: folders[entry.name] for entry in entries if entry.name in folders},
        vocabulary=captions.vocabulary,
        token_ids=captions.token_ids,
        dropped=captions.dropped,
        notes=(*notes, *captions.notes),
    )


def _text_files(folder: Path) -> dict[str, Path]:
    """The captions' files by the name of their image, in the order of the images. ValueError when an image has two."""
    files: dict[str, Path] = {}
    found = [file for file in folder.rglob("image_*.txt") if _NAME.fullmatch(file.stem)]
    for file in sorted(found, key=lambda file: (file.stem, file)):
        first = files.setdefault(file.stem, file)
        if first != file:
            raise ValueError(f"{file} and {first} are captions of one image: remove the one that is wrong")
    return files


def _text_of(name: str, folder: Path | None, files: Mapping[str, Path], folders: Mapping[str, str]) -> Path | None:
    """Where the captions of an image are, or should be."""
    if folder is None:
        return None
    return files.get(name) or folder / folders.get(name, "") / f"{name}.txt"


def _class_folders(files: Mapping[str, Path], labels: list[int] | None, layout: Layout) -> dict[str, str]:
    """The class of each image as the name of a folder, from its captions' folder or else from its label.

    Raises:
        ValueError: a label is of images in several folders: imagelabels.mat is for another order of images.
    """
    folders = {name: file.parent.name for name, file in files.items() if _CLASS.fullmatch(file.parent.name)}
    of_label: dict[int, str] = {}
    for number, label in enumerate(labels or [], 1):
        name = image_name(number)
        folder = folders.get(name)
        if folder is not None and of_label.setdefault(label, folder) != folder:
            raise ValueError(
                f"{layout.labels}: class {label} is {of_label[label]}, but the captions of {name} are in {folder}: it "
                "does not belong to these captions. Without it, classes follow from the captions' folders"
            )
    for number, label in enumerate(labels or [], 1):
        folders.setdefault(image_name(number), of_label.get(label, f"class_{label:05d}"))
    return folders


def _splits(
    layout: Layout, files: Mapping[str, Path], folders: Mapping[str, str], labels: list[int] | None
) -> tuple[list[tuple[str, Split]], list[str]]:
    """The images and their splits, in any order, and notes about them."""
    if layout.classes:
        names = [image_name(number) for number in range(1, len(labels) + 1)] if labels else list(files)
        return _split_by_class(layout.classes, names, folders), []
    if layout.lists:
        return _split_of_pickles(layout.lists), []
    if layout.sets is None:
        raise ValueError(
            f"{layout.path} has no split: put Reed's {' and '.join(CLASS_LISTS)} there (for published results), or "
            "Oxford's setid.mat"
        )
    sets = read_sets(layout.sets, len(labels) if labels else None)
    train = sum(split == "train" for split in sets.values())
    notes = [
        f"the split is that of {layout.sets}, Oxford's own, in which both splits have all classes: trnid and valid are "
        f"for training ({train}), tstid, the larger part, for testing ({len(sets) - train}). Published results are of "
        f"Reed's split, {' and '.join(CLASS_LISTS)}"
    ]
    if labels and len(labels) > len(sets):
        notes.append(f"images that are in none of its sets, not used: {len(labels) - len(sets)}")
    return [(image_name(number), split) for number, split in sorted(sets.items())], notes


def _split_by_class(folder: Path, names: list[str], folders: Mapping[str, str]) -> list[tuple[str, Split]]:
    splits = read_class_lists(folder)
    for name in names:
        if folders.get(name) not in splits:
            kind = f"its class, {folders[name]}, is in neither list" if name in folders else "its class is unknown"
            raise ValueError(f"{folder}/{' and '.join(CLASS_LISTS)} give {name} no split: {kind}. Get both lists again")
    return [(name, splits[folders[name]]) for name in names]


def _split_of_pickles(folder: Path) -> list[tuple[str, Split]]:
    """The images of {train,test}/filenames.pickle, whose names may begin with a folder: jpg/image_00001."""
    images: list[tuple[str, Split]] = []
    for split in SPLITS:
        file = folder / split / "filenames.pickle"
        if not file.exists():
            raise ValueError(f"{file} is missing, but that of the other split exists: both belong to one split")
        for listed in read_names(file, "image_00001"):
            name = PurePosixPath(listed).name
            if not _NAME.fullmatch(name):
                raise ValueError(f"{file}: expected a list of names such as image_00001, found {listed!r:.60}")
            images.append((name, split))
    return images


def _entries(
    layout: Layout, images: list[tuple[str, Split]], folders: Mapping[str, str], labels: list[int] | None
) -> list[Entry]:
    """The images with their classes, -1 where only others have one, the training split first."""
    entries = []
    for place, (name, split) in enumerate(sorted(images, key=lambda pair: pair[1] == "test")):
        number = int(name.removeprefix("image_"))
        if labels is not None and not 0 < number <= len(labels):
            raise ValueError(f"{layout.labels} has {len(labels)} images, but {name} is listed: they are not of one set")
        if labels is not None:
            class_id = labels[number - 1]
        elif name in folders:
            class_id = int(folders[name].removeprefix("class_"))
        else:
            class_id = -1 if folders else place
        entries.append(Entry(name, class_id, split))
    return entries
