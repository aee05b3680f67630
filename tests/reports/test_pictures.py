"""Grids; and pictures on the disk: what cannot be written is a sentence with the file's name."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
from PIL import Image

from tmgan.common.errors import sentence
from tmgan.reports.pictures import grid, save_picture


def test_a_missing_folder_is_a_sentence(tmp_path):
    path = tmp_path / "none" / "p.png"
    with pytest.raises(ValueError) as error:
        save_picture(Image.new("L", (9, 9)), path)
    assert str(error.value) == f"{path} cannot be written: there is no folder {path.parent}. Make it first."


def test_a_full_disk_is_a_sentence(tmp_path):
    """As a limit on the size of files says it. Nothing half-written stays."""
    path = tmp_path / "p.png"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            save_picture(noise, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{path} cannot be written: the disk is full" in sentence(error.value)
    assert list(tmp_path.iterdir()) == []


def test_another_hindrance_is_a_sentence(tmp_path):
    (tmp_path / "p.png").mkdir()
    with pytest.raises(ValueError, match=r"p.png cannot be written: Is a directory\.$"):
        save_picture(Image.new("L", (9, 9)), tmp_path / "p.png")
    with pytest.raises(ValueError, match="p.xyz: give the picture an ending"):
        save_picture(Image.new("L", (9, 9)), tmp_path / "p.xyz")


def test_a_grid_has_the_texts_beside_the_photos():
    images = torch.zeros(2, 3, 64, 64)
    plain, with_texts = grid([images] * 2, ["photo", "a"]), grid([images] * 2, ["photo", "a"], ["red head", "blue"])
    assert with_texts.width == plain.width + 132 and with_texts.height == plain.height
    column = with_texts.crop((136, 18, 264, with_texts.height)).convert("L")
    assert column.getextrema() == (0, 255) and with_texts.getpixel((270, 30)) == plain.getpixel((138, 30))
