"""box_blur: the contract of all operations, scipy's and kornia's box filters, the adjoint of every border."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from tests.golden import assert_golden
from tests.golden import image as published_image
from tmgan_kernels import box_blur
from tmgan_kernels._separable import BORDERS
from tmgan_kernels.box_blur import blur_op

from .contract import DEVICE, KernelContract

SCIPY = {"replicate": "nearest", "zeros": "constant", "reflect": "mirror"}


class TestBoxBlur(KernelContract):
    operation = box_blur
    variants = ({"kernel_size": 5},)
    more_variants = tuple(
        {"kernel_size": size, "border": border}
        for size, border in (
            (3, "zeros"),
            (7, "reflect"),
            (9, "replicate"),
            (15, "reflect"),
            ("drawn", "replicate"),
            ("drawn", "reflect"),
        )
    )
    preserves_layout = True
    small = (2, 2, 3, 4)
    # Rows of whole 16-byte vectors, of single values, and shorter than the filter.
    shapes = ((1, 1, 1, 1), (2, 3, 5, 7), (1, 2, 6, 8), (1, 3, 3, 16))

    def run(self, inputs, impl, variant):
        if variant.get("kernel_size") == "drawn":
            sizes = torch.tensor([5, 9, 3, 15, 7, 11, 13], device=inputs[0].device)
            variant = {**variant, "kernel_size": sizes[torch.arange(len(inputs[0]), device=sizes.device) % 7]}
        return KernelContract.run(self, inputs, impl, variant)  # also where another class borrows this one

    def operators(self, inputs):
        (image,) = inputs
        sizes = torch.full(image.shape[:1], 5, device=image.device)
        cuda = self.impl == "cuda"
        return [
            (blur_op, (image, None, 5, "replicate", False, cuda)),
            (blur_op, (image, None, 3, "zeros", True, cuda)),
            (blur_op, (image, sizes, None, "replicate", True, cuda)),
        ]

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("border", BORDERS)
    @pytest.mark.parametrize("size", [3, 9])
    def test_equals_scipy(self, impl, border, size):
        for layout in (torch.contiguous_format, torch.channels_last):
            image = self.make((1, 2, 7, 8), torch.float64)[0].contiguous(memory_format=layout)
            wanted = scipy.ndimage.uniform_filter(image.cpu().numpy(), (1, 1, size, size), mode=SCIPY[border])
            actual = box_blur(image, size, border, impl=impl).cpu().numpy()
            np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-14)

    def test_equals_kornia(self):
        filters = pytest.importorskip("kornia").filters
        (image,) = self.make((1, 3, 9, 9), torch.float64)
        wanted = filters.box_blur(image, 5, border_type="replicate", separable=True)
        torch.testing.assert_close(box_blur(image, 5, impl="triton"), wanted)

    @pytest.mark.parametrize("border", BORDERS)
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
    def test_backward_is_the_adjoint(self, border, layout):
        """<A x, y> = <x, A' y>, and A' is that of the definition, for rows cut into vectors and for single values."""
        for shape, size in (((1, 3, 5, 6), 5), ((1, 2, 4, 8), 7)):
            if border == "reflect" and min(shape[2:]) <= size // 2:
                continue
            x = self.make(shape, torch.float64, 1)[0].contiguous(memory_format=layout).requires_grad_()
            y = self.make(shape, torch.float64, 2)[0].contiguous(memory_format=layout)
            blurred = box_blur(x, size, border, impl="triton")
            (grad,) = torch.autograd.grad(blurred, x, y)
            torch.testing.assert_close((blurred * y).sum(), (x * grad).sum())
            (wanted,) = torch.autograd.grad(box_blur(x, size, border, impl="eager"), x, y)
            torch.testing.assert_close(grad, wanted)

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_a_size_for_every_image_equals_each_image_alone(self, impl):
        image = self.make((3, 2, 8, 8), torch.float64)[0].requires_grad_()
        sizes = torch.tensor([5, 3, 9], device=DEVICE)
        together = box_blur(image, sizes, impl=impl)
        (grad,) = torch.autograd.grad(together.square().sum(), image)
        for i, size in enumerate(sizes.tolist()):
            alone = image[i : i + 1].detach().requires_grad_()
            one = box_blur(alone, size, impl="eager")
            torch.testing.assert_close(together[i : i + 1], one)
            torch.testing.assert_close(grad[i : i + 1], torch.autograd.grad(one.square().sum(), alone)[0])

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_constant_images_stay(self, impl):
        image = torch.full((1, 3, 6, 6), 0.7, device=DEVICE)
        for border in ("replicate", "reflect"):
            torch.testing.assert_close(box_blur(image, 5, border, impl=impl), image)
        assert box_blur(image, 5, "zeros", impl=impl)[0, 0, 0, 0].item() == pytest.approx(0.7 * 9 / 25)

    def test_grey_blur_with_zeros_is_the_published_one(self):
        """The published kernel mixes channels: it is the blur of their mean."""
        real = published_image("au/real", 4)
        grey = box_blur(real.mean(1, keepdim=True), 9, "zeros", impl="eager")
        assert_golden(grey.expand_as(real), "au_sharpness", "SAD/blurring")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"kernel_size": 4}, "kernel_size=4"),
            ({"kernel_size": 17}, "kernel_size=17"),
            ({"kernel_size": 5, "border": "wrap"}, "border='wrap'"),
            ({"kernel_size": 15, "border": "reflect"}, "greater than 7"),
            ({"kernel_size": torch.tensor([3, 5, 7])}, "one size an image"),
            ({"kernel_size": torch.tensor([math.pi])}, "one size an image"),
        ],
    )
    def test_refuses_what_it_cannot_mean(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            box_blur(torch.zeros(1, 3, 6, 6), **arguments)
