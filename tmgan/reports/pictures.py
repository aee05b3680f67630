"""Picture grids: fixed photos (rows) by fixed captions (columns), comparable over a run."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tmgan.common.picture_files import format_of, write_picture

_CELL, _GAP, _LINE = 128, 4, 14  # pixels


def grid(columns: list[Tensor], titles: list[str], texts: Sequence[str] = ()) -> Image.Image:
    """Columns of images (R, 3, S, S) in [-1, 1] under their titles. Small images are enlarged without smoothing.

    Args:
        texts: one per row, written into a column of its own after the first one.
    """
    assert len(columns) == len(titles)
    rows, edge = len(columns[0]), columns[0].shape[-1]
    cell = max(_CELL, edge)
    if texts:
        columns, titles = [columns[0], _text_column(texts, cell), *columns[1:]], [titles[0], "text", *titles[1:]]
    title_lines = [textwrap.wrap(title, width=cell // 7) or [""] for title in titles]
    header = max(map(len, title_lines)) * _LINE + _GAP
    canvas = Image.new("RGB", (len(columns) * (cell + _GAP) + _GAP, header + rows * (cell + _GAP) + _GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for c, (images, lines) in enumerate(zip(columns, title_lines, strict=True)):
        left = _GAP + c * (cell + _GAP)
        draw.multiline_text((left, _GAP), "\n".join(lines), fill="black", font=font, spacing=2)
        pixels = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).byte()
        for r, picture in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
            tile = Image.fromarray(np.ascontiguousarray(picture)).resize((cell, cell), Image.Resampling.NEAREST)
            canvas.paste(tile, (left, header + r * (cell + _GAP)))
    return canvas


def _text_column(texts: Sequence[str], cell: int) -> Tensor:
    """Texts as black on white pictures (R, 3, cell, cell) in [-1, 1]."""
    font, pictures = ImageFont.load_default(size=11), []
    for text in texts:
        picture = Image.new("RGB", (cell, cell), "white")
        lines = textwrap.wrap(text, width=cell // 6)[: (cell - _GAP) // _LINE]
        ImageDraw.Draw(picture).multiline_text((0, 0), "\n".join(lines), fill="black", font=font, spacing=2)
        pictures.append(np.array(picture))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all; the format follows the file's ending.

    Raises:
        OSError: the disk is full; its filename is `path`.
        ValueError: the ending belongs to no format, or `path` cannot be written for another reason.
    """
    kind = format_of(path)
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **({"quality": 95} if kind != "PNG" else {}))
    write_picture(path, buffer.getvalue())


def words_strip(maps: list[tuple[str, Image.Image]]) -> Image.Image:
    """Attention maps side by side under their words."""
    canvas = Image.new("RGB", (len(maps) * (_CELL + _GAP) + _GAP, _LINE + _CELL + 3 * _GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for k, (word, picture) in enumerate(maps):
        left = _GAP + k * (_CELL + _GAP)
        draw.text((left, _GAP), word, fill="black", font=font)
        canvas.paste(picture.resize((_CELL, _CELL)).convert("RGB"), (left, _LINE + 2 * _GAP))
    return canvas
