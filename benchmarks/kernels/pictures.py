"""What each operation does, as a strip of two or three panels: the pictures of kernels/README.md.

    python -m benchmarks.kernels.pictures        # writes kernels/pictures/*.png

Drawn birds go through the eager definitions, so anyone can rerun it; `tests/benchmarks/test_pages.py` does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import tmgan_kernels as k
from tmgan.data.drawn.drawing import draw_bird
from tmgan.data.palette import PARTS

COMMAND = "python -m benchmarks.kernels.pictures"
FOLDER = Path(__file__).parents[2] / "kernels" / "pictures"
SIZE = 112  # edge of a panel in pixels
GAP, CAPTION = 6, 17  # pixels between panels and below them
COLOURS = 128  # of a file: small, and hardly to be told from all of them
Panels = list[tuple[str, Tensor]]  # caption; (1, 3 or 1, SIZE, SIZE) in [-1, 1], or a mask


@cache
def _bird(seed: int) -> tuple[Tensor, Tensor]:
    """A photo (1, 3, SIZE, SIZE) in [-1, 1] and its parts (1, 1, SIZE, SIZE), 0 for the background."""
    drawing = draw_bird(np.random.default_rng(seed), SIZE)
    photo = torch.from_numpy(drawing.pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    return photo, torch.from_numpy(drawing.parts.copy())[None, None]


def _edited(photo: Tensor, parts: Tensor, part: str) -> Tensor:
    """The photo with one part of the bird in another colour."""
    return torch.where(parts == 1 + PARTS.index(part), photo[:, [2, 0, 1]], photo)


def _shown(plane: Tensor) -> Tensor:
    """A plane of values >= 0 as grey: black is 0, white the largest; the square root lifts what is small."""
    return (plane / plane.max()).sqrt() * 2 - 1


# ------------------------------------------------------------ one function each
def laplace_sharpness(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    return [("image", photo), ("sharpness", _shown(k.laplace_sharpness(photo)))]


def sharpness_score(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    images = photo, k.gaussian_blur(photo, 5, 0.7), k.gaussian_blur(photo, 9, 2.0)
    return [(f"{k.sharpness_score(image).item():.1f}", image) for image in images]


def sharp_regions(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    sharpness = k.laplace_sharpness(photo)
    return [("image", photo), ("sharpness", _shown(sharpness)), ("mask", k.sharp_regions(sharpness)[0])]


def naive_sharpness_loss(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    """Descent on the pixels of a blurred photo, with the photo's own sharp regions as labels."""
    labels = k.sharp_regions(k.laplace_sharpness(photo))[0]
    blurred = k.gaussian_blur(photo, 5, 1.2)
    image = blurred.clone().requires_grad_()
    optimiser = torch.optim.Adam([image], lr=0.01)
    panels = []
    for step in range(31):
        loss = k.naive_sharpness_loss(image, gamma=1.0, labels=labels)
        if step in (0, 30):
            panels.append((f"step {step}: {loss.item():.2f}", image.detach().clamp(-1, 1).clone()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return panels


def scale_gradient(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    image = photo.clone().requires_grad_()
    wanted = (photo - other).abs().mean(1, keepdim=True)
    (k.scale_gradient(image, parts > 0) - other).square().sum().backward()
    return [
        ("gradient", _shown(wanted)),
        ("gain", parts > 0),
        ("what arrives", _shown(image.grad.abs().mean(1, keepdim=True))),
    ]


def sharp_gradient(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    gains = []
    for mode in ("regions", "smooth"):
        image = photo.clone().requires_grad_()
        k.sharp_gradient(image, mode=mode).sum().backward()
        gains.append((f'gain, "{mode}"', (image.grad[:, :1] - 1) * 2 - 1))
    return [("image", photo), *gains]


def box_blur(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    return [("image", photo), *((f"size {size}", k.box_blur(photo, size)) for size in (5, 15))]


def gaussian_blur(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    blurs = [(f"{size}, sigma {sigma:g}", k.gaussian_blur(photo, size, sigma)) for size, sigma in ((5, 1.0), (15, 4.0))]
    return [("image", photo), *blurs]


def masked_mae(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    keep = parts == 0
    edit = k.gaussian_blur(_edited(photo, parts, "wings"), 7, 1.5)
    loss = k.masked_mae(photo, edit, keep).item()
    return [
        ("original", photo),
        ("edit", edit),
        (f"loss {loss:.2f}", _shown(((photo - edit).abs() * keep).mean(1, True))),
    ]


def mask_score(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    keep = parts == 0
    clean = _edited(photo, parts, "wings")
    edits = clean, clean * 0.9 + 0.1
    return [("original", photo), *((f"score {k.mask_score(photo, x, keep).item():.0f}", x) for x in edits)]


def match_histogram(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    return [("source", photo), ("reference", other), ("result", k.match_histogram(photo, other))]


def change_mask(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    edit = _edited(photo, parts, "head") * 0.9
    return [("original", photo), ("edit, darker", edit), ("keep-mask", k.change_mask(photo, edit, eight_bit=True))]


def instance_norm_glu(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    """One plane of values without contrast, one of gates: the values are stretched, and let through where gates say."""
    values, gates = photo.mean(1, keepdim=True) * 0.25 - 0.5, k.gaussian_blur((parts > 0).float(), 5, 1.5)
    y = k.instance_norm_glu(torch.cat([values, gates], 1))
    return [("first half", values), ("second half", gates * 2 - 1), ("result", y / y.abs().max())]


def gather_crop(photo: Tensor, parts: Tensor, other: Tensor) -> Panels:
    """The same crop as it is and mirrored; its frame is drawn into the tile afterwards."""
    tile = ((photo + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous()
    top, left, size = 14, 22, 76
    place = [torch.tensor([value, value]) for value in (0, top, left)]
    crops = k.gather_crop(tile, *place, torch.tensor([False, True]), size)
    framed = photo.clone()
    inside = framed[..., top : top + size, left : left + size].clone()
    framed[..., top - 1 : top + size + 1, left - 1 : left + size + 1] = 1.0
    framed[..., top : top + size, left : left + size] = inside
    return [("tile", framed), ("crop", crops[:1]), ("crop, flip", crops[1:])]


STRIPS: dict[str, Callable[[Tensor, Tensor, Tensor], Panels]] = {
    function.__name__: function
    for function in (
        laplace_sharpness,
        sharpness_score,
        sharp_regions,
        naive_sharpness_loss,
        scale_gradient,
        sharp_gradient,
        box_blur,
        gaussian_blur,
        masked_mae,
        mask_score,
        match_histogram,
        change_mask,
        instance_norm_glu,
        gather_crop,
    )
}


# ----------------------------------------------------------------------- drawing
def _pixels(panel: Tensor) -> Image.Image:
    panel = panel.float() * 2 - 1 if panel.dtype == torch.bool else panel
    grey_or_colour = panel[0].expand(3, -1, -1).clamp(-1, 1)
    picture = Image.fromarray(((grey_or_colour + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    return picture if picture.size == (SIZE, SIZE) else picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def strip(name: str) -> Image.Image:
    """The panels of an operation side by side, captions below."""
    (photo, parts), (other, _) = _bird(5), _bird(28)
    panels = STRIPS[name](photo, parts, other)
    canvas = Image.new("RGB", (len(panels) * (SIZE + GAP) - GAP, SIZE + CAPTION), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (caption, panel) in enumerate(panels):
        x = i * (SIZE + GAP)
        canvas.paste(_pixels(panel), (x, 0))
        draw.text((x + SIZE // 2, SIZE + 3), caption, "black", ImageFont.load_default(11), anchor="ma")
    return canvas


def write(folder: Path = FOLDER) -> list[Path]:
    """One PNG for each operation. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in STRIPS:
        paths.append(folder / f"{name}.png")
        strip(name).quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(paths[-1], optimize=True)
    return paths


if __name__ == "__main__":
    write()
