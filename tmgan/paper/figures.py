"""Figures 5, 6 and 7 of the paper, and the gradient maps, as picture grids."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tmgan.evaluation.metrics.edits import Edits
from tmgan.paper.published import Maps
from tmgan.paper.variants import PreTrained
from tmgan.reports.pictures import grid

# Black, violet, red, orange, yellow, pale yellow: brightness rises evenly, so the maps can also be read in grey.
_HEAT = torch.tensor([[0, 0, 0], [75, 10, 105], [180, 45, 70], [240, 125, 25], [250, 215, 80], [252, 250, 190]]) / 255.0


def figure5(baseline: Edits, pre_trained: PreTrained) -> Image.Image:
    """Histogram masks of photo and edit, and the pre-trained model's (or true) masks; needs both masks."""
    name = {"fcn": "FCN", "dataset": "true"}[pre_trained]
    histogram, other = baseline.keep["histogram"], baseline.keep[pre_trained]
    return grid(
        [
            baseline.photos,
            baseline.edits,
            _mask(histogram),
            _under(baseline.photos, histogram),
            _under(baseline.edits, histogram),
            _mask(other),
            _under(baseline.photos, other),
        ],
        [
            "photo",
            "edit by Lightweight GAN",
            "histogram mask",
            "photo under it",
            "edit under it",
            f"{name} mask",
            "photo under it",
        ],
    )


def side_by_side(columns: Iterable[tuple[str, Edits]]) -> Image.Image:
    """Figures 6 and 7: the photos, and each model's edits of them."""
    columns = list(columns)
    return grid([columns[0][1].photos, *(edits.edits for _, edits in columns)], ["photo", *(t for t, _ in columns)])


def heat_maps(maps: Maps, rows: int = 3) -> dict[str, Image.Image]:
    """One picture per method, by its name: edits, their sharp regions, and its gradient in every wiring."""
    photos, edits, sharp = maps.photos[:rows], maps.edits[:rows], _mask(maps.sharp[:rows])
    groups: dict[str, tuple[list[Tensor], list[str]]] = {}
    for entry in maps.maps:
        columns, titles = groups.setdefault(
            entry.method.split(",")[0].removesuffix(" 9"),
            ([photos, edits, sharp], ["photo", "edit", "its sharp regions"]),
        )
        if entry.pictures is not maps.edits and not torch.equal(entry.pictures, maps.edits):
            columns.append(entry.pictures[:rows])
            titles.append(f"what D is shown, {entry.wiring}")
        columns.append(heat(entry.gradient[:rows].norm(dim=1, keepdim=True)))
        titles.append(f"{entry.method}: {entry.wiring}" + ("" if entry.strength else ", none"))
    return {name: grid(columns, titles) for name, (columns, titles) in groups.items()}


def heat(size: Tensor) -> Tensor:
    """(B, 1, S, S) of sizes -> (B, 3, S, S) in [-1, 1], each map by its own 99.5th percentile; zero stays black."""
    flat = size.detach().float().cpu().flatten(1)
    top = flat.quantile(0.995, dim=1).clamp(min=1e-20).view(-1, 1, 1, 1)
    position = (size.detach().float().cpu() / top).clamp(0, 1) * (len(_HEAT) - 1)
    low = position.floor().long().clamp(max=len(_HEAT) - 2)
    fraction = (position - low).squeeze(1)[..., None]
    colours = _HEAT[low.squeeze(1)] * (1 - fraction) + _HEAT[low.squeeze(1) + 1] * fraction
    return colours.permute(0, 3, 1, 2) * 2 - 1


def _mask(mask: Tensor) -> Tensor:
    """White: kept; black: may change."""
    return mask.float().expand(-1, 3, -1, -1) * 2 - 1


def _under(images: Tensor, mask: Tensor) -> Tensor:
    """What is kept of the images; the rest is black."""
    return (images + 1) * F.interpolate(mask.float(), size=images.shape[2:]) - 1
