"""Look at a source folder or a pack and say what it holds, what is missing and what to do: `tmgan data doctor`.

Quick by design: lists and captions are read in full, files are looked for, but only a sample of the pictures is
decoded.
"""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tmgan.common.commands import command
from tmgan.common.files import user_path
from tmgan.common.text import first_lines
from tmgan.data.captions import label_backend, tokenize
from tmgan.data.decode import FORMATS, BadImage
from tmgan.data.findings import Finding, Level
from tmgan.data.layout_doctor import EXPECTED, examine_layout
from tmgan.data.pack import CHANNELS, HEADER, PARTIAL
from tmgan.data.pack_doctor import examine_pack
from tmgan.data.sources.read import Unrecognised, find_layout, read_source
from tmgan.data.sources.source import Item, Source
from tmgan.data.tiles import Job, cut_tiles, tile_edge
from tmgan.data.vocabulary import Vocabulary

SAMPLE = 50
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".heic", ".heif", ".avif")
FIX = "Fix them, or leave them out with --skip-bad"


def examine(path: Path) -> list[Finding]:
    """Examine a source folder, a pack or an unfinished pack. What is wrong with them is reported, never raised."""
    path = user_path(path)
    if not path.is_dir():
        return [Finding("problem", f"{path} is not a folder", f"Expected: a pack, or one of these.\n{EXPECTED}")]
    if (path / HEADER).exists() and (path / "tiles.u8").exists():
        return list(examine_pack(path))
    if path.suffix == PARTIAL and (path / "tiles.u8").exists():
        return [
            Finding(
                "warning", f"{path} is an unfinished pack", "Run its `tmgan data prepare` command again: it continues"
            )
        ]
    return list(_examine_source(path))


def _examine_source(path: Path) -> Iterator[Finding]:
    try:
        layout = find_layout(path)
    except Unrecognised:
        archives = sorted(file.name for pattern in ("*.zip", "*.tgz", "*.tar.gz") for file in path.glob(pattern))
        unpack = f"Unpack {', '.join(archives)} here first. " if archives else ""
        yield Finding(
            "problem", f"{path} has none of the layouts that are read", f"{unpack}Expected: one of these.\n{EXPECTED}"
        )
        return
    except ValueError as error:
        yield Finding("problem", str(error))
        return
    yield from examine_layout(layout)
    try:
        source = read_source(path)
    except (ValueError, OSError) as error:
        yield Finding("problem", str(error))
        return
    yield from _examine_listing(source)
    missing = [(item, file) for item in source.items for file in _files(item) if not file.exists()]
    if missing:
        files = [str(file) for _, file in missing]
        yield Finding("problem", f"missing files: {len(missing)}\n{first_lines(files)}", FIX)
    yield from _examine_folder(source)
    without_files = {item.name for item, _ in missing}
    usable = [item for item in source.items if not item.problem and item.name not in without_files]
    yield from _examine_variety(usable)
    sample = usable[:: max(1, len(usable) // SAMPLE)][:SAMPLE]
    bad = _open_sample(source, sample)
    yield from bad.findings
    yield from _verdict(source, [item for item in usable if item.name not in bad.names], len(sample))


def _files(item: Item) -> list[Path]:
    return [file for file in (item.image, item.mask, item.parts) if file is not None]


def _examine_listing(source: Source) -> Iterator[Finding]:
    items = source.items
    total = len(items) + len(source.unreadable)
    train = sum(item.split == "train" for item in items)
    classes = len({item.class_id for item in items if not item.problem})
    level: Level = "ok" if 0 < train < len(items) else "warning" if train else "problem"
    yield Finding(level, f"{train} training and {len(items) - train} test images, {classes} classes")
    counts = [len(item.captions) for item in items] or [0]
    words = source.vocabulary or Vocabulary.from_captions(caption for item in items for caption in item.captions).words
    yield Finding(
        "ok",
        f"{sum(counts)} captions ({min(counts)} to {max(counts)} per image, mean {statistics.fmean(counts):.1f}), "
        f"{len(words)} words, noun and adjective labels by {label_backend()}",
    )
    if source.dropped:
        yield Finding("warning", f"caption lines without a word in them, left out: {source.dropped}")
    for note in source.notes:
        yield Finding("warning", note)
    problems = [f"{where}: {problem}" for where, problem in source.unreadable.items()]
    problems += [f"{item.name}: {item.problem}" for item in items if item.problem]
    if problems:
        yield Finding("problem", f"{len(problems)} of {total} images cannot be used:\n{first_lines(problems)}", FIX)


def _examine_folder(source: Source) -> Iterator[Finding]:
    """Pictures that lie there and that no list names."""
    known = {file for item in source.items for file in _files(item)}
    folder = source.path
    if source.kind == "cub":  # more than pictures and captions lies around them
        folder = source.items[0].image.parents[source.items[0].name.count("/")]
    others = sorted(
        file.relative_to(folder).as_posix()
        for place, _, names in os.walk(folder)
        for file in (Path(place, name) for name in names)
        if file.suffix.lower() in _PICTURES and file not in known
    )
    if others:
        yield Finding(
            "warning", f"pictures in {folder} that no list names, so not used: {len(others)}, such as {others[0]}"
        )


def _examine_variety(items: list[Item]) -> Iterator[Finding]:
    """A set too much alike trains nothing, and says so only by its results."""
    items = [item for item in items if item.split == "train"]
    if len(items) > 1 and len({item.class_id for item in items}) == 1:
        yield Finding(
            "warning",
            "all training images are of one class",
            "The encoders learn from wrong answers, which are pictures of other classes: give classes, or leave out "
            "`class` so that every image is its own",
        )
    captions = {tuple(tokenize(caption)) for item in items for caption in item.captions}
    if len(items) > 1 and len(captions) == 1:
        yield Finding(
            "warning",
            "all captions of training images are equal",
            "A text that every image has says nothing about any of them",
        )
    if len(items) == 1:
        yield Finding("warning", "a single image is for training", "Its loss compares images with each other: add some")


@dataclass(frozen=True)
class _SampleResult:
    """What was found in the pictures that were opened, and the names of those that cannot be used."""

    findings: list[Finding]
    names: set[str]


def _open_sample(source: Source, sample: list[Item]) -> _SampleResult:
    """Cut the tiles of some images spread over the set, as `prepare` would."""
    bad: dict[str, str] = {}
    masks: Counter[str] = Counter()
    foreign = []
    for item in sample:
        try:
            tiles = cut_tiles(
                Job(0, item.image, item.box, item.mask, item.parts), tile_edge(256), "centre", source.exif
            )
        except BadImage as error:
            bad[item.name] = str(error)
            continue
        if item.mask is not None:
            grey = tiles[1].histogram()
            masks["empty" if not any(grey[1:]) else "full" if not any(grey[:255]) else "parted"] += 1
        if _has_other_colours(item.image):
            foreign.append(item.name)
    findings = []
    if bad:
        lines = first_lines([f"{name}: {problem}" for name, problem in bad.items()])
        findings.append(
            Finding("problem", f"{len(bad)} of {len(sample)} sampled pictures cannot be used:\n{lines}", FIX)
        )
    elif sample:
        findings.append(Finding("ok", f"{len(sample)} sampled pictures can be read"))
    if masks["empty"] or masks["full"]:
        findings.append(
            Finding(
                "warning",
                f"of {masks.total()} sampled masks {masks['empty']} are empty and {masks['full']} are full, in the "
                "part of the picture that is used",
            )
        )
    if foreign:
        findings.append(
            Finding(
                "warning",
                f"{len(foreign)} of {len(sample)} sampled pictures have a colour profile other than sRGB, or CMYK "
                f"pixels, such as {foreign[0]}; profiles are not applied when preparing",
                "Convert them to sRGB if their colours matter",
            )
        )
    return _SampleResult(findings, set(bad))


def _has_other_colours(path: Path) -> bool:
    """Whether a picture's numbers mean other colours than those of sRGB, by its header and the name of its profile."""
    with Image.open(path, formats=FORMATS) as image:
        profile = image.info.get("icc_profile") or b""
        return image.mode == "CMYK" or bool(profile) and b"sRGB" not in profile.replace(b"\0", b"")


def _verdict(source: Source, usable: list[Item], opened: int) -> Iterator[Finding]:
    """What was looked at, and what `prepare` would do."""
    total = len(source.items) + len(source.unreadable)
    yield Finding(
        "ok",
        f"checked: all lists and captions, whether all files are there, and the pixels of {opened} of "
        f"{len(source.items)} images as `prepare` cuts them",
    )
    call = f"`{command('data', 'prepare', source.path, 'PACK')}`"
    train = sum(item.split == "train" for item in usable)
    if not train:
        yield Finding("problem", f"{call} would refuse: no usable image is in the training split")
        return
    sizes = {size: len(usable) * tile_edge(size) ** 2 * _planes(usable[0]) / 1e6 for size in (64, 128, 256)}
    yield Finding(
        "ok", "its pack will take " + ", ".join(f"{mega:.0f} MB at {size} pixels" for size, mega in sizes.items())
    )
    pack = f"a pack of {len(usable)} images, {train} for training and {len(usable) - train} for testing"
    if len(usable) < total:
        yield Finding("warning", f"{call} would refuse; with --skip-bad it would make {pack}, if no more are bad")
    else:
        yield Finding("ok", f"{call} would make {pack}")


def _planes(item: Item) -> int:
    return CHANNELS["tiles.u8"] + (item.mask is not None) + (item.parts is not None)
