"""mask_score: the contract of all operations, numpy, and the published scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden import image, stored_value, unit
from tmgan_kernels._stream import launch_finish
from tmgan_kernels.mask_score import forward_op, mask_score

from .contract import DEVICE, LAYOUTS, SHAPES, KernelContract


class TestMaskScore(KernelContract):
    operation = mask_score
    variants = ({}, {"value_range": (-0.9, 1.2)})
    differentiable = (0, 1)  # through the eager definition
    shapes = (*SHAPES, (1, 2, 47, 50))  # the last: two blocks a walk, the second partly empty
    small = (2, 3, 26, 28)  # the same in NHWC

    def inputs(self, shape, dtype, random):
        mask = torch.rand((shape[0], 1, *shape[2:]), generator=random, dtype=torch.float64)
        images = [super(TestMaskScore, self).inputs(shape, dtype, random)[0] for _ in range(2)]
        return [*images, (mask * (mask > 0.3)).to(dtype)]

    def require_grad(self, inputs):
        """A score that requires no gradient is what the kernel computes: keep it so where test_aot.py compiles it."""
        return inputs if inputs[0].shape in self.compiled_shapes else super().require_grad(inputs)

    def operators(self, inputs):
        return [(forward_op, (*inputs, 127.5**2))]

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("kind", [torch.float64, torch.bool, torch.uint8, torch.int64])
    @pytest.mark.parametrize("layouts", [("contiguous", "channels_last"), ("channels_last", "contiguous")])
    def test_equals_numpy(self, layouts, kind, impl):
        original, generated, mask = self.make((2, 3, 5, 7), torch.float64)
        mask = mask.to(kind) if kind in (torch.float64, torch.bool) else (mask * 5).to(kind)
        low, high = -0.9, 1.2
        eight_bit = [(x.cpu().numpy() - low) / (high - low) * 255 for x in (original, generated)]
        wanted = (((eight_bit[0] - eight_bit[1]) * mask.double().cpu().numpy()) ** 2).mean((1, 2, 3))
        score = mask_score(LAYOUTS[layouts[0]](original), LAYOUTS[layouts[1]](generated), mask, (low, high), impl)
        np.testing.assert_allclose(score.cpu().numpy(), wanted, rtol=1e-12)

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_one_level_everywhere_scores_the_area_of_the_mask(self, impl):
        original = torch.zeros(3, 3, 8, 8, dtype=torch.bfloat16, device=DEVICE)
        generated = torch.full_like(original, 1, dtype=torch.float32)
        mask = torch.zeros(3, 1, 8, 8, dtype=torch.bool, device=DEVICE)
        mask[1, :, :4], mask[2] = True, True
        score = mask_score(original, generated, mask, (0, 255), impl)
        assert score.dtype == torch.float32 and score.tolist() == [0.0, 0.5, 1.0]

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_a_gradient_runs_through_the_definition(self, impl):
        original, generated, mask = self.make((2, 3, 5, 7), torch.float64)
        generated.requires_grad_()
        score = mask_score(original, generated, mask, impl=impl)
        (slope,) = torch.autograd.grad(score.sum(), generated)
        torch.testing.assert_close(slope, 2 * 127.5**2 / 105 * mask**2 * (generated.detach() - original))

    @pytest.mark.parametrize("impl", ["eager", pytest.param("triton", marks=pytest.mark.slow)])
    def test_equals_the_published_scores(self, impl):
        """Means over four images: of images in [-1, 1], and of images cut to whole levels in 0 to 255."""
        real, fake = image("au/real", 4).to(DEVICE), image("au/fake", 4).to(DEVICE)
        mask = torch.from_numpy(unit("au/mask", (4, 1, 256, 256)) > 0).to(DEVICE)
        score = mask_score(real, fake, mask, impl=impl).mean().item() / 127.5**2
        np.testing.assert_allclose(score, stored_value("au_sharpness", "mask_score_pm1"), rtol=1e-9)
        levels = [((x + 1) * 127.5).floor() for x in (real, fake)]
        score = mask_score(*levels, mask, (0, 255), impl).mean().item()
        np.testing.assert_allclose(score, stored_value("au_sharpness", "mask_score_255"), rtol=1e-9)

    def test_more_parts_than_one_load_of_them(self):
        """What 100 images of 1024 x 1024 give: the sums are finished in turns, in float64."""
        parts = torch.rand(2, 8200, generator=torch.Generator().manual_seed(0)).to(DEVICE)
        out = parts.new_empty(2)
        launch_finish(parts, out, 0.1, 7)
        torch.testing.assert_close(out.double(), parts.double().sum(1) * 0.1 / 7, rtol=1e-7, atol=0)

    def test_refuses_what_it_cannot_mean(self):
        image = torch.zeros(1, 3, 4, 4, device=DEVICE)
        mask = torch.ones(1, 1, 4, 4, device=DEVICE)
        with pytest.raises(ValueError, match="mask must be"):
            mask_score(image, image, mask[0])
        with pytest.raises(ValueError, match="equal shapes"):
            mask_score(image, image[..., :3], mask)
        for wrong in ((1, -1), (0, 0)):
            with pytest.raises(ValueError, match="low < high"):
                mask_score(image, image, mask, wrong)
