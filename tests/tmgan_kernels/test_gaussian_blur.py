"""gaussian_blur: the contract of all operations, scipy's and kornia's Gaussians, the adjoint of every border."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from tmgan_kernels import gaussian_blur
from tmgan_kernels._separable import BORDERS
from tmgan_kernels.gaussian_blur import blur_op, gaussian_weights

from .contract import KernelContract

SCIPY = {"replicate": "nearest", "zeros": "constant", "reflect": "mirror"}


class TestGaussianBlur(KernelContract):
    operation = gaussian_blur
    variants = ({"kernel_size": 5, "sigma": 1.0},)
    more_variants = tuple(
        {"kernel_size": size, "sigma": sigma, "border": border}
        for size, sigma, border in ((3, 0.8, "zeros"), (7, 1.5, "replicate"), (9, 2.0, "reflect"), (15, 3.0, "reflect"))
    )
    preserves_layout = True
    small = (2, 2, 3, 4)
    # Larger than the mirror image needs; rows of whole 16-byte vectors and of single values.
    shapes = ((2, 3, 5, 7), (1, 2, 3, 8), (1, 3, 9, 3))

    def operators(self, inputs):
        (image,) = inputs
        cuda = self.impl == "cuda"
        return [(blur_op, (image, 5, 1.0, "reflect", False, cuda)), (blur_op, (image, 3, 0.8, "reflect", True, cuda))]

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("border", BORDERS)
    def test_equals_scipy(self, impl, border):
        for layout in (torch.contiguous_format, torch.channels_last):
            image = self.make((1, 2, 7, 8), torch.float64)[0].contiguous(memory_format=layout)
            wanted = [
                scipy.ndimage.gaussian_filter(plane, 1.5, mode=SCIPY[border], radius=3)
                for plane in image.cpu().numpy()[0]
            ]
            actual = gaussian_blur(image, 7, 1.5, border, impl=impl).cpu().numpy()[0]
            np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-14)

    def test_equals_kornia(self):
        filters = pytest.importorskip("kornia").filters
        (image,) = self.make((1, 3, 9, 9), torch.float64)
        wanted = filters.gaussian_blur2d(image, (5, 5), (1.2, 1.2), border_type="reflect")
        torch.testing.assert_close(gaussian_blur(image, 5, 1.2, impl="triton"), wanted)

    @pytest.mark.parametrize("border", BORDERS)
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
    def test_backward_is_the_adjoint(self, border, layout):
        x = self.make((1, 3, 5, 8), torch.float64, 1)[0].contiguous(memory_format=layout).requires_grad_()
        y = self.make((1, 3, 5, 8), torch.float64, 2)[0].contiguous(memory_format=layout)
        blurred = gaussian_blur(x, 7, 1.5, border, impl="triton")
        (grad,) = torch.autograd.grad(blurred, x, y)
        torch.testing.assert_close((blurred * y).sum(), (x * grad).sum())
        (wanted,) = torch.autograd.grad(gaussian_blur(x, 7, 1.5, border, impl="eager"), x, y)
        torch.testing.assert_close(grad, wanted)

    def test_weights_are_symmetric_and_sum_to_one(self):
        for size, sigma in ((3, 0.5), (9, 2.0), (15, 100.0)):
            weights = gaussian_weights(size, sigma)
            assert sum(weights) == pytest.approx(1.0, abs=1e-15) and weights == weights[::-1]
        assert gaussian_weights(15, 1e6) == pytest.approx([1 / 15] * 15)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((4, 1.0), "kernel_size=4"),
            ((5, 0.0), "sigma"),
            ((5, float("nan")), "sigma"),
            ((5, 1.0, "wrap"), "border='wrap'"),
            ((15, 3.0), "greater than 7"),
        ],
    )
    def test_refuses_what_it_cannot_mean(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            gaussian_blur(torch.zeros(1, 3, 6, 6), *arguments)
