"""masked_mae: the contract of all operations, loops, the published loss, and mixtures of dtypes and layouts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.golden import assert_golden, image, unit
from tmgan_kernels.masked_mae import backward_op, forward_op, masked_mae

from .contract import DEVICE, LAYOUTS, SHAPES, KernelContract, assert_accurate

MASKS = {
    "soft": lambda mask: mask,
    "bool": lambda mask: mask > 0.4,
    "uint8": lambda mask: (mask * 5).to(torch.uint8),
    "int64": lambda mask: (mask * 5).long() - 2,  # a negative weight counts as one
    "bfloat16": lambda mask: mask.bfloat16(),
}


class TestMaskedMAE(KernelContract):
    operation = masked_mae
    differentiable = (0, 1)
    shapes = (*SHAPES, (1, 2, 47, 50))  # the last: two blocks a walk, the second partly empty
    small = (2, 3, 26, 28)  # the same in NHWC

    def inputs(self, shape, dtype, random):
        mask = torch.rand((shape[0], 1, *shape[2:]), generator=random, dtype=torch.float64)
        images = [super(TestMaskedMAE, self).inputs(shape, dtype, random)[0] for _ in range(2)]
        return [*images, (mask * (mask > 0.3)).to(dtype)]

    def operators(self, inputs):
        original, generated, mask = inputs
        loss, sign = forward_op(*inputs, 25.0, True)
        backward = (backward_op, (loss, sign, mask, -25.0, torch.bfloat16))
        if not len(original):
            return [backward]  # the loss of nothing is NaN, and opcheck finds NaN different from itself
        return [(forward_op, (*inputs, 25.0, True)), (forward_op, (*inputs, 25.0, False)), backward]

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("kind", MASKS)
    def test_equals_its_definition(self, kind, impl):
        """Loops, for every dtype of mask. alpha is no binary fraction: a detour through float32 would show."""
        original, generated, mask = self.make((2, 3, 5, 7), torch.float64)
        mask = MASKS[kind](mask)
        wanted = 0.0
        for n, c, y, x in itertools.product(*map(range, original.shape)):
            wanted += abs(original[n, c, y, x].item() - generated[n, c, y, x].item()) * mask[n, 0, y, x].item()
        original.requires_grad_(), generated.requires_grad_()
        loss = masked_mae(original, generated, mask, alpha=0.1, impl=impl)
        np.testing.assert_allclose(loss.item(), 0.1 * wanted / original.numel(), rtol=1e-12)
        slopes = [g.cpu().numpy() for g in torch.autograd.grad(loss, [original, generated])]
        sign = np.sign((original - generated).detach().cpu().numpy()) * 0.1 / original.numel()
        np.testing.assert_allclose(slopes[0], sign * mask.double().cpu().numpy(), rtol=1e-12, atol=1e-300)
        np.testing.assert_array_equal(slopes[1], -slopes[0])

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("layouts", list(itertools.product(["contiguous", "channels_last"], repeat=2)))
    def test_a_real_in_float32_and_a_generated_image_in_bfloat16(self, layouts, impl):
        """Each gradient has its image's dtype; the layouts may differ as well."""
        exact = self.make((2, 3, 5, 7), torch.float64)
        exact[0], exact[1] = exact[0].float().double(), exact[1].bfloat16().double()
        mask = exact[2] > 0.4
        mixed = [
            LAYOUTS[layouts[0]](exact[0].float()).requires_grad_(),
            LAYOUTS[layouts[1]](exact[1].bfloat16()).requires_grad_(),
        ]
        wide = [x.requires_grad_() for x in exact[:2]]
        loss, wanted = masked_mae(*mixed, mask, impl=impl), masked_mae(*wide, mask, impl="eager")
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), wanted, rtol=1e-6, atol=0)
        for x, gradient, slope in zip(
            mixed, torch.autograd.grad(loss, mixed), torch.autograd.grad(wanted, wide), strict=True
        ):
            assert gradient.dtype == x.dtype
            assert_accurate(gradient, slope.to(x.dtype), slope, str(x.dtype))

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_is_wide_for_half_precision(self, dtype, impl):
        a = torch.zeros(1, 3, 64, 64, dtype=dtype, device=DEVICE)
        b = torch.full_like(a, 0.1)
        loss = masked_mae(a, b, torch.ones(1, 1, 64, 64, device=DEVICE), alpha=1.0, impl=impl)
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(float(b[0, 0, 0, 0]), rel=1e-6)

    @pytest.mark.parametrize("needed", [(True, False), (False, True)])
    def test_only_the_gradient_that_is_needed(self, needed):
        original, generated, mask = self.make((2, 3, 5, 7), torch.float32)
        both = torch.autograd.grad(
            masked_mae(original.requires_grad_(), generated.requires_grad_(), mask, impl="triton"),
            [original, generated],
        )
        one = [original.detach().requires_grad_(needed[0]), generated.detach().requires_grad_(needed[1])]
        which = needed.index(True)
        (gradient,) = torch.autograd.grad(masked_mae(*one, mask, impl="triton"), one[which])
        assert torch.equal(gradient, both[which])

    def test_signs_are_written_only_for_a_gradient(self):
        inputs = self.make((2, 3, 5, 7), torch.float32)
        loss, sign = forward_op(*inputs, 25.0, False)
        assert sign.numel() == 0 and torch.equal(loss, forward_op(*inputs, 25.0, True)[0])
        with torch.no_grad():
            inputs[1].requires_grad_()
            assert not masked_mae(*inputs, impl="triton").requires_grad

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_equality_and_nan_have_no_slope_and_the_mask_no_gradient(self, impl):
        original, generated, mask = self.make((1, 3, 5, 7), torch.float32)
        mask = mask + 0.5
        generated[:, 0] = original[:, 0]
        original[0, 1, 2, 3] = float("nan")
        generated.requires_grad_()
        loss = masked_mae(original, generated, mask.requires_grad_(), impl=impl)
        slope, unused = torch.autograd.grad(loss, [generated, mask], allow_unused=True)
        assert loss.isnan() and unused is None
        assert (slope[:, 0] == 0).all() and slope[0, 1, 2, 3] == 0 and (slope != 0).sum() == 2 * 35 - 1

    @pytest.mark.parametrize("impl", ["eager", pytest.param("triton", marks=pytest.mark.slow)])
    def test_equals_the_published_loss(self, impl):
        real, fake = image("au/real", 4).to(DEVICE), image("au/fake", 4).to(DEVICE).requires_grad_()
        mask = torch.from_numpy(unit("au/mask", (4, 1, 256, 256)) > 0).to(DEVICE)
        loss = masked_mae(real, fake, mask, impl=impl)
        assert_golden(loss.cpu(), "au_sharpness", "M_loss")
        assert_golden(torch.autograd.grad(loss, fake)[0].cpu(), "au_sharpness", "M_loss/grad")

    def test_refuses_what_it_cannot_mean(self):
        image = torch.zeros(1, 3, 4, 4, device=DEVICE)
        mask = torch.ones(1, 1, 4, 4, device=DEVICE)
        with pytest.raises(ValueError, match="mask must be"):
            masked_mae(image, image, torch.ones_like(image))
        with pytest.raises(ValueError, match="equal shapes"):
            masked_mae(image, image[:, :1], mask)
        for wrong in (image.byte(), image[0]):
            with pytest.raises(ValueError, match="original must be"):
                masked_mae(wrong, image, mask)
            with pytest.raises(ValueError, match="generated must be"):
                masked_mae(image, wrong, mask)
