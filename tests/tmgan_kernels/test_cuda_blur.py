"""box_blur and gaussian_blur by csrc/blur.cu: vectors, single values, both layouts, every size, border and adjoint."""

import itertools

import pytest
import torch

from tmgan_kernels import box_blur, gaussian_blur
from tmgan_kernels._separable import BORDERS, SIZES

from .contract import DEVICE, assert_accurate
from .cuda import built, contract_in_cuda  # noqa: F401
from .test_box_blur import TestBoxBlur as _Box
from .test_gaussian_blur import TestGaussianBlur as _Gaussian

# Rows of whole vectors: one (8 values of 16 bits), several, more than the halo; and rows of single values.
SHAPES = ((1, 3, 9, 8), (1, 2, 17, 48), (2, 3, 8, 9))
TestBoxBlurInCuda = contract_in_cuda(_Box)
TestGaussianBlurInCuda = contract_in_cuda(_Gaussian)


def check(blur, x: torch.Tensor, **options) -> None:
    """The result and its gradient against the definition in float64, by the rule of the contract."""
    cotangent = torch.rand(x.shape, generator=torch.Generator().manual_seed(9)).to(x).to(x.dtype)
    results = []
    for impl, dtype in (("cuda", x.dtype), ("eager", x.dtype), ("eager", torch.float64)):
        image = x.to(dtype).requires_grad_()
        y = blur(image, **options, impl=impl)
        results.append((y.detach(), *torch.autograd.grad(y, image, cotangent.to(dtype))))
    for actual, low, exact in zip(*results, strict=True):
        assert_accurate(actual, low, exact, f"{tuple(x.shape)} {x.dtype} {options}")


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_every_size_and_border(border, layout, dtype):
    random = torch.Generator().manual_seed(1)
    shapes = SHAPES if dtype == torch.float32 else SHAPES[:1]  # another type is another vector width
    for shape, size in itertools.product(shapes, SIZES):
        if border == "reflect" and min(shape[2:]) <= size // 2:
            continue
        x = torch.rand(shape, generator=random).to(DEVICE, dtype).contiguous(memory_format=layout)
        check(box_blur, x, kernel_size=size, border=border)
        check(gaussian_blur, x, kernel_size=size, sigma=size / 5, border=border)


@pytest.mark.parametrize("size_dtype", [torch.int32, torch.int64, torch.uint8])
def test_a_size_for_every_image(size_dtype):
    x = torch.rand((5, 3, 9, 16), generator=torch.Generator().manual_seed(2)).to(DEVICE)
    sizes = torch.tensor([5, 0, 8, 15, 99], device=DEVICE).to(size_dtype)  # means 5, 3, 9, 15, 15
    for border, layout in itertools.product(BORDERS, (torch.contiguous_format, torch.channels_last)):
        check(box_blur, x.contiguous(memory_format=layout), kernel_size=sizes, border=border)


def test_taps_that_are_not_there_do_not_count():
    """An infinite pixel reaches as far as the size asked for, not as far as the largest the kernel can do."""
    x = torch.zeros(1, 1, 16, 16, device=DEVICE)
    x[..., 8, 8] = float("inf")
    for size in (3, 11):
        for sizes in (size, torch.tensor([size], device=DEVICE)):
            y = box_blur(x, sizes, impl="cuda")
            torch.testing.assert_close(y, box_blur(x, sizes, impl="eager"), equal_nan=True)
            assert y.isinf().sum() == size * size
