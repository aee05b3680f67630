"""Whether a training set gives each loss something to compare: what would be trained in vain is refused, or said."""

from __future__ import annotations

import torch

from tmgan.data.masks import extremes, open_masks
from tmgan.data.pack import Pack


def comparison_notes(pack: Pack, batch: int = 0, masks: str = "") -> list[str]:
    """What is worth knowing about a set that can be trained on, as sentences. Reads the masks, if they are asked for.

    Args:
        batch: images per step; 0: not known.
        masks: name of the object masks that are trained with, "" for none.

    Raises:
        ValueError: the matching losses, or the loss under the masks, are the same for any model: nothing can be
            learned. The message says why.
    """
    count = len(pack.train)
    if count < 2:
        raise ValueError(
            f"{pack.path} has {count or 'no'} training image{'s' * (count != 1)}, and training compares images with "
            "each other: prepare a set with at least two in its training split."
        )
    classes = pack.class_ids[pack.train].unique()
    if len(classes) == 1:
        name = pack.class_names.get(int(classes[0]), str(int(classes[0])))
        raise ValueError(
            f"All {count:,} training images of {pack.path} are of the class {name!r}. Text and photo are matched by "
            "telling images of different classes apart, so nothing could be learned. Give them several classes, or "
            "none: without `class` in metadata.jsonl each image is a class of its own."
        )
    if _captions_are_equal(pack):
        caption = pack.caption(int(pack.first[pack.train[0]]))
        raise ValueError(
            f"All training images of {pack.path} have the same caption, {caption!r} as far as its words are known: no "
            "text could be told from another. Describe them by what differs."
        )
    empty, full = _extremes(pack, masks)
    if empty + full == count:
        what = "show no object" if empty == count else "show nothing but the object" if full == count else "are empty"
        more = " or full" if empty and full else ""
        raise ValueError(
            f"All {count:,} training masks {masks!r} of {pack.path} {what}{more}: there is no border between what an "
            "edit may change and what it must keep. Correct the masks, or train without them: --method.keep-mask none "
            "--model.no-keep-input."
        )
    notes = []
    if count < batch:
        notes.append(
            f"the training split has {count:,} images, fewer than a batch of {batch}: each batch holds some more than "
            "once."
        )
    for number, what in zip((empty, full), ("show no object", "show nothing but the object"), strict=True):
        if number:
            notes.append(f"{number:,} of {count:,} training masks {masks!r} {what}.")
    return notes


def _captions_are_equal(pack: Pack) -> bool:
    first, last = pack.first[pack.train], pack.first[pack.train + 1]
    rows = torch.cat([torch.arange(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)])
    return bool((pack.tokens[rows] == pack.tokens[rows[0]]).all())


def _extremes(pack: Pack, name: str) -> tuple[int, int]:
    masks = open_masks(pack, name)
    return (0, 0) if masks is None else extremes(masks, pack.train)
