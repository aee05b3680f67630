"""sharp_regions: the contract of all operations, SciPy's k-means, and what happens where a cluster is empty."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2

from tmgan_kernels.sharp_regions import forward_op, sharp_regions, two_means, two_means_eager

from .contract import DEVICE, KernelContract, assert_accurate


class TestSharpRegions(KernelContract):
    operation = sharp_regions
    variants = ({"steps": 5}, {"steps": 0})
    # The last shape: two turns of a program, the second partly empty.
    shapes = ((1, 1, 1, 1), (2, 1, 5, 7), (1, 1, 1, 9), (2, 1, 75, 120))
    gpu_shapes = ((4, 1, 256, 256), (3, 1, 255, 257), (1, 1, 2100, 2100))  # the last: by chunks, in several turns
    differentiable = ()
    small = (2, 1, 4, 6)
    compiled_shapes = ((2, 1, 256, 256), (2, 1, 512, 512))  # one program per image, and by chunks

    def inputs(self, shape, dtype, random):
        # Skewed like sharpness, so that mean, median and threshold differ.
        return [torch.rand(shape, generator=random, dtype=torch.float64).pow_(3).to(dtype)]

    def run(self, inputs, impl, variant):
        self.values = inputs[0]
        return super().run(inputs, impl, variant)

    def compare(self, actual, low, exact):
        """The mask is exact, but where a value is within four units of the threshold's last place; nearly none is."""
        assert_accurate(actual[1], low[1], exact[1], "threshold")
        threshold = exact[1][:, None, None, None]
        unit = torch.finfo(actual[1].dtype).eps * threshold.abs()
        close = ((self.values.double() - threshold).abs() <= 4 * unit) & (self.values.double() != threshold)
        assert actual[0].dtype == torch.bool
        assert not ((actual[0] != exact[0]) & ~close).any()
        assert close.sum() <= 1e-4 * close.numel()

    def operators(self, inputs):
        return [(forward_op, (inputs[0], 5, self.impl == "cuda"))]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_nonfinite_values_travel_as_in_eager(self, value):
        """The contract's own test writes into a second channel; a sharpness map has one."""
        for variant in self.variants:
            (sharpness,) = self.make(self.small, torch.float32)
            sharpness[0, 0, 2, 3] = value
            wanted = self.run([sharpness], "eager", variant)
            for actual, expected in zip(self.run([sharpness], self.impl, variant), wanted, strict=True):
                torch.testing.assert_close(actual, expected, equal_nan=True)
            assert not wanted[0][0].any() or value < 0  # nothing is above NaN or infinity

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_equals_scipy(self, impl):
        """Lloyd's algorithm from the two sides of the mean, above and below zero."""
        one, other = self.make((2, 1, 9, 11), torch.float64)[0]
        for image in (one, other - 0.9):
            values = image.cpu().numpy().reshape(-1)
            sides = np.array([values[values <= values.mean()].mean(), values[values > values.mean()].mean()])
            for steps in (1, 2, 6):
                centres = kmeans2(values, sides, iter=steps - 1, minit="matrix")[0] if steps > 1 else sides
                mask, threshold = sharp_regions(image[None], steps, impl=impl)
                np.testing.assert_allclose(threshold.item(), centres.mean(), rtol=1e-12)
                np.testing.assert_array_equal(mask.cpu().numpy().reshape(-1), values > centres.mean())

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_an_empty_cluster_keeps_the_threshold(self, impl):
        """The published code gives NaN here."""
        constant = torch.full((2, 1, 4, 4), 0.5, device=DEVICE)
        constant[1] = 0.0
        mask, threshold = sharp_regions(constant, impl=impl)
        assert threshold.tolist() == [0.5, 0.0] and not mask.any()

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_the_mask_is_what_the_threshold_says(self, impl):
        for dtype in (torch.float32, torch.bfloat16):
            (sharpness,) = self.make((3, 1, 20, 30), dtype)
            mask, threshold = sharp_regions(sharpness, impl=impl)
            assert torch.equal(mask, sharpness.float() > threshold[:, None, None, None])

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_images_of_a_batch_do_not_mix_and_nothing_has_a_gradient(self, impl):
        (sharpness,) = self.make((3, 1, 8, 9), torch.float32)
        sharpness *= torch.tensor([1e-3, 1.0, 1e3], device=DEVICE)[:, None, None, None]
        mask, threshold = sharp_regions(sharpness.requires_grad_(), impl=impl)
        assert not mask.requires_grad and not threshold.requires_grad
        for i in range(3):
            alone = sharp_regions(sharpness[i : i + 1], impl=impl)
            assert torch.equal(mask[i : i + 1], alone[0]) and torch.equal(threshold[i : i + 1], alone[1])

    def test_a_large_image_has_more_chunks_than_a_program_adds_up_in_one_turn(self, monkeypatch):
        module = importlib.import_module("tmgan_kernels.sharp_regions")
        monkeypatch.setattr(module, "ALONE", 0)
        monkeypatch.setattr(module, "chunking", lambda pixels: (32, -(-pixels // 32)))
        monkeypatch.setattr(module, "table_options", lambda table: {"TABLE": 4, "TURNS": -(-table.shape[-1] // 4)})
        (plane,) = self.make((2, 1, 10, 15), torch.float64)
        plane -= 0.2  # signed
        thresholds = module.two_means(plane, plane.abs().flatten(1), 2)
        torch.testing.assert_close(thresholds, two_means_eager(plane.abs(), 2))
        for steps in (0, 1, 5):
            mask = torch.empty(plane.shape, dtype=torch.bool, device=DEVICE)
            thresholds = module.two_means(plane, None, steps, absolute=False, mask=mask)
            torch.testing.assert_close(thresholds, two_means_eager(plane, steps))
            assert torch.equal(mask, plane > thresholds[:, None, None, None])

    def test_thresholds_of_an_empty_batch(self):
        nothing = torch.empty(0, 1, 4, 4, device=DEVICE)
        assert two_means(nothing, nothing.flatten(1), 5).shape == (0,)

    def test_refuses_what_it_cannot_mean(self):
        with pytest.raises(ValueError, match="one channel"):
            sharp_regions(torch.zeros(1, 3, 4, 4))
        with pytest.raises(ValueError, match="B, C, H, W"):
            sharp_regions(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
        for steps in (-1, 2.5, None):
            with pytest.raises(ValueError, match="steps must be an int"):
                sharp_regions(torch.zeros(1, 1, 4, 4), steps)
