"""Which square of a photo is edited: around a box, around the object that a network finds, or the centred one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tmgan.config.methods import MethodConfig
from tmgan.editing.compositing import to_tensor
from tmgan.methods.mask_providers import MaskProvider
from tmgan.models import weights

Box = tuple[float, float, float, float]  # x, y, width, height in pixels
# Share of a bird's box that a training crop spans: 2 * 0.75 for the box crop, times 256/304 for the crop of the tile.
BOX_TO_SQUARE = 2 * 0.75 * 256 / 304
LOOK_EDGE = 448  # of the square, with the whole photo in it, that a provider looks at
_SPAN = 2.0  # that square in training crops, 224 pixels to FCN: so it sees a photo at all pixels of the square
_CELL = 4  # pixels of that square: parts of an object that a twig of this width separates are one
_SPECK = 5e-4  # of the photo's area: what is smaller is no object


def square(size: tuple[int, int], box: Box | None) -> tuple[int, int, int]:
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


def provider_of_training(method: MethodConfig, weights_dir: str) -> tuple[str, bool]:
    """The mask provider that found the objects a run was trained with.

    Args:
        weights_dir: a folder with third-party weights, "" for none of one's own.

    Returns:
        Its name, "" for none, and whether what it needs is found here.
    """
    name = method.keep_mask
    if name == "fcn":
        return name, weights.find(name, weights_dir) is not None
    if name == "clipseg":
        copied = bool(weights_dir) and (Path(weights_dir) / "model.safetensors").is_file()
        return name, copied and importlib.util.find_spec("transformers") is not None
    return "", False


def view_of(photo: Image.Image) -> Tensor:
    """What a provider looks at: a whole RGB photo, centred on a grey square, (1, 3, edge, edge) in [-1, 1]."""
    left, top, width, height = _inside(photo.size)
    view = torch.zeros(1, 3, LOOK_EDGE, LOOK_EDGE)
    small = to_tensor(photo.resize((width, height), Image.Resampling.BILINEAR))
    view[:, :, top : top + height, left : left + width] = small
    return view


def find_boxes(
    provider: MaskProvider, views: list[Tensor], texts: list[str], sizes: list[tuple[int, int]]
) -> list[Box | None]:
    """The box of the object in each photo, None where there is none.

    Args:
        views: of view_of().
        sizes: of the photos, width and height in pixels.
    """
    masks = provider(torch.cat(views), texts, _SPAN).float().cpu().numpy()
    return [box_of(mask[0], size) for mask, size in zip(masks, sizes, strict=True)]


def box_of(mask: np.ndarray, size: tuple[int, int]) -> Box | None:
    """The box of the largest connected object, in pixels of a photo of `size` (width, height); None if there is none.

    Args:
        mask: (LOOK_EDGE, LOOK_EDGE) in [0, 1], 1 on objects, of view_of() of the photo.
    """
    left, top, width, height = _inside(size)
    inside = np.zeros_like(mask, dtype=bool)
    area = (slice(top, top + height), slice(left, left + width))
    inside[area] = mask[area] > 0.5
    cells = inside.reshape(LOOK_EDGE // _CELL, _CELL, LOOK_EDGE // _CELL, _CELL).sum((1, 3))
    group = _largest_group(cells)
    if cells[group].sum() < _SPECK * width * height:
        return None
    rows, columns = np.nonzero(inside & group.repeat(_CELL, 0).repeat(_CELL, 1))
    x, right = ((edge - left) * size[0] / width for edge in (columns.min(), columns.max() + 1))
    y, bottom = ((edge - top) * size[1] / height for edge in (rows.min(), rows.max() + 1))
    return round(x), round(y), max(1, round(right - x)), max(1, round(bottom - y))


def _inside(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of a photo of `size` within the square that a provider looks at."""
    scale = LOOK_EDGE / max(size)
    width, height = (max(1, round(scale * edge)) for edge in size)
    return (LOOK_EDGE - width) // 2, (LOOK_EDGE - height) // 2, width, height


def _largest_group(cells: np.ndarray) -> np.ndarray:
    """Which cells (H, W) belong to the group of neighbours, also across corners, with the largest sum."""
    largest, most = np.zeros_like(cells, dtype=bool), 0
    left = set(map(tuple, np.argwhere(cells).tolist()))
    while left:
        group, border = [], [left.pop()]
        while border:
            row, column = border.pop()
            group.append((row, column))
            near = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & left
            left -= near
            border.extend(near)
        here = tuple(np.array(group).T)
        if cells[here].sum() > most:
            most = cells[here].sum()
            largest = np.zeros_like(cells, dtype=bool)
            largest[here] = True
    return largest
