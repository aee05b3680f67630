"""Read COCO as AttnGAN's metadata lists it: {train,test}/filenames.pickle, captions.pickle and text/<image>.txt.

Pictures lie in images, as published, or where COCO's archives unpack to. They have no boxes, and mostly no classes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tmgan.data.sources.caption_pickle import CAPTION_PICKLES
from tmgan.data.sources.published_captions import read_published
from tmgan.data.sources.source import Item, Source
from tmgan.data.sources.split_pickles import SPLITS, check_unique, count_splits, read_split
from tmgan.data.sources.unpickle import load_metadata_pickle

_NAME = re.compile(r"COCO_([a-z]+\d{4})_\d{12}")
_EXAMPLE = "COCO_train2014_000000000009"


@dataclass(frozen=True)
class Layout:
    """Where the parts of the metadata are; a missing part is None."""

    path: Path
    text: Path | None
    captions: Path | None
    archive: Path | None  # captions that were not unpacked

    @classmethod
    def find(cls, path: Path) -> Layout | None:
        """Look for the parts in `path`; None when it has no list that begins with the name of a COCO picture.

        Raises:
            ValueError: a list is damaged.
        """
        file = next((file for split in SPLITS if (file := path / split / "filenames.pickle").is_file()), None)
        if file is None or (path / "CUB_200_2011").is_dir():
            return None
        names = load_metadata_pickle(file)
        if not isinstance(names, (list, tuple)) or not names or not _is_of_coco(names[0]):
            return None

        def first(*names: str) -> Path | None:
            return next((path / name for name in names if (path / name).exists()), None)

        return cls(path, text=first("text"), captions=first(*CAPTION_PICKLES), archive=first("text.zip", "coco.zip"))


def _is_of_coco(name: Any) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def read(layout: Layout) -> Source:
    """Read the lists and captions of COCO's metadata.

    Raises:
        ValueError: a list is missing, damaged or does not fit another; the message says which, and what to do.
    """
    entries, class_names, _ = read_split(layout.path, _EXAMPLE)  # its notes are of class_info.pickle, mostly missing
    check_unique(entries, layout.path)
    if layout.captions is None and layout.text is None:
        unpack = f"unpack {layout.archive} there" if layout.archive else "put a text folder there"
        raise ValueError(f"{layout.path} has no captions: {unpack}, with <image>.txt in it, or captions.pickle")
    files = {entry.name: layout.text and layout.text / f"{entry.name}.txt" for entry in entries}
    captions = read_published(layout.path, files, layout.captions, count_splits(entries))
    return Source(
        path=layout.path,
        kind="coco-metadata",
        items=tuple(
            Item(
                name=entry.name,
                image=_picture(layout.path, entry.name),
                captions=tuple(texts),
                class_id=entry.class_id,
                split=entry.split,
                problem=captions.problems.get(entry.name, ""),
            )
            for entry, texts in zip(entries, captions.texts, strict=True)
        ),
        class_names=class_names,
        vocabulary=captions.vocabulary,
        token_ids=captions.token_ids,
        dropped=captions.dropped,
        notes=captions.notes,
    )


def _picture(path: Path, name: str) -> Path:
    """The file of a picture: in images, as published, or in the folder of its archive, train2014 or val2014."""
    places = [path / "images"]
    if match := _NAME.fullmatch(name):
        places += [path / "images" / match[1], path / match[1]]
    files = [place / f"{name}.jpg" for place in places]
    return next((file for file in files if file.exists()), files[0])
