"""Has the edit the colours that its text names? For photographs, of which nobody knows which part has which colour.

Of the basic colours that a text names, the share that the object has, inside its mask. A colour is there when
LEAST_SHARE of the object's pixels are nearer to it than to the other basic colours, in CIELAB with differences of
lightness halved: plumage lies in light and shade (k_L = 2, as CIE94 has it for textiles). No pixel is too far from all.

A colour may be there in the wrong part, and before the edit, so the share says little by itself. Read it between two
others over the same photos: colour_words_photo (the photo before the edit, against the same text) and colour_words_real
(the photo against a caption of its own). colour_words_way is how far from the first to the second the edits get.

The share, the weight and the table of basic colours were chosen on photographs of 12 kinds of birds, by the gap between
their own captions and those of other kinds: docs/metrics.md has it.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from tmgan.common.progress import Progress
from tmgan.data.captions import tokenize
from tmgan.data.colour_words import COLOUR_WORDS, families
from tmgan.data.masks import masks_command
from tmgan.data.pack import Pack
from tmgan.evaluation.metrics.edits import Edits, available_masks
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.per_image import LEAST_AREA, PerImage

BASIC = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown", "gray", "tan")
# Other words count as the basic colour that people would call what they name. The nearest one in CIELAB would make teal
# gray, and turquoise white.
_TAN = ("tan", "buff", "beige", "cream", "ivory")
BASIC_OF = {word: "tan" if word in _TAN else families(word)[0] for word in COLOUR_WORDS}
LEAST_SHARE = 0.05  # of the object's pixels
_LIGHTNESS = 0.5  # weight of a difference of lightness


def named_colours(texts: list[str]) -> Tensor:
    """(B, len(BASIC)) bool: which basic colours each text names."""
    named = torch.zeros(len(texts), len(BASIC), dtype=torch.bool)
    for row, text in enumerate(texts):
        for word in tokenize(text):
            if word in BASIC_OF:
                named[row, BASIC.index(BASIC_OF[word])] = True
    return named


def colour_shares(images: Tensor, objects: Tensor) -> Tensor:
    """(B, len(BASIC)) float32: which share of the object's pixels is nearest to each basic colour.

    Args:
        images: (B, 3, S, S) in [-1, 1].
        objects: (B, 1, S, S) bool.

    Returns:
        Zeros for an image without an object.
    """
    palette = _lab(torch.tensor([COLOUR_WORDS[name] for name in BASIC], device=images.device) / 255)
    pixels = _lab((images.permute(0, 2, 3, 1)[objects[:, 0]] + 1) / 2)
    nearest = torch.cdist(pixels, palette, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    area = objects.sum((1, 2, 3))
    image = torch.repeat_interleave(torch.arange(len(images), device=images.device), area)
    counts = torch.bincount(image * len(BASIC) + nearest, minlength=len(images) * len(BASIC))
    return counts.view(len(images), len(BASIC)) / area.clamp(min=1)[:, None]


def _lab(rgb: Tensor) -> Tensor:
    """(N, 3) sRGB in [0, 1] -> CIELAB of white D65 (IEC 61966-2-1, CIE 15), its lightness weighted."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    r, g, b = linear.unbind(1)
    x, y, z = (
        # Written out: a matrix product may be computed in TF32.
        _cube_root((row[0] * r + row[1] * g + row[2] * b) / white)
        for row, white in zip(matrix, (0.95047, 1.0, 1.08883), strict=True)
    )
    return torch.stack([_LIGHTNESS * (116 * y - 16), 500 * (x - y), 200 * (y - z)], 1)


def _cube_root(t: Tensor) -> Tensor:
    """CIELAB's: straight near zero."""
    edge = 6 / 29
    return torch.where(t > edge**3, t.clamp(min=edge**3) ** (1 / 3), t / (3 * edge**2) + 4 / 29)


def object_mask(pack: Pack, names: tuple[str, ...]) -> str | None:
    """Which mask shows the object: the first of these names, or of all masks the pack has if there are no names.

    Returns:
        None where there is none but that of the histograms, which shows what has changed.
    """
    return next((name for name in names or available_masks(pack)[0] if name != "histogram"), None)


def names_colours(pack: Pack) -> bool:
    """Whether captions of the pack can name a colour."""
    return not BASIC_OF.keys().isdisjoint(pack.vocabulary.words)


class ColourWords(PerImage):
    """colour_words, colour_words_photo, colour_words_real and colour_words_way, all over the same photos.

    Those are the photos of which both the text and the own caption name a colour. There is no way where the copied
    input has the named colours as often as real photos have, so not with --captions own.

    Raises:
        ValueError: when there is no mask of the object, or captions name no colour.
    """

    def __init__(self, pack: Pack, masks: tuple[str, ...]):
        super().__init__()
        name = object_mask(pack, masks)
        if name is None:
            raise ValueError(
                f"colour_words looks at the object only, and {pack.path} has no mask of it"
                f"{' among ' + ', '.join(masks) if masks else ''}. Make masks with\n  {masks_command(pack, 'fcn')}"
            )
        if not names_colours(pack):
            raise ValueError(
                f"colour_words needs captions that name colours, such as {', '.join(BASIC[:3])}; those of {pack.path} "
                "name none. Leave it out."
            )
        self.mask = name

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        objects = batch.keep[self.mask] < 0.5
        target, own = (named_colours(texts).to(objects.device) for texts in (batch.texts, batch.own))
        undefined = ~(target.any(1) & own.any(1)) | (objects.double().mean((1, 2, 3)) < LEAST_AREA)
        edit, photo = (colour_shares(images, objects) >= LEAST_SHARE for images in (batch.edits, batch.photos))

        def found(there: Tensor, named: Tensor) -> Tensor:
            return ((there & named).sum(1) / named.sum(1)).double().masked_fill(undefined, float("nan"))

        return {
            "colour_words": found(edit, target),
            "colour_words_photo": found(photo, target),
            "colour_words_real": found(photo, own),
        }

    def measure(self, name: str, values: list[float]) -> Measure:
        better = "higher" if name == "colour_words" else ""
        note = "" if self.mask == "dataset" else f"colour_words: the object is what the {self.mask} masks say."
        measure = Measure.of(values, unit="of the named colours", better=better, note=note)
        if measure.n:
            return measure
        return dataclasses.replace(measure, note=f"{name}: no photo has two captions that name colours, and an object.")

    def measures(self, show: Progress) -> dict[str, Measure]:
        """By name, over everything seen."""
        found = super().measures(show)
        edit, photo, real = (torch.tensor(found[f"colour_words{k}"].values) for k in ("", "_photo", "_real"))
        if found["colour_words_real"].value > found["colour_words_photo"].value:
            found["colour_words_way"] = Measure.of(
                (edit - photo).tolist(),
                unit="of the way from photo to real",
                better="higher",
                statistic="ratio",
                weights=(real - photo).tolist(),
            )
        return found
