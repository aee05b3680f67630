"""The embedded data set: drawn birds in CUB's folder layout, with captions that name the true colours.

Image i is a pure function of (seed, i), so a larger set begins with the smaller one. The folder is written under a
temporary name beside its place and renamed at the end: there is never half a data set.
"""

from __future__ import annotations

import glob
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tmgan.common.digest import file_digest
from tmgan.common.files import user_path
from tmgan.common.lock import only_one
from tmgan.data.drawn.birds import SPECIES
from tmgan.data.drawn.drawing import Drawing, draw_bird
from tmgan.data.drawn.patterns import describe_patterned, draw_patterns
from tmgan.data.palette import PALETTE, PARTS

# {head}, {body} and {wings} are the bare colours; "a {head}" becomes "an orange" where needed.
_TEMPLATES = (
    "this bird has a {head} head, {wings} wings and a {body} belly.",
    "a bird with a {body} body, {wings} wings and a {head} head.",
    "the head is {head}, the breast is {body} and the wings are {wings}.",
    "this small bird has {wings} wings, a {body} belly and a {head} crown.",
    "this bird has a {head} head and {wings} wings.",
    "a small bird with a {body} breast and a {head} head.",
    "its wings are {wings} and its belly is {body}.",
    "the bird in this picture has a {head} head, its breast and belly are {body}, and both of its wings are {wings}.",
    "this is a bird with wings that are {wings}, a body that is {body} and a crown that is {head}.",
    "a bird with {wings} wings, a {head} crown and a {body} breast.",
)
CAPTIONS_PER_IMAGE = len(_TEMPLATES)
_TEST_OF_TWENTY = 3  # 15 % of the images, spread evenly so that every prefix has its share
_BLOCK = 20
_RECORD = "drawn.json"  # file -> digest, 0 for a folder: what a user has added or changed is recognised by it
_TOP_LEVEL = {"CUB_200_2011", "text", "train", "test", "colours.json", _RECORD}
_PATTERNS = "patterns.json"  # of a set with patterns, beside the others
_JPEG_QUALITY = 92


def describe(colours: Mapping[str, str], variant: int) -> str:
    """Caption number `variant` (0..9) of a bird with these colours.

    Variants 0 to 3 and 7 to 9 name all three parts, the others two; 7 and 8 have more than 18 words. The underside is
    called body, belly or breast, the head is called head or crown.

    Args:
        colours: a name in PALETTE for every name in PARTS.
    """
    if not 0 <= variant < CAPTIONS_PER_IMAGE:
        raise ValueError(f"caption variant {variant} does not exist: choose 0 to {CAPTIONS_PER_IMAGE - 1}")
    for part in PARTS:
        if colours.get(part) not in PALETTE:
            raise ValueError(f"the {part} is {colours.get(part)!r}: choose one of {', '.join(PALETTE)}")
    text = _TEMPLATES[variant].format(**{part: colours[part] for part in PARTS})
    return text.replace(" a orange", " an orange")


def bird(seed: int, index: int, image_size: int = 128) -> Drawing:
    """Bird number `index` of the set with this seed: the same one in a set of any count."""
    return draw_bird(_generator(seed, index), image_size)


def patterned_bird(seed: int, index: int, image_size: int = 128, patterns: Mapping[str, str] | None = None) -> Drawing:
    """Bird number `index` of the set with patterns: the same one in a set of any count.

    Args:
        patterns: pattern of a part, instead of the one that was drawn: all else stays.
    """
    # Keys from the upper half of the range: no image has so large an index.
    return draw_bird(_generator(seed, index), image_size, draw_patterns(_generator(seed, 2**63 + index), patterns))


def write_birds(
    directory: str | Path,
    count: int = 600,
    seed: int = 0,
    image_size: int = 128,
    progress: Callable[[int, int], None] | None = None,
    patterns: bool = False,
) -> None:
    """Draw `count` birds and write them to `directory` as a CUB folder with captions, true masks and part maps.

    Besides CUB's own files there are text/ (ten captions per image), train/ and test/ (filenames.pickle and
    class_info.pickle, as in the AttnGAN metadata), CUB_200_2011/segmentations (0/255), CUB_200_2011/parts_map
    (0 background, 1 + index in PARTS, 100 other parts of the bird), colours.json (name -> part -> colour) and
    drawn.json (file -> digest); with `patterns` also patterns.json (name -> part -> pattern).

    Args:
        directory: an earlier drawn set in it is replaced, if it is as it was drawn.
        image_size: edge of the pictures in pixels.
        progress: called as progress(done, count) after every image.
        patterns: draw the set whose parts are plain, spotted or striped, and whose captions say so.

    Raises:
        ValueError: an argument is out of range, or `directory` holds anything but a drawn set.
    """
    directory = Path(os.path.realpath(user_path(directory)))  # a link stays a link
    if count < 1:
        raise ValueError(f"count is {count}: draw at least one bird")
    if image_size < 32:
        raise ValueError(f"image_size is {image_size}: drawn birds need at least 32 pixels")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}: choose 0 to 2**64 - 1")
    busy = f"Another process is drawing birds in {directory}. Wait for it, or choose another folder."
    with only_one(directory.with_name(f".{directory.name}.lock"), busy) as held:
        _check_replaceable(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        if held:  # what lies beside it is of a killed process
            for orphan in directory.parent.glob(f".{glob.escape(directory.name)}.drawing-*"):
                shutil.rmtree(orphan)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}.drawing-", dir=directory.parent) as beside:
            _write(Path(beside) / "new", count, seed, image_size, progress, patterns)
            _check_replaceable(directory)  # drawing takes minutes
            if directory.exists():
                directory.rename(Path(beside) / "old")
            (Path(beside) / "new").rename(directory)


def _check_replaceable(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file: give the name of a folder for the drawn birds")
    names = {entry.name for entry in directory.iterdir()}
    if _TOP_LEVEL - {_RECORD} <= names:
        names -= {_PATTERNS}
    if names == _TOP_LEVEL - {_RECORD}:
        raise ValueError(
            f"{directory} holds drawn birds, but has no {_RECORD}, so what was changed since is not known: give a new "
            "folder, or delete it"
        )
    if names and names != _TOP_LEVEL:
        strange = ", ".join(sorted(names - _TOP_LEVEL)[:3]) or "an incomplete set"
        raise ValueError(f"{directory} holds more than drawn birds ({strange}): give a new or an empty folder")
    if names:
        _check_untouched(directory)


def _check_untouched(directory: Path) -> None:
    """Refuse a drawn set to which something was added or in which something was changed: drawing would lose it."""
    drawn = _record(directory)
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if name != _RECORD and (path.is_symlink() or drawn.get(name) != file_digest(path)):
            raise _loss(directory, f"{name} {'was changed since' if name in drawn else 'was not drawn'}")


def _record(directory: Path) -> dict[str, int]:
    try:
        record = json.loads((directory / _RECORD).read_bytes())
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise _loss(directory, f"{_RECORD} was changed since")
    return record


def _loss(directory: Path, what: str) -> ValueError:
    return ValueError(f"{directory} holds drawn birds, but {what} and would be lost: give a new folder, or delete it")


def _generator(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))


def _is_test(seed: int, index: int) -> bool:
    """Three of every twenty images; which three depends on the seed and the block, not on the count."""
    # Keys from the top of the range: no image has so large an index.
    order = _generator(seed, 2**64 - 1 - index // _BLOCK).permutation(_BLOCK)
    return bool(order[index % _BLOCK] < _TEST_OF_TWENTY)


def _write(
    root: Path, count: int, seed: int, image_size: int, progress: Callable[[int, int], None] | None, with_patterns: bool
) -> None:
    cub = root / "CUB_200_2011"
    classes = [f"{k:03d}.{species.name}" for k, species in enumerate(SPECIES, 1)]
    class_ids = {species.name: k for k, species in enumerate(SPECIES, 1)}
    for name in classes:
        for folder in (cub / "images", cub / "segmentations", cub / "parts_map", root / "text"):
            (folder / name).mkdir(parents=True)
    images, labels, splits, boxes = [], [], [], []
    colours: dict[str, dict[str, str]] = {}
    patterns: dict[str, dict[str, str]] = {}
    lists: dict[str, tuple[list[str], list[int]]] = {"train": ([], []), "test": ([], [])}
    for index in range(count):
        drawing = (patterned_bird if with_patterns else bird)(seed, index, image_size)
        class_id, test = class_ids[drawing.species], _is_test(seed, index)
        name = f"{classes[class_id - 1]}/{drawing.species}_{index + 1:06d}"
        Image.fromarray(drawing.pixels).save(cub / f"images/{name}.jpg", quality=_JPEG_QUALITY, subsampling=0)
        mask = (drawing.parts > 0).view(np.uint8) * np.uint8(255)
        Image.fromarray(mask).save(cub / f"segmentations/{name}.png", compress_level=1)
        Image.fromarray(drawing.parts).save(cub / f"parts_map/{name}.png", compress_level=1)
        captions = _captions(drawing)
        (root / f"text/{name}.txt").write_text("\n".join(captions) + "\n", encoding="ascii")
        images.append(f"{index + 1} {name}.jpg")
        labels.append(f"{index + 1} {class_id}")
        splits.append(f"{index + 1} {int(not test)}")
        boxes.append(f"{index + 1} " + " ".join(f"{value:.1f}" for value in drawing.box))
        colours[name], patterns[name] = drawing.colours, drawing.patterns
        names, ids = lists["test" if test else "train"]
        names.append(name)
        ids.append(class_id)
        if progress is not None:
            progress(index + 1, count)
    _write_lines(cub / "images.txt", images)
    _write_lines(cub / "image_class_labels.txt", labels)
    _write_lines(cub / "classes.txt", [f"{k} {name}" for k, name in enumerate(classes, 1)])
    _write_lines(cub / "train_test_split.txt", splits)
    _write_lines(cub / "bounding_boxes.txt", boxes)
    for split, (names, ids) in lists.items():
        (root / split).mkdir()
        (root / split / "filenames.pickle").write_bytes(pickle.dumps(names, protocol=2))
        (root / split / "class_info.pickle").write_bytes(pickle.dumps(ids, protocol=2))
    (root / "colours.json").write_text(json.dumps(colours, indent=1) + "\n", encoding="ascii")
    if with_patterns:
        (root / _PATTERNS).write_text(json.dumps(patterns, indent=1) + "\n", encoding="ascii")
    record = {path.relative_to(root).as_posix(): file_digest(path) for path in sorted(root.rglob("*"))}
    (root / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="ascii")


def _captions(drawing: Drawing) -> list[str]:
    if drawing.patterns:
        return [describe_patterned(drawing.colours, drawing.patterns, k) for k in range(CAPTIONS_PER_IMAGE)]
    return [describe(drawing.colours, k) for k in range(CAPTIONS_PER_IMAGE)]


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
