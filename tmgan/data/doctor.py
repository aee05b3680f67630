"""Look at a source folder or a pack and say what it holds, what is missing and what to do: `tmgan data doctor`.

Quick by design: lists and captions are read in full, files are looked for, but only a sample of the pictures is
decoded.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tmgan.common.text import first_lines
from tmgan.data.captions import label_backend
from tmgan.data.decode import BadImage
from tmgan.data.masks import read_record
from tmgan.data.pack import CHANNELS, HEADER, PARTIAL, Pack
from tmgan.data.sources import image_folder
from tmgan.data.sources.cub import CAPTION_PICKLES, Layout
from tmgan.data.sources.read import read_source
from tmgan.data.sources.source import Item, Source
from tmgan.data.tiles import Job, cut_tiles, tile_edge
from tmgan.data.vocabulary import Vocabulary

Level = Literal["ok", "warning", "problem"]
SAMPLE = 50
FIX = "Fix them, or leave them out with --skip-bad"

EXPECTED = """\
CUB-200-2011 with the captions of Reed and the lists of AttnGAN:
  DIR/CUB_200_2011/images/001.Black_footed_Albatross/*.jpg    from CUB_200_2011.tgz, as are the next three
  DIR/CUB_200_2011/images.txt, bounding_boxes.txt             boxes by which images are cropped
  DIR/CUB_200_2011/image_class_labels.txt, train_test_split.txt   used only without the lists below
  DIR/CUB_200_2011/segmentations/<class>/*.png                optional: true masks
  DIR/text/<class>/<image>.txt                                captions, one per line (text.zip inside birds.zip)
  DIR/{train,test}/filenames.pickle, class_info.pickle        the published split (birds.zip)
  DIR/captions.pickle                                         optional: word ids of published text encoders
An image folder:
  DIR/metadata.jsonl, or DIR/train/metadata.jsonl and DIR/test/metadata.jsonl, one line per image:
  {"file_name": "0001.jpg", "text": "a red bird", "class": "finch", "bbox": [x, y, width, height], "mask": "m/1.png"}
  (`texts`: [...] for several captions; class, bbox, mask and split are optional)"""


@dataclass(frozen=True)
class Finding:
    """One observation. A "problem" stops `prepare`, a "warning" is worth knowing; `remedy` is what to do, or empty."""

    level: Level
    text: str
    remedy: str = ""


def examine(path: Path) -> list[Finding]:
    """Examine a source folder, a pack or an unfinished pack. What is wrong with them is reported, never raised."""
    path = Path(path)
    if not path.is_dir():
        return [Finding("problem", f"{path} is not a folder", f"Expected: a pack, or one of these.\n{EXPECTED}")]
    if (path / HEADER).exists() and (path / "tiles.u8").exists():
        return list(_examine_pack(path))
    if path.suffix == PARTIAL and (path / "tiles.u8").exists():
        return [
            Finding(
                "warning", f"{path} is an unfinished pack", "Run its `tmgan data prepare` command again: it continues"
            )
        ]
    return list(_examine_source(path))


def _examine_pack(path: Path) -> Iterator[Finding]:
    try:
        pack = Pack.open(path)
    except ValueError as error:
        yield Finding("problem", str(error))
        return
    header = pack.header
    yield Finding(
        "ok",
        f"a pack of {len(pack)} images for {header['image_size']} pixels, placement {header['placement']}, made from "
        f"{header['source']}",
    )
    yield Finding(
        "ok",
        f"{len(pack.train)} training and {len(pack.test)} test images, {len(pack.class_ids.unique())} classes, "
        f"{len(pack.tokens)} captions, {len(pack.vocabulary)} words, labels by {header['labels']}",
    )
    yield _optional(
        pack.masks is not None,
        "true masks",
        "the method that keeps what lies outside the masks cannot use the data set's own",
    )
    for record in sorted(path.glob("masks-*.json")):
        name = record.stem.removeprefix("masks-")
        try:
            masks = read_record(pack, name)
        except ValueError as error:
            yield Finding("problem", str(error))
        else:
            if masks is not None:
                about = ", ".join(f"{key} {value}" for key, value in masks["about"].items())
                yield Finding("ok", f"masks found by {name}: {about}")
    if not len(pack.test):
        yield Finding(
            "warning", "no image is in the test split", "Metrics on held-out images need one: see `split` in the source"
        )
    if header["skipped"]:
        lines = first_lines([f"{name}: {problem}" for name, problem in header["skipped"].items()])
        yield Finding("warning", f"{len(header['skipped'])} images of the source were left out:\n{lines}")


def _examine_source(path: Path) -> Iterator[Finding]:
    metadata = image_folder.metadata_files(path)
    if metadata:
        yield Finding("ok", f"an image folder: {', '.join(str(file) for file in metadata)}")
    else:
        try:
            layout = Layout.find(path)
        except ValueError:
            archives = sorted(file.name for pattern in ("*.zip", "*.tgz", "*.tar.gz") for file in path.glob(pattern))
            unpack = f"Unpack {', '.join(archives)} here first. " if archives else ""
            yield Finding(
                "problem",
                f"{path} has neither CUB_200_2011/images nor metadata.jsonl",
                f"{unpack}Expected: one of these.\n{EXPECTED}",
            )
            return
        yield from _examine_layout(layout)
    try:
        source = read_source(path)
    except (ValueError, OSError) as error:
        yield Finding("problem", str(error))
        return
    yield from _examine_listing(source)
    yield from _examine_files(source)
    yield from _examine_sample(source)


def _examine_layout(layout: Layout) -> Iterator[Finding]:
    yield Finding("ok", f"a CUB folder: images in {layout.cub / 'images'}")
    yield _optional(
        (layout.cub / "bounding_boxes.txt").exists(),
        "bounding_boxes.txt",
        "images are not cropped to the bird, as they are in published results",
        "It is part of CUB_200_2011.tgz",
    )
    yield _optional(
        (layout.lists / "train/filenames.pickle").exists(),
        "the published split (train/filenames.pickle)",
        "CUB's own split is used, in which both splits have all classes",
        "It is in AttnGAN's birds.zip",
    )
    if layout.text is None and layout.archive is not None:
        level: Level = "problem" if layout.captions is None else "warning"
        yield Finding(level, f"{layout.archive} is not unpacked", f"unzip {layout.archive} -d {layout.archive.parent}")
    yield _optional(layout.text is not None, "caption texts", "captions come from captions.pickle alone, unchecked")
    yield _optional(
        layout.captions is not None,
        CAPTION_PICKLES[0],
        "the vocabulary is made from the texts, so published text encoders do not fit",
        "It is in AttnGAN's birds.zip",
    )
    yield _optional(
        layout.segmentations is not None,
        "true masks (segmentations)",
        "methods cannot use the data set's own masks",
        "segmentations.tgz is a separate download of CUB-200-2011",
    )


def _optional(there: bool, what: str, loss: str, remedy: str = "") -> Finding:
    return Finding("ok", f"{what}: found") if there else Finding("warning", f"{what}: not found; {loss}", remedy)


def _examine_listing(source: Source) -> Iterator[Finding]:
    items = source.items
    train = sum(item.split == "train" for item in items)
    classes = len({item.class_id for item in items})
    level: Level = "ok" if 0 < train < len(items) else "warning" if train else "problem"
    yield Finding(level, f"{train} training and {len(items) - train} test images, {classes} classes")
    counts = [len(item.captions) for item in items]
    words = source.vocabulary or Vocabulary.from_captions(caption for item in items for caption in item.captions).words
    yield Finding(
        "ok",
        f"{sum(counts)} captions ({min(counts)} to {max(counts)} per image, mean {statistics.fmean(counts):.1f}), "
        f"{len(words)} words, noun and adjective labels by {label_backend()}",
    )
    if source.dropped:
        yield Finding("warning", f"{source.dropped} caption lines have no word in them; they are left out")
    for note in source.notes:
        yield Finding("warning", note)
    problems = [f"{item.name}: {item.problem}" for item in items if item.problem]
    if problems:
        yield Finding(
            "problem", f"{len(problems)} of {len(items)} images cannot be used:\n{first_lines(problems)}", FIX
        )


def _examine_files(source: Source) -> Iterator[Finding]:
    missing = [
        str(file)
        for item in source.items
        for file in (item.image, item.mask, item.parts)
        if file is not None and not file.exists()
    ]
    if missing:
        yield Finding("problem", f"missing files: {len(missing)}\n{first_lines(missing)}", FIX)
    if source.kind == "cub":
        images = {item.image for item in source.items}
        folder = source.items[0].image.parents[source.items[0].name.count("/")]
        others = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.jpg") if file not in images)
        if others:
            yield Finding(
                "warning", f"pictures in {folder} that no list names, so not used: {len(others)}, such as {others[0]}"
            )
    sizes = {size: len(source.items) * tile_edge(size) ** 2 * _planes(source) / 1e6 for size in (64, 128, 256)}
    yield Finding(
        "ok", "its pack will take " + ", ".join(f"{mega:.0f} MB at {size} pixels" for size, mega in sizes.items())
    )


def _planes(source: Source) -> int:
    item = source.items[0]
    return CHANNELS["tiles.u8"] + (item.mask is not None) + (item.parts is not None)


def _examine_sample(source: Source) -> Iterator[Finding]:
    """Cut the tiles of some images spread over the set, as `prepare` would."""
    usable = [item for item in source.items if item.image.exists() and not item.problem]
    sample: list[Item] = usable[:: max(1, len(usable) // SAMPLE)][:SAMPLE]
    bad = []
    for item in sample:
        try:
            cut_tiles(Job(0, item.image, item.box, item.mask, item.parts), tile_edge(256), "centre", source.exif)
        except BadImage as error:
            bad.append(f"{item.name}: {error}")
    if bad:
        yield Finding(
            "problem", f"{len(bad)} of {len(sample)} sampled pictures cannot be used:\n{first_lines(bad)}", FIX
        )
    elif sample:
        yield Finding("ok", f"{len(sample)} sampled pictures can be read")
