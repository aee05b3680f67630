"""What the metrics are shown: held-out photos, each with a text, and the edits a model makes of them.

Photos, texts and their pairing follow from the seed alone; crops are centred and never mirrored (the published code
crops and mirrors at random while testing, so its numbers are noisy).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmgan.config.methods import MASK_PROVIDERS, MethodConfig
from tmgan.data.crops import centre_crops
from tmgan.data.masks import RANDOM_NOTE, mask_path, masks_command, open_masks, read_record
from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor
from tmgan.evaluation.protocol import Protocol
from tmgan.methods.image_comparing import keep_mask

_PHOTOS, _OTHERS, _CAPTIONS = range(3)  # one Philox key per purpose


@dataclass(frozen=True)
class Pairs:
    """n photos with the texts they are edited by: row numbers of the pack's images and captions, int64 (n,)."""

    image: Tensor
    own: Tensor  # a caption of the photo itself
    target: Tensor  # the caption to obey

    def __len__(self) -> int:
        return len(self.image)


def make_pairs(pack: Pack, split: str, count: int, captions: str, seed: int) -> Pairs:
    """The first `count` photos of a split in a seeded order, or all: small sets are part of large ones.

    Args:
        captions: "own", each photo by its own caption; "other", by a caption of a photo of another class of the split
            (of any other photo where there is one class only).

    Raises:
        ValueError: when the split has too few photos.
    """
    items = {"train": pack.train, "test": pack.test}[split]
    if len(items) < (2 if captions == "other" else 1):
        what = "1 photo, and no other whose caption it could be edited by" if len(items) else "no photos"
        or_own = ", or its own caption with --captions own" if len(items) else ""
        raise ValueError(
            f"The {split} split of {pack.path} holds {what}. Take the other split with --split "
            f"{'train' if split == 'test' else 'test'}{or_own}."
        )
    order = torch.from_numpy(_random(seed, _PHOTOS).permutation(len(items)))
    image = items[order]
    own = _captions(pack, image, _random(seed, _CAPTIONS, 0))
    if captions == "own":
        return Pairs(image[:count], own[:count], own[:count])
    classes, random = pack.class_ids[image].numpy(), _random(seed, _OTHERS)
    several = len(np.unique(classes)) > 1
    other = np.empty(len(image), np.int64)
    for row, label in enumerate(classes):
        while True:
            other[row] = random.integers(len(image))
            if other[row] != row and not (several and classes[other[row]] == label):
                break
    target = _captions(pack, image[other], _random(seed, _CAPTIONS, 1))
    return Pairs(image[:count], own[:count], target[:count])


def _random(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([0xE7A1, seed, *purpose])))


def _captions(pack: Pack, image: Tensor, random: np.random.Generator) -> Tensor:
    """One caption per image."""
    first, last = pack.first[image], pack.first[image + 1]
    return first + torch.from_numpy((random.random(len(image)) * (last - first).numpy()).astype(np.int64))


@dataclass(frozen=True)
class Edits:
    """A batch of B photos and their edits, on the model's device."""

    photos: Tensor  # (B, 3, S, S) float32 in [-1, 1]
    edits: Tensor  # the same, rounded to the 256 levels of a file
    keep: dict[str, Tensor]  # (B, 1, S, S) float32 by name of the mask, 1 = should stay as it is
    own: list[str]  # a caption of each photo
    texts: list[str]  # the text each was edited by


def make_edits(
    editor: Editor, pack: Pack, pairs: Pairs, masks: tuple[str, ...], seed: int, batch: int
) -> Iterator[Edits]:
    """Edit the photos of all pairs.

    Raises:
        FloatingPointError: when an edit is not finite.
    """
    for start in range(0, len(pairs), batch):
        rows = slice(start, start + batch)
        index = pairs.image[rows]
        photos = centre_crops(pack.tiles, index, editor.image_size).to(editor.runtime.device)
        own, texts = ([pack.caption(int(row)) for row in part[rows]] for part in (pairs.own, pairs.target))
        edits = eight_bit(editor.edit_tensors(photos, texts, seed).image)
        keep = {name: _mask(name, pack, index, photos, edits) for name in masks}
        yield Edits(photos, edits, keep, own, texts)


def first_edits(editor: Editor, pack: Pack, protocol: Protocol, masks: tuple[str, ...], rows: int) -> Edits:
    """The first `rows` edits of an evaluation, for pictures: the same photos and texts for every model."""
    pairs = make_pairs(pack, protocol.split, rows, protocol.captions, protocol.seed)
    return next(make_edits(editor, pack, pairs, masks, protocol.seed, rows))


def eight_bit(images: Tensor) -> Tensor:
    """images in [-1, 1], rounded to what a file would hold; fp32, in [-1, 1].

    Raises:
        FloatingPointError: when they are not finite.
    """
    if not torch.isfinite(images).all():
        raise FloatingPointError(
            "The edits hold numbers that are not finite: the network diverged or its file is damaged."
        )
    return ((images.float() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def available_masks(pack: Pack) -> tuple[tuple[str, ...], dict[str, str]]:
    """Masks to score under: the pack's own, those of edits, and those that `tmgan data masks` stored.

    Returns:
        Their names, and why stored masks cannot be used, by name.
    """
    stored = sorted(path.stem.removeprefix("masks-") for path in pack.path.glob("masks-*.u8"))
    unfit = {name: reason for name in stored if (reason := _why_unfit(pack, name))}
    own = () if pack.masks is None else ("dataset",)
    return (*own, "histogram", *(name for name in stored if name not in unfit)), unfit


def _why_unfit(pack: Pack, name: str) -> str:
    """Why stored masks cannot be used, as a short sentence; "" where they can."""
    file = mask_path(pack.path, name)
    try:
        record = read_record(pack, name)
    except ValueError:
        return f"{file.name} is damaged, or belongs to another pack."
    return "" if record is not None else f"{file.name} has no record {file.with_suffix('.json').name} beside it."


def require_masks(pack: Pack, names: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The masks to score under: those of these names, or all that can be used if there are no names.

    Returns:
        Their names, and why stored masks were left out, by name: none of them where they are asked for.

    Raises:
        ValueError: when the pack lacks one that is asked for, or it is damaged.
    """
    available, unfit = available_masks(pack)
    for name in names:
        if name not in available:
            read_record(pack, name)  # of damaged ones it says itself what to do
            raise ValueError(
                f"{pack.path} has no masks {name!r} to score under; it has {', '.join(available)}. "
                f"{' '.join([*([unfit[name]] if name in unfit else []), _how_to_make(pack, name)])}"
            )
    return (names, {}) if names else (available, unfit)


def _how_to_make(pack: Pack, name: str) -> str:
    """What to do about masks that are missing."""
    if name == "dataset":
        return "Prepare it from a source with segmentations."
    if name not in MASK_PROVIDERS:
        return f"`tmgan data masks` can make {' and '.join(MASK_PROVIDERS)}."
    return f"Make them with\n  {masks_command(pack, name)}"


def mask_notes(pack: Pack, names: tuple[str, ...]) -> list[str]:
    """A sentence for each stored mask that was made with random weights."""
    records = {name: read_record(pack, name) for name in names if name not in ("dataset", "histogram")}
    return [
        f"{name}: {RANDOM_NOTE}"
        for name, record in records.items()
        if record is not None and record.get("about", {}).get("weights") == "random"
    ]


def _mask(name: str, pack: Pack, index: Tensor, photos: Tensor, edits: Tensor) -> Tensor:
    """(B, 1, S, S) in [0, 1], 1 on what should stay. Only the histogram mask depends on the edit."""
    if name == "histogram":
        keep = keep_mask(MethodConfig(keep_mask="histogram"), photos, edits, None)
        assert keep is not None
        return keep.float()
    objects = open_masks(pack, name)
    assert objects is not None  # require_masks has checked it
    return 1 - centre_crops(objects, index, photos.shape[-1], (0.0, 1.0)).to(photos.device)
