"""scale_gradient: the contract of all operations, numpy, and that the forward is free."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tmgan_kernels.scale_gradient import backward_op, scale_gradient

from .contract import DEVICE, LAYOUTS, SHAPES, KernelContract

GAINS = {
    "soft": lambda gain: gain,
    "bool": lambda gain: gain > 0.5,
    "uint8": lambda gain: (gain * 5).to(torch.uint8),
    "int64": lambda gain: (gain * 5).long() - 2,
    "float64": lambda gain: gain.double(),
    "bfloat16": lambda gain: gain.bfloat16(),
}


class TestScaleGradient(KernelContract):
    operation = scale_gradient
    preserves_layout = True
    test_auto_is_the_kernel_on_a_gpu_and_eager_in_float64 = None  # only the backward pass runs one
    shapes = (*SHAPES, (1, 2, 47, 50))  # the last: two blocks a walk, the second partly empty
    small = (2, 3, 26, 28)  # the same in NHWC

    def inputs(self, shape, dtype, random):
        gain = torch.rand((shape[0], 1, *shape[2:]), generator=random, dtype=torch.float64) * 2 - 0.5
        return [*super().inputs(shape, dtype, random), gain.to(dtype)]

    def operators(self, inputs):
        return [(backward_op, tuple(inputs))]

    def test_gradcheck(self):
        """Not the derivative of its forward, so finite differences of the forward do not apply: those of the gradient,
        as a function of the incoming gradient, do."""
        image, gain = self.make(self.small, torch.float64)

        def gradient(incoming):
            x = image.detach().requires_grad_()
            return torch.autograd.grad(scale_gradient(x, gain, impl="triton"), x, incoming, create_graph=True)[0]

        incoming = torch.rand_like(image).requires_grad_()
        assert torch.autograd.gradcheck(gradient, incoming, fast_mode=True)
        assert torch.autograd.gradgradcheck(gradient, incoming, fast_mode=True)
        assert torch.equal(gradient(incoming), incoming * gain)

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_forward_is_the_same_storage(self, impl):
        image, gain = self.make(self.small, torch.float32)
        for layout in ("contiguous", "channels_last", "sliced", "expanded"):
            x = LAYOUTS[layout](image)
            out = scale_gradient(x.requires_grad_(), gain, impl=impl)
            assert out.data_ptr() == x.data_ptr() and out.stride() == x.stride() and out.requires_grad

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("kind", GAINS)
    def test_gradient_equals_numpy(self, kind, impl):
        """Every dtype of gain; the gradient has the dtype of the image and the layout of the incoming one."""
        for dtype in (torch.float32, torch.bfloat16):
            image, gain = self.make((2, 3, 5, 7), torch.float32)
            gain = GAINS[kind](gain)
            image = image.to(dtype).requires_grad_()
            incoming = torch.rand_like(image, memory_format=torch.channels_last) - 0.5
            out = scale_gradient(image, gain.requires_grad_() if gain.is_floating_point() else gain, impl=impl)
            (gradient,) = torch.autograd.grad(out, image, incoming)
            assert gradient.dtype == dtype and gradient.is_contiguous(memory_format=torch.channels_last)
            wanted = incoming.double().cpu().numpy() * gain.detach().double().cpu().numpy()
            np.testing.assert_allclose(gradient.double().cpu().numpy(), wanted, rtol=torch.finfo(dtype).eps)

    def test_no_gradient_reaches_the_gain(self):
        image, gain = self.make(self.small, torch.float32)
        for impl in ("eager", "triton"):
            for create_graph in (False, True):
                out = scale_gradient(image.requires_grad_(), gain.requires_grad_(), impl=impl)
                wanted = torch.autograd.grad(
                    out.square().sum(), [image, gain], create_graph=create_graph, allow_unused=True
                )
                assert wanted[0] is not None and wanted[1] is None

    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_infinite_gradients_meet_a_gain_of_zero_as_in_torch(self, impl):
        image, gain = self.make(self.small, torch.float32)
        gain[0, 0, 0, :3] = torch.tensor([0.0, float("inf"), 1.0])
        incoming = torch.zeros_like(image)
        incoming[0, 0, 0, :3] = torch.tensor([float("inf"), 0.0, float("nan")])
        (gradient,) = torch.autograd.grad(scale_gradient(image.requires_grad_(), gain, impl=impl), image, incoming)
        assert gradient[0, 0, 0, :3].isnan().all() and gradient.isfinite().sum() == gradient.numel() - 3 - 2

    def test_equals_the_weighted_loss_where_pixels_are_separate(self):
        """The paper's appendix: for a sum over pixels, scaling the gradient is weighting the loss."""
        image, gain = self.make(self.small, torch.float64)
        image.requires_grad_()
        (scaled,) = torch.autograd.grad(scale_gradient(image, gain, impl="triton").exp().sum(), image)
        (weighted,) = torch.autograd.grad((gain * image.exp()).sum(), image)
        torch.testing.assert_close(scaled, weighted)

    def test_refuses_what_it_cannot_mean(self):
        image = torch.zeros(2, 3, 4, 4, device=DEVICE)
        for shape in ((2, 3, 4, 4), (1, 1, 4, 4), (2, 4, 4), ()):
            with pytest.raises(ValueError, match="gain must be"):
                scale_gradient(image, torch.ones(shape, device=DEVICE))
        with pytest.raises(ValueError, match="B, C, H, W"):
            scale_gradient(image[0], torch.ones(2, 1, 4, 4, device=DEVICE))
