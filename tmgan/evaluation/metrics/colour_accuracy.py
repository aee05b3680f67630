"""Does the edit obey the text? Measured on held-out drawn birds, whose parts and true colours are known.

Each bird gets a caption in which one part's colour is swapped. colour_accuracy is the share of edits in which the
named part (inside its true mask) has the named colour; others_kept the share of the other parts that keep theirs;
background_psnr how little the rest of the picture changed, in decibels. This number, not the loss, says whether
text is obeyed: a model that copies its input has accuracy 0 and perfect PSNR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmgan.common.progress import Progress
from tmgan.data.crops import centre_crops
from tmgan.data.drawn.dataset import describe
from tmgan.data.drawn.patterns import describe_patterned
from tmgan.data.pack import Pack
from tmgan.data.palette import PALETTE, PARTS, PATTERNS
from tmgan.editing.editor import Editor
from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.measure import Measure

_OUTSIDE = 0.02  # a pixel counts as background where the soft bird mask is below this


@dataclass(frozen=True)
class ColourTest:
    """Held-out birds with swapped captions; n rows."""

    images: Tensor  # (n, 3, S, S) in [-1, 1], centre crops
    texts: list[str]
    part: Tensor  # (n,) number of the named part
    colours: Tensor  # (n, len(PARTS)) palette numbers the edit should show
    part_masks: Tensor  # (n, len(PARTS), S, S) bool
    background: Tensor  # (n, 1, S, S) bool


def drawn(pack: Pack) -> bool:
    """Whether the pack is made of drawn birds, some of them held out."""
    return pack.parts is not None and pack.colours is not None and pack.masks is not None and len(pack.test) > 0


def part_masks(parts: Tensor, index: Tensor, size: int) -> Tensor:
    """Masks (n, len(PARTS), size, size), bool, of the parts in centre crops.

    Args:
        parts: `Pack.parts`.
        index: (n,) images.
    """
    labels = centre_crops(parts, index, size, (0.0, 255.0)).round()
    return torch.cat([labels == k + 1 for k in range(len(PARTS))], 1)


def make_test(pack: Pack, size: int, count: int, seed: int = 0) -> ColourTest:
    """The first `count` held-out birds, each with one part's colour swapped by the seed.

    Raises:
        ValueError: when the pack is not made of drawn birds.
    """
    if pack.parts is None or pack.colours is None or pack.masks is None:
        raise ValueError(
            f"colour_accuracy needs the part masks of drawn birds; {pack.path} has none. Draw a set with "
            "`tmgan data synth DIR` and prepare it."
        )
    if len(pack.test) == 0:
        raise ValueError(f"colour_accuracy is measured on held-out birds; {pack.path} has none. Draw more.")
    index = pack.test[:count]
    masks = part_masks(pack.parts, index, size)
    random = np.random.Generator(np.random.Philox(key=np.array([seed, 0xC0104], dtype=np.uint64)))
    colours = pack.colours[index].to(torch.int64).clone()
    names, texts, parts = list(PALETTE), [], []
    for row in range(len(index)):
        part = int(random.integers(len(PARTS)))
        shift = int(random.integers(1, len(names)))
        colours[row, part] = (colours[row, part] + shift) % len(names)
        named = {p: names[c] for p, c in zip(PARTS, colours[row].tolist(), strict=True)}
        variant = int(random.integers(4))
        if pack.patterns is None:
            texts.append(describe(named, variant))
        else:
            numbers = pack.patterns[index[row]].tolist()
            patterns = {p: PATTERNS[k] for p, k in zip(PARTS, numbers, strict=True)}
            texts.append(describe_patterned(named, patterns, variant))
        parts.append(part)
    background = centre_crops(pack.masks, index, size, (0.0, 1.0)) < _OUTSIDE
    return ColourTest(centre_crops(pack.tiles, index, size), texts, torch.tensor(parts), colours, masks, background)


def colour_accuracy(
    test: ColourTest, edit: Callable[[Tensor, list[str]], Tensor], batch: int = 32
) -> dict[str, Measure]:
    """Measure `edit(images, texts) -> images` on the test: colour_accuracy, others_kept and background_psnr.

    The PSNR is that of the mean over all background pixels of all birds, infinite for an exact copy.

    Raises:
        FloatingPointError: when an edit is not finite.
    """
    hits, shares, mse, pixels = [], [], [], []
    palette = torch.tensor([PALETTE[name] for name in PALETTE], dtype=torch.float32)
    for start in range(0, len(test.images), batch):
        rows = slice(start, start + batch)
        edits = edit(test.images[rows], test.texts[rows]).float().cpu()
        if not torch.isfinite(edits).all():
            raise FloatingPointError(
                "The edits hold numbers that are not finite: the network diverged or its file is damaged."
            )
        masks = test.part_masks[rows].float()
        area = masks.sum((2, 3))
        mean = torch.einsum("bchw,bphw->bpc", (edits + 1) * 127.5, masks) / area.clamp(min=1)[..., None]
        right = (torch.cdist(mean, palette).argmin(-1) == test.colours[rows]) & (area > 0)
        named = torch.nn.functional.one_hot(test.part[rows], len(PARTS)).bool()
        hits += right[named].tolist()
        shares += (right & ~named).double().sum(1).div(len(PARTS) - 1).tolist()
        background = test.background[rows].expand_as(edits)
        error = ((edits - test.images[rows]) / 2).double().square().masked_fill(~background, 0).sum((1, 2, 3))
        count = background.sum((1, 2, 3))
        mse += (error / count).tolist()  # NaN for a bird that fills the picture
        pixels += count.tolist()
    return {
        "colour_accuracy": Measure.of([float(hit) for hit in hits], "of the named parts", "higher"),
        "others_kept": Measure.of(shares, "of the other parts", "higher"),
        "background_psnr": Measure.of(mse, "dB", "higher", "psnr", pixels),
    }


class ColourAccuracy:
    """The metric, on a test of its own: it looks at no other edits.

    Raises:
        ValueError: when the pack is not made of drawn birds.
    """

    sees_edits = False

    def __init__(self, editor: Editor, pack: Pack, count: int, seed: int, batch: int):
        self.editor, self.batch = editor, batch
        self.test = make_test(pack, editor.image_size, count, seed)

    def add(self, batch: Edits) -> None:
        """Nothing: see the class."""

    def measures(self, show: Progress) -> dict[str, Measure]:
        """colour_accuracy, others_kept and background_psnr."""
        return colour_accuracy(
            self.test, lambda images, texts: self.editor.edit_tensors(images, texts).image, self.batch
        )
