"""naive_sharpness_loss and sharp_regions by csrc/sharpness.cu, by each of its teams: a cluster, or a block alone."""

import pytest
import torch

from tmgan_kernels import _native, naive_sharpness_loss, sharp_regions
from tmgan_kernels.sharp_regions import two_means_eager

from .contract import DEVICE, GPU, assert_accurate
from .cuda import built, contract_in_cuda  # noqa: F401
from .test_naive_sharpness_loss import TestNaiveSharpnessLoss as _Loss
from .test_sharp_regions import TestSharpRegions as _Regions

# Rows of whole vectors too, and a cluster of which some blocks have no rows.
TestNaiveSharpnessLossInCuda = contract_in_cuda(_Loss, shapes=((1, 1, 1, 1), (2, 3, 9, 16), (1, 1, 2, 77)))
TestSharpRegionsInCuda = contract_in_cuda(_Regions, shapes=((1, 1, 1, 1), (2, 1, 5, 7), (1, 1, 45, 50)))

TEAMS = {"cluster": (90, (1, 3, 24, 40)), "one_block": (80, (1, 3, 24, 40)), "too_large": (90, (1, 1, 3, 33000))}


@pytest.fixture(params=TEAMS)
def team(request, monkeypatch) -> tuple:
    """A shape for which the library chooses this team; a GPU without clusters never has them."""
    sm, shape = TEAMS[request.param]
    if GPU and _native.capability(DEVICE) < sm:
        pytest.skip("this GPU has no clusters")
    monkeypatch.setattr(_native, "capability", lambda device: sm)
    return shape


@pytest.mark.parametrize("region", ["all", "sharp"])
@pytest.mark.parametrize("given", [None, torch.bool, torch.float32, torch.int64], ids=str)
def test_loss_of_every_team(team, given, region):
    random = torch.Generator().manual_seed(4)
    photo = torch.rand(team, generator=random).mul_(2).sub_(1).to(DEVICE)
    labels = None
    if given is not None:
        labels = torch.rand((team[0], 1, *team[2:]), generator=random).to(DEVICE)
        labels = labels if given.is_floating_point else (labels > 0.4).to(given)
    for layout in (torch.contiguous_format, torch.channels_last) if given is None else (torch.contiguous_format,):
        results = []
        for impl, dtype in (("cuda", torch.float32), ("eager", torch.float32), ("eager", torch.float64)):
            image = photo.to(dtype).contiguous(memory_format=layout).requires_grad_()
            loss = naive_sharpness_loss(image, 0.3, labels, region, impl=impl)
            results.append((loss.detach(), *torch.autograd.grad(3 * loss, image)))
        for actual, low, exact in zip(*results, strict=True):
            assert_accurate(actual, low, exact, f"{given} {region} {layout}")


def test_regions_of_every_team(team):
    plane = torch.rand((2, 1, *team[2:]), generator=torch.Generator().manual_seed(5)).pow_(3).to(DEVICE)
    for steps in (0, 1, 5):
        mask, threshold = sharp_regions(plane, steps, impl="cuda")
        exact = two_means_eager(plane.double(), steps)
        assert_accurate(threshold, two_means_eager(plane, steps), exact, f"{steps} steps")
        assert torch.equal(mask, plane > threshold[:, None, None, None])


def test_empty_clusters_and_signs(team):
    """A constant plane keeps its value as threshold, also below zero; one outlier is a cluster of its own."""
    for value in (0.5, -2.0):
        plane = torch.full((1, 1, *team[2:]), value, device=DEVICE)
        mask, threshold = sharp_regions(plane, impl="cuda")
        assert threshold.item() == value and not mask.any()
        plane[0, 0, 2, 5] = value + 1024
        mask, threshold = sharp_regions(plane, impl="cuda")
        assert threshold.item() == value + 512 and mask.sum() == 1 and mask[0, 0, 2, 5]
