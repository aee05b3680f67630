"""laplace_sharpness: the contract of all operations, scipy's Laplacian, and what follows from the formula."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from tmgan_kernels import laplace_sharpness
from tmgan_kernels.laplace_sharpness import backward_op, forward_op, laplacian_eager

from .contract import DEVICE, KernelContract


class TestLaplaceSharpness(KernelContract):
    operation = laplace_sharpness
    variants = ({"border": "replicate"}, {"border": "zeros"})

    def operators(self, inputs):
        (image,) = inputs
        grad, sign = forward_op(image, "zeros")
        return [
            (forward_op, (image, "replicate")),
            (backward_op, (grad, sign, "zeros", image.shape[1], True)),
            (backward_op, (grad, sign, "zeros", image.shape[1], False)),
        ]

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize(("border", "mode"), [("replicate", "nearest"), ("zeros", "constant")])
    def test_equals_scipy(self, impl, border, mode):
        (image,) = self.make((2, 3, 11, 13), torch.float64)
        grey = image.cpu().numpy().mean(1)
        wanted = [np.abs(scipy.ndimage.laplace(plane, mode=mode)) for plane in grey]
        actual = laplace_sharpness(image, border, impl=impl).cpu().numpy()[:, 0]
        np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-13)

    def test_constant_image_is_sharp_nowhere_but_at_a_zero_border(self):
        image = torch.full((1, 3, 6, 6), 0.7, device=DEVICE)
        assert laplace_sharpness(image, impl="triton").abs().max() < 1e-6
        rim = laplace_sharpness(image, "zeros", impl="triton")[0, 0]
        assert (rim[1:-1, 1:-1].abs() < 1e-6).all() and (rim[0] > 0.5).all()

    @pytest.mark.parametrize("border", ["replicate", "zeros"])
    def test_the_linear_part_is_symmetric(self, border):
        """<L x, y> = <x, L y>: why backward is the same stencil."""
        x, y = self.make((1, 1, 7, 9), torch.float64, 1)[0], self.make((1, 1, 7, 9), torch.float64, 2)[0]
        left, right = (laplacian_eager(x, border) * y).sum(), (x * laplacian_eager(y, border)).sum()
        torch.testing.assert_close(left, right)

    def test_refuses_what_it_cannot_mean(self):
        with pytest.raises(ValueError, match="'zeros'"):
            laplace_sharpness(torch.zeros(1, 3, 4, 4), border="reflect")
        for image in (torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 3, 0, 4)):
            with pytest.raises(ValueError, match="B, C, H, W"):
                laplace_sharpness(image)
