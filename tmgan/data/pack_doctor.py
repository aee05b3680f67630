"""Look at a pack and say what it holds, and whether it is whole: the other half of `tmgan data doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from tmgan.common.text import first_lines
from tmgan.data.attribute_kinds import COLOUR
from tmgan.data.attributes import Attributes, training_captions
from tmgan.data.comparable import comparison_notes
from tmgan.data.findings import Finding, optional
from tmgan.data.masks import masks_command, read_record
from tmgan.data.pack import Pack, pixels_hash, prepare_command

_SHOWN = 20  # words of a kind


def examine_pack(path: Path) -> Iterator[Finding]:
    """Examine the pack at `path`. What is wrong with it is reported, never raised."""
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
    if "vocabulary_from" in header:
        yield Finding("ok", f"its words are those of {header['vocabulary_from']}")
    yield from _examine_pixels(pack)
    yield from _examine_attributes(pack)
    yield optional(
        pack.masks is not None,
        "true masks",
        "the method that keeps what lies outside the masks cannot use the data set's own",
    )
    try:
        for note in comparison_notes(pack, masks="" if pack.masks is None else "dataset"):
            yield Finding("warning", note)
    except ValueError as error:
        yield Finding("problem", str(error))
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
    for partial in sorted(path.glob("masks-*.u8.partial")):
        name = partial.name.removeprefix("masks-").removesuffix(".u8.partial")
        again = f"To finish them, or to begin again:\n  {masks_command(pack, name)}"
        yield Finding("warning", f"masks by {name} are unfinished, so they cannot be used", again)
    if not len(pack.test):
        yield Finding(
            "warning", "no image is in the test split", "Metrics on held-out images need one: see `split` in the source"
        )
    if header["skipped"]:
        lines = first_lines([f"{name}: {problem}" for name, problem in header["skipped"].items()])
        yield Finding("warning", f"{len(header['skipped'])} images of the source were left out:\n{lines}")


def _examine_pixels(pack: Pack) -> Iterator[Finding]:
    """Read all of them, a second or two per gigabyte."""
    header = pack.header
    if "pixels_hash" not in header:
        yield Finding("ok", "made by an earlier version of tmgan, which did not note what its pixels were")
    elif pixels_hash(pack.path, header) == header["pixels_hash"]:
        yield Finding("ok", "all its pixels are as they were prepared")
    else:
        again = prepare_command(header["source"], pack.path, pack.image_size, pack.placement, header)
        yield Finding("problem", "its pixels are not those that were prepared", f"Delete it, then\n  {again}")


def _examine_attributes(pack: Pack) -> Iterator[Finding]:
    """What the captions of the training images say that could be otherwise."""
    tokens, lengths = training_captions(pack)
    counts = torch.bincount(tokens.flatten(), minlength=len(pack.vocabulary)).tolist()
    count_of = dict(zip(pack.vocabulary.words, counts, strict=True))
    kinds = Attributes.of_corpus(pack.vocabulary, tokens, lengths).kinds
    for kind in kinds:
        listed = [f"{word} {count_of[word]}" for word in kind.words[:_SHOWN]]
        more = [f"... {len(kind.words)} words"] if len(kind.words) > _SHOWN else []
        yield Finding("ok", f"attributes: {kind.name} ({', '.join(listed + more)})")
    if all(kind.name != COLOUR for kind in kinds):
        yield Finding(
            "warning",
            "attributes: the training captions do not name two colours five times each, so photos cannot be recoloured "
            "and restored by their captions",
            ""
            if kinds
            else "There are no others either, so encoders learn without hard negatives. Captions that say "
            "what things look like have some, several captions of each photo have more",
        )
