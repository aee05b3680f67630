"""sharp_gradient: the contract of all operations, the published gradient, SciPy, and that the forward is free."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from tests.golden import assert_golden, tensor, unit
from tmgan_kernels.sharp_gradient import backward_op, gain_eager, sharp_gradient
from tmgan_kernels.sharp_regions import sharp_regions

from .contract import DEVICE, LAYOUTS, KernelContract


class TestSharpGradient(KernelContract):
    operation = sharp_gradient
    variants = ({}, {"mode": "smooth"})
    preserves_layout = True
    test_auto_is_the_kernel_on_a_gpu_and_eager_in_float64 = None  # only the backward pass runs one
    # Several launches each, and the interpreter is slow: as few rows as will do.
    shapes = ((1, 1, 1, 1), (2, 3, 5, 7), (1, 2, 1, 300))
    small = (2, 2, 2, 6)

    def operators(self, inputs):
        (image,) = inputs  # the mode changes no shape; this one is interpreted faster
        return [(backward_op, (image, torch.ones_like(image), 1.5, "smooth"))]

    def gradients(self, inputs, impl, variant, cotangents):
        """As in the contract; pixels so near the threshold that rounding decides are left out, and counted."""
        slopes = super().gradients(inputs, impl, variant, cotangents)
        if variant.get("mode") == "smooth" or not inputs[0].numel():
            return slopes
        sharpness, threshold = self.sharpness(inputs[0].double())
        close = (sharpness - threshold).abs() <= 8 * torch.finfo(torch.float32).eps * threshold
        close &= sharpness != threshold  # a constant image: no rounding involved
        assert close.sum() <= 1e-4 * close.numel()
        return [slope.masked_fill(close, 0) for slope in slopes]

    def sharpness(self, image):
        """In float64, by SciPy; the threshold as (B, 1, 1, 1)."""
        planes = image.double().mean(1).cpu().numpy()
        values = np.abs([scipy.ndimage.laplace(plane, mode="nearest") for plane in planes])
        values = torch.from_numpy(values)[:, None].to(DEVICE)
        return values, sharp_regions(values, impl="eager")[1][:, None, None, None]

    def test_gradcheck(self):
        """Not the derivative of its forward, so finite differences of the forward do not apply: those of the gradient,
        as a function of the incoming gradient, do. The gain is a constant in them."""
        for variant in self.variants:
            (image,) = self.make(self.small, torch.float64)
            image.requires_grad_()

            def gradient(incoming, image=image, variant=variant):
                out = sharp_gradient(image, **variant, impl="triton")
                return torch.autograd.grad(out, image, incoming, create_graph=True)[0]

            incoming = torch.rand_like(image).requires_grad_()
            assert torch.autograd.gradcheck(gradient, incoming, fast_mode=True)
            assert torch.autograd.gradgradcheck(gradient, incoming, fast_mode=True)
            assert torch.autograd.grad(gradient(incoming).sum(), image, allow_unused=True) == (None,)

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("mode", ["regions", "smooth"])
    def test_forward_is_the_same_storage_and_the_loss_unchanged(self, mode, impl):
        (x,) = self.make((2, 3, 8, 9), torch.float32)
        for layout in ("contiguous", "channels_last", "sliced", "expanded"):
            arranged = LAYOUTS[layout](x).requires_grad_()
            out = sharp_gradient(arranged, mode=mode, impl=impl)
            assert out.data_ptr() == arranged.data_ptr() and out.stride() == arranged.stride()
            assert torch.equal(out.square().mean(), arranged.square().mean())

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize(("dtype", "k"), [(torch.float32, 1.5), (torch.float64, 1.1), (torch.float32, 0.0)])
    def test_exactly_k_times_the_gradient_on_sharp_regions(self, dtype, k, impl):
        (x,) = self.make((2, 3, 7, 8), dtype)
        x[1] *= 100  # every image has a threshold of its own
        incoming = torch.rand_like(x, memory_format=torch.channels_last) - 0.5
        (gradient,) = torch.autograd.grad(sharp_gradient(x.requires_grad_(), k, impl=impl), x, incoming)
        sharpness, threshold = self.sharpness(x.detach())
        sharp = (sharpness > threshold).expand_as(x)
        assert all(0.1 < share < 0.9 for share in sharp.double().mean((1, 2, 3)))
        assert torch.equal(gradient, torch.where(sharp, incoming * k, incoming))

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_smooth_gain_equals_scipy(self, impl):
        (x,) = self.make((2, 3, 5, 7), torch.float64)
        x *= 3
        incoming = torch.rand_like(x) - 0.5
        (gradient,) = torch.autograd.grad(sharp_gradient(x.requires_grad_(), mode="smooth", impl=impl), x, incoming)
        wanted = incoming * (1 + self.sharpness(x.detach())[0].tanh())
        torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("impl", ["eager", pytest.param("triton", marks=pytest.mark.slow)])
    def test_smooth_equals_the_published_gradient(self, impl):
        coarse = unit("au/sm/coarse", (4, 3, 16, 16)).repeat(16, 2).repeat(16, 3)
        x = np.clip(0.9 * coarse + 0.05 * unit("au/sm/fine", (4, 3, 256, 256)), -1, 1).astype(np.float32)
        x = torch.from_numpy(x).double().to(DEVICE).requires_grad_()
        incoming = tensor("au/gm_grad", tuple(x.shape)).to(DEVICE)
        (gradient,) = torch.autograd.grad(sharp_gradient(x, mode="smooth", impl=impl), x, incoming)
        assert_golden(gradient.cpu(), "au_sharpness", "GM/grad")

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_a_constant_image_has_no_sharp_regions(self, impl):
        x = torch.full((1, 3, 6, 7), 0.5, device=DEVICE, requires_grad=True)
        incoming = torch.rand_like(x)
        for mode in ("regions", "smooth"):
            assert torch.equal(torch.autograd.grad(sharp_gradient(x, mode=mode, impl=impl), x, incoming)[0], incoming)

    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_nonfinite_values_travel_as_in_eager(self, value):
        """The contract's own test looks at the forward, which is the image; this one at the gradient."""
        for variant in self.variants:
            (x,) = self.make(self.small, torch.float32)
            x[0, 1, 1, 3] = value
            x.requires_grad_()
            incoming = torch.rand_like(x)
            actual, wanted = (
                torch.autograd.grad(sharp_gradient(x, **variant, impl=impl), x, incoming)[0]
                for impl in ("triton", "eager")
            )
            torch.testing.assert_close(actual, wanted, equal_nan=True)

    def test_gain_is_what_the_two_operations_make(self):
        (x,) = self.make((2, 3, 9, 8), torch.float64)
        sharpness, threshold = self.sharpness(x)
        assert torch.equal(gain_eager(x, 1.5, "regions"), torch.where(sharpness > threshold, 1.5, 1.0).double())

    def test_refuses_what_it_cannot_mean(self):
        with pytest.raises(ValueError, match="'regions', 'smooth'"):
            sharp_gradient(torch.zeros(1, 3, 4, 4), mode="hard")
        for wrong in (torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.int32)):
            with pytest.raises(ValueError, match="B, C, H, W"):
                sharp_gradient(wrong)
