"""What README.md shows runs: its Python at small size, its commands by name (tests/cli/test_printed_commands.py)."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import tmgan
from tests.conftest import TINY

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture
def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.S)


def test_it_fits_on_a_few_screens():
    assert len(README.splitlines()) <= 120


def test_from_a_folder_of_photos_to_an_edit(blocks, tmp_path, monkeypatch, capsys):
    (block,) = (block for block in blocks if "tmgan.prepare" in block)
    monkeypatch.chdir(tmp_path)
    tmgan.draw_birds("FOLDER", count=20, image_size=64)
    Image.radial_gradient("L").convert("RGB").save("PHOTO.jpg")
    monkeypatch.setattr(tmgan, "prepare", functools.partial(tmgan.prepare, image_size=64, workers=1))
    monkeypatch.setattr(tmgan, "configure", functools.partial(tmgan.configure, **TINY))
    exec(block, {})
    assert Image.open("edited.png").size == (256, 256)
    assert any(line.startswith("sharpness ") for line in capsys.readouterr().out.splitlines())


def test_three_kernels_in_a_strangers_loop(blocks):
    (block,) = (block for block in blocks if "tmgan_kernels" in block)
    photo = torch.rand(2, 3, 16, 16)
    edit = (photo + 0.1).requires_grad_()
    names = {"photo": photo, "edit": edit, "keep": torch.ones(2, 1, 16, 16)}
    exec(block, names)
    names["loss"].backward()
    assert names["blurred"].shape == photo.shape and edit.grad.isfinite().all() and edit.grad.any()
