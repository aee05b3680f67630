"""Edit photos with a trained generator: `tmgan.load(run).edit(photo, text)`.

The network sees a small square; its *change* is enlarged and added to the photo, so a photo keeps its own resolution
and what the edit does not touch stays exactly as sharp as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from tmgan.common.files import user_path
from tmgan.common.philox import Purpose, normal
from tmgan.config.runtime import Runtime, decide
from tmgan.config.settings import RuntimeConfig, TrainConfig
from tmgan.data.captions import lost_letters
from tmgan.editing.compositing import KeepSource, View, composite, keep_picture, to_picture, to_tensor
from tmgan.editing.photo_file import Photo, read_photo
from tmgan.models.bundle import GENERATOR, RANDOM_NOTE, Encoders, load_encoders, load_generator
from tmgan.models.stages import GeneratorOutput

# Share of a bird's box that a training crop spans: 2 * 0.75 for the box crop, times 256/304 for the crop of the tile.
BOX_TO_SQUARE = 2 * 0.75 * 256 / 304
BOLDEST = 4.0  # greatest strength of an edit
_FEATHER = 0.04  # of the square's edge: over this width the change fades out towards the rest of the photo


class Edited(NamedTuple):
    """An edit at the photo's own resolution.

    Attributes:
        picture: the edited photo.
        attention: for every known word where the generator looked: (word, greyscale map of the square).
        composited: M * photo + (1 - M) * picture; None without a keep-mask.
        keep: the keep-mask M, greyscale, white = kept; None without one.
        notes: what of the photo's file could not be used, as sentences.
    """

    picture: Image.Image
    attention: list[tuple[str, Image.Image]]
    composited: Image.Image | None
    keep: Image.Image | None
    notes: tuple[str, ...] = ()


class Editor:
    """A trained generator with its encoders, ready to edit.

    Attributes:
        run: the folder it comes from; None for one that was put together.
    """

    def __init__(
        self,
        generator: nn.Module,
        encoders: Encoders,
        config: TrainConfig,
        runtime: Runtime,
        images: int | None = None,
        run: Path | None = None,
    ):
        self.run = run
        self.generator = generator.eval().requires_grad_(False).to(runtime.device)
        self.encoders, self.config, self.runtime, self._images = encoders, config, runtime, images
        for module in (encoders.text, encoders.photo):
            module.eval().requires_grad_(False).to(runtime.device)

    @property
    def image_size(self) -> int:
        """Edge of the square the network edits, in pixels."""
        return self.config.model.image_size

    @property
    def notes(self) -> list[str]:
        """What whoever looks at the edits must know about this model, as sentences."""
        notes = [RANDOM_NOTE] if self.encoders.weights == "random" else []
        if self._images is not None and self._images < self.config.images:
            notes.append(f"this run is unfinished: it has seen {self._images:,} of {self.config.images:,} images.")
        if not self.encoders.finished:
            notes.append(self.encoders.unfinished_note)
        return notes

    def tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Word ids (B, L) and lengths (B,) of the known words of each text. Unknown words are left out.

        Raises:
            ValueError: a text has no known word at all.
        """
        rows = [self.encoders.vocabulary.encode(text)[0] for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if not row:
                raise ValueError(f"No word of {text!r} is in the vocabulary of this model. {self.unknown_words(text)}")
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        return tokens.to(self.runtime.device), torch.tensor([len(r) for r in rows]).to(self.runtime.device)

    def unknown_words(self, text: str) -> str:
        """What of a text is not read: lost letters, unknown words with the nearest known ones; or ""."""
        vocabulary = self.encoders.vocabulary
        notes = [
            f"{word!r} is read as {left!r}" if left else f"{word!r} has none of the letters that are read, a to z"
            for word, left in lost_letters(text)
        ]
        for word in dict.fromkeys(vocabulary.encode(text)[1]):
            nearest = vocabulary.nearest(word)
            notes.append(f"{word!r} is unknown" + (f" (nearest: {', '.join(nearest)})" if nearest else ""))
        return "; ".join(notes)

    @torch.no_grad()
    def edit_tensors(self, images: Tensor, texts: list[str], seed: int = 0, strength: float = 1.0) -> GeneratorOutput:
        """Edit images (B, 3, S, S) in [-1, 1] at the network's size, with the conditioning augmentation at its mean.

        Args:
            strength: times the change, inside what the network does not keep: 0 is the photo, 1 the network's edit,
                more is bolder, 4 the most.

        Raises:
            ValueError: no word of a text is known, or strength is out of range.
        """
        if not 0 <= strength <= BOLDEST:
            raise ValueError(f"strength is {strength:g}; use 0, the photo, to {BOLDEST:g}.")
        device, model = self.runtime.device, self.config.model
        images = images.to(device)
        tokens, lengths = self.tokens(texts)
        noise = fixed_noise(seed, 1, model.noise_dim).to(device).expand(len(images), -1)
        eps = torch.zeros(len(images), model.condition_dim, device=device)
        with self.runtime.autocast():
            words, sentence = self.encoders.text(tokens, lengths)
            features = self.encoders.photo.features(images, code=getattr(self.generator, "reads_code", True))
            output = self.generator(noise, sentence, words, tokens == 0, eps, features, images)
        return output if strength == 1.0 else output._replace(image=_exaggerate(images, output, strength))

    def edit(
        self,
        photo: str | Path | Image.Image,
        text: str,
        box: tuple[float, float, float, float] | None = None,
        seed: int = 0,
        strength: float = 1.0,
    ) -> Image.Image:
        """The photo edited towards the text, at the photo's own resolution and in its own colour space.

        The picture is RGB, or RGBA if the photo has transparency. Its `info` holds the photo's profile, EXIF, XMP and
        resolution. Its `save("x.png")` writes profile and transparency; `tmgan.editing.saving.save_photo` writes all,
        and a JPEG as coarse as the photo's was.

        Args:
            photo: a file, or a picture of Pillow's, which stays as it is.
            box: x, y, width, height of the bird in pixels; without it the photo's central square is edited.
            strength: 1 is the network's edit, more is bolder; see `edit_tensors`.

        Raises:
            ValueError: the photo cannot be read, the box lies outside it, or no word is known.
        """
        return self.edit_in_full(photo, text, box, seed, strength=strength).picture

    def edit_in_full(
        self,
        photo: str | Path | Image.Image,
        text: str,
        box: tuple[float, float, float, float] | None = None,
        seed: int = 0,
        keep: KeepSource | None = None,
        strength: float = 1.0,
    ) -> Edited:
        """edit(), with the attention of every known word and, if `keep` is given, the composited picture."""
        whole = read_photo(photo)
        left, top, side = square(whole.size, box)
        area = (left, top, left + side, top + side)
        small = whole.over_white(area).resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
        before = to_tensor(whole.colour.to_srgb(small))
        output = self.edit_tensors(before, [text], seed, strength)
        after = output.image.float().cpu()
        result = _add(_change(before, after, whole), whole, (left, top, side))
        words = [self.encoders.vocabulary.words[i] for i in self.encoders.vocabulary.encode(text)[0]]
        maps = [(word, _grey(m, side)) for word, m in zip(words, output.attention[0].float().cpu(), strict=True)]
        picture = whole.with_pixels(result)
        if keep is None:
            return Edited(picture, maps, None, None, whole.notes)
        view = View(whole.colour.to_srgb(whole.over_white()), (left, top, side), before, after, text)
        mask = keep_picture(keep(view), whole.size, (left, top, side))
        return Edited(picture, maps, whole.with_pixels(composite(whole.rgb, result, mask)), mask, whole.notes)


def _exaggerate(images: Tensor, output: GeneratorOutput, strength: float) -> Tensor:
    """(B, 3, S, S) in [-1, 1]: the change times `strength`, but no more than once where the network keeps its input."""
    factor: float | Tensor = strength
    if strength > 1 and output.keep_logits is not None:
        factor = 1 + (strength - 1) * (1 - torch.sigmoid(output.keep_logits))
    return (images + factor * (output.image - images)).clamp(-1, 1)


def fixed_noise(seed: int, count: int, dim: int) -> Tensor:
    """(count, dim) standard normal numbers, for edits and for pictures that stay comparable over time."""
    return torch.from_numpy(normal(seed, Purpose.NOISE, 2**62, (count, dim)))


def load(run: str | Path, runtime: RuntimeConfig | None = None) -> Editor:
    """The editor that a run of `tmgan train` has made. ValueError, with what is missing, if there is none."""
    run = user_path(run)
    if not run.is_dir():
        raise ValueError(f"There is no run folder {run}. `tmgan train` makes one.")
    if not (run / GENERATOR).exists():
        raise ValueError(
            f"{run} holds no {GENERATOR}: it is not a run of `tmgan train`, or has not reached its first checkpoint."
        )
    decision = decide(runtime or RuntimeConfig())
    encoders = load_encoders(run)
    generator, config, images = load_generator(run, encoders)
    return Editor(generator, encoders, config, decision, images, run)


def square(size: tuple[int, int], box: tuple[float, float, float, float] | None) -> tuple[int, int, int]:
    """Left, top and edge of the square to edit in a photo of `size` (width, height), scaled as training crops were.

    Raises:
        ValueError: the box (x, y, width, height) lies outside the photo.
    """
    width, height = size
    if box is None:
        side = min(width, height)
        centre_x, centre_y = width / 2, height / 2
    else:
        x, y, w, h = box
        if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
            raise ValueError(
                f"The box {x:g} {y:g} {w:g} {h:g} (x y width height) lies outside the photo, which has "
                f"{width} x {height} pixels."
            )
        side = min(width, height, max(8, round(BOX_TO_SQUARE * max(w, h))))
        centre_x, centre_y = x + w / 2, y + h / 2
    left = min(max(0, round(centre_x - side / 2)), width - side)
    top = min(max(0, round(centre_y - side / 2)), height - side)
    return left, top, side


def _change(before: Tensor, after: Tensor, photo: Photo) -> Tensor:
    """after - before, pictures (1, 3, S, S) in [-1, 1] of sRGB, in the photo's colour space.

    Both are converted, and in 8 bits: so what the network leaves is exactly 0.
    """
    if photo.colour.is_srgb:
        return after - before
    there, here = (to_tensor(photo.colour.from_srgb(to_picture(images))) for images in (after, before))
    return there - here


def _add(change: Tensor, photo: Photo, where: tuple[int, int, int]) -> Image.Image:
    """The photo's pixels plus a change (1, 3, S, S), enlarged to the square `where`: left, top, edge."""
    left, top, side = where
    change = F.interpolate(change, size=(side, side), mode="bicubic", align_corners=False)[0]
    change *= _feather(side, left, top, photo.size)
    area = (left, top, left + side, top + side)
    if photo.alpha is not None:  # nothing is seen there, so nothing changes
        change *= torch.from_numpy(np.array(photo.alpha.crop(area)) > 0)
    full = torch.from_numpy(np.array(photo.rgb.crop(area))).permute(2, 0, 1).float() + change * 127.5
    result = photo.rgb.copy()
    result.paste(Image.fromarray(full.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()), (left, top))
    return result


def _feather(side: int, left: int, top: int, size: tuple[int, int]) -> Tensor:
    """(side, side) weights: 1 inside, falling to 0 at those edges of the square that lie inside the photo."""
    width = max(1, round(_FEATHER * side))
    rise = ((torch.arange(side) + 0.5) / width).clamp(max=1.0)
    ones = torch.ones(side)
    across = (rise if left > 0 else ones) * (rise.flip(0) if left + side < size[0] else ones)
    down = (rise if top > 0 else ones) * (rise.flip(0) if top + side < size[1] else ones)
    return down[:, None] * across[None, :]


def _grey(attention: Tensor, side: int) -> Image.Image:
    levels = (attention - attention.min()) / (attention.max() - attention.min()).clamp(min=1e-8)
    return Image.fromarray((levels * 255).byte().numpy()).resize((side, side), Image.Resampling.BICUBIC)
