"""What _pieces.py promises: pieces are joined as they were taken apart, and interleaved images read as others are."""

from __future__ import annotations

import pytest
import torch

from tmgan_kernels import laplace_sharpness, naive_sharpness_loss, sharp_gradient, sharpness_score
from tmgan_kernels._pieces import MOST_CHANNELS, apart, interleaved, together
from tmgan_kernels._triton import jit, tl

from .contract import DEVICE


@jit
def reverse_kernel(x_ptr, out_ptr, T: tl.constexpr, V: tl.constexpr):
    """Every piece backwards."""
    i = tl.arange(0, T)[:, None] * V + tl.arange(0, V)[None, :]
    columns = apart(tl.load(x_ptr + i), T, V)
    backwards = ()
    for j in tl.static_range(V):
        backwards = backwards + (columns[V - 1 - j],)
    tl.store(out_ptr + i, together(backwards, T, V))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_pieces_are_put_together_as_they_were_taken_apart(size):
    x = torch.arange(16.0 * size, device=DEVICE).view(16, size)
    out = torch.empty_like(x)
    reverse_kernel[(1,)](x, out, T=16, V=size, num_warps=1)
    assert torch.equal(out, x.flip(1))


def nhwc(x):
    return x.contiguous(memory_format=torch.channels_last)


def part_of_nhwc(x):
    """Misaligned, its rows apart, NaN between them."""
    return nhwc(torch.nn.functional.pad(x, (1, 2, 1, 1), value=float("nan")))[:, :, 1:-1, 1:-2]


OPERATIONS = {
    "laplace, replicate": lambda x: laplace_sharpness(x, impl="triton"),
    "laplace, zeros": lambda x: laplace_sharpness(x, "zeros", impl="triton"),
    "gradient, regions": lambda x: sharp_gradient(x, impl="triton"),
    "gradient, smooth": lambda x: sharp_gradient(x, mode="smooth", impl="triton"),
    "loss": lambda x: naive_sharpness_loss(x, impl="triton"),
    "score": lambda x: sharpness_score(x.detach(), impl="triton"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("arrange", [nhwc, part_of_nhwc])
@pytest.mark.parametrize("name", OPERATIONS)
def test_interleaved_images_give_what_others_give(name, arrange, dtype):
    """Two blocks of columns, the last piece partly outside; one operation with too many channels, too."""
    random = torch.Generator().manual_seed(0)
    for channels in (3,) if name != "laplace, replicate" else (2, 3, 4, 5):
        image = torch.rand(2, channels, 3, 301, generator=random).sub(0.5).to(dtype).to(DEVICE)
        results = []
        for x, layout in ((image, torch.Tensor.contiguous), (arrange(image), nhwc)):
            assert interleaved(x) == (x is not image and channels <= MOST_CHANNELS)
            x = x.detach().requires_grad_()
            out = OPERATIONS[name](x)
            results.append([out.detach()])
            if out.requires_grad:
                cotangent = torch.rand(out.shape, generator=random.manual_seed(1)).to(DEVICE, out.dtype)
                results[-1] += torch.autograd.grad(out, x, layout(cotangent) if out.dim() else cotangent)
        for plain, other in zip(*results, strict=True):
            eps = torch.finfo(plain.dtype).eps
            torch.testing.assert_close(other, plain, rtol=4 * eps, atol=4 * eps * plain.abs().max().item())
