"""`checkerboard`: nothing in pictures and noise, much in what upsampling leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tmgan.data.crops import centre_crops
from tmgan.evaluation.evaluate import baselines, evaluate, quick_protocol
from tmgan.evaluation.metrics.checkerboard import PERIOD, _explained, checkerboard
from tmgan.evaluation.protocol import Protocol


@pytest.fixture
def photos(pack) -> torch.Tensor:
    return centre_crops(pack.tiles, torch.arange(len(pack)), 64)


def _noise(*shape: int) -> torch.Tensor:
    return 0.2 * torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def _uneven(images: torch.Tensor) -> torch.Tensor:
    """A transposed convolution of kernel 3 and stride 2 with equal weights: 1, 2 or 4 of them meet in a pixel."""
    weight = torch.eye(3)[:, :, None, None].expand(-1, -1, 3, 3) / 2.25
    return F.conv_transpose2d(images, weight, stride=2, padding=1, output_padding=1)


def test_pictures_and_noise_have_none(photos):
    assert checkerboard(photos).mean().abs() < 0.01
    assert checkerboard(_noise(40, 3, 64, 64)).mean().abs() < 0.006
    assert checkerboard(_noise(8, 3, 128, 128)).abs().max() < 0.006
    assert checkerboard(torch.full((2, 3, 64, 64), 0.3)).tolist() == [0, 0]
    # As chance has it, each share is as often below zero as above.
    assert _explained(_noise(400, 1, 40, 40)).mean().abs() < 0.004


@pytest.mark.parametrize("offset", [0, 1])
def test_grids_are_seen_wherever_they_begin(photos, offset):
    def shift(images):
        return images.roll((offset, offset), (2, 3))

    smaller = F.avg_pool2d(photos, 2)
    assert checkerboard(shift(_uneven(smaller))).min() > 0.2
    assert checkerboard(shift(_uneven(_noise(4, 3, 32, 32)))).min() > 0.04
    for factor in (2, 4, 8):
        blocks = F.interpolate(_noise(4, 3, 64 // factor, 64 // factor), scale_factor=factor)
        assert checkerboard(shift(blocks)).min() > 0.3
    assert checkerboard(F.interpolate(smaller, scale_factor=2)).mean() > 0.1


def test_a_pattern_of_two_levels_is_seen_in_photos(photos):
    """Of black and white fields, whose steps are all alike, and of single points."""
    fields = torch.tensor([[1.0, -1], [-1, 1]]).repeat(32, 32) * 2 / 127.5
    points = torch.tensor([[1.0, 0], [0, 0]]).repeat(32, 32) * 4 / 127.5
    for pattern in (fields, points):
        assert (checkerboard(photos + pattern) - checkerboard(photos)).median() > 0.05


def test_the_share_is_that_of_an_analysis_of_variance():
    signal = _noise(1, 1, 43, 50) + torch.arange(PERIOD).repeat(7)[:50] * 0.03
    rows = signal[0, 0, :40, :48].numpy()
    phase = np.add.outer(np.arange(40) % PERIOD * PERIOD, np.arange(48) % PERIOD)
    within = sum(((rows[phase == k] - rows[phase == k].mean()) ** 2).sum() for k in range(PERIOD**2))
    n, total = rows.size, ((rows - rows.mean()) ** 2).sum()
    wanted = 1 - (within / (n - PERIOD**2)) / (total / (n - 1))
    assert _explained(signal).item() == pytest.approx(wanted, rel=1e-4) and wanted > 0.05


def test_it_is_measured_beside_the_photos_own(editor, pack):
    evaluation = evaluate(baselines(editor)["input copied"], pack, Protocol(metrics=("checkerboard",), count=4))
    assert evaluation["checkerboard"].values == evaluation["checkerboard_photo"].values
    assert evaluation["checkerboard"].better == "lower" and evaluation["checkerboard"].n == 4
    assert "checkerboard" in quick_protocol(pack, 3).metrics
