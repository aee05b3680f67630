"""What the elementwise kernels share: a walk over an image in memory order beside a one-channel plane, and exact sums.

A walk reads flat memory, so that loads and stores are 128 bits wide in both layouts. NCHW: a walk is one of the B * C
planes, an element is a pixel. NHWC: a walk is one of the B images, C consecutive elements are a pixel.
"""

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._triton import jit, tl, triton

BLOCK = 2048  # 64 images of 256 x 256 are 6144 programs; a sum over them has as many parts


@jit
def my_block(count, BLOCK: tl.constexpr):
    """The row that this program works on (int64), and which of its blocks of BLOCK values, for rows of count values.

    All blocks of all rows lie on the one axis of the grid: the others end at 65535, less than the blocks of a large
    photo, and no less than a batch may hold.
    """
    blocks = (count - 1) // BLOCK + 1
    return (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks


@jit
def elements(count, PLANES: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr):
    """Where this program is: start of its walk and number of its image (int64), elements, their pixels, and a mask.

    count: elements of a walk; PLANES: walks an image; STEP: elements a pixel.
    """
    walk, block = my_block(count, BLOCK)
    start = block * BLOCK
    i = tl.arange(0, BLOCK)
    return walk * count, walk // PLANES, start + i, (start + i) // STEP, i < count - start


@jit(do_not_specialize=["parts", "values"])  # they depend on the batch
def finish_kernel(partial_ptr, out_ptr, parts, values, SCALE: tl.constexpr, BLOCK: tl.constexpr):
    """out[row] = SCALE / values * the sum of the row's parts: one program a row, in float64, in a fixed order."""
    row = tl.program_id(0).to(tl.int64)
    total = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, parts, BLOCK):
        i = start + tl.arange(0, BLOCK)
        total += tl.load(partial_ptr + row * parts + i, mask=i < parts, other=0.0).to(tl.float64)
    result = tl.sum(total, 0) * SCALE / values
    tl.store(out_ptr + row, result.to(out_ptr.dtype.element_ty))


def walks(x: Tensor) -> tuple[tuple[int], dict]:
    """Grid, arguments of `elements`, and number of warps for a dense image of either layout.

    As many threads as 16-byte pieces of x in a block. With fewer, a one-byte plane beside a wider image (a mask, signs)
    gives every thread 16 elements in a row, and the threads' loads from the image lie far apart.
    """
    batch, channels, height, width = x.shape
    if _op.is_nhwc(x):
        rows, count, planes, step = batch, channels * height * width, 1, channels
    else:
        rows, count, planes, step = batch * channels, height * width, channels, 1
    warps = min(16, BLOCK * x.element_size() // 16 // 32)
    return (rows * triton.cdiv(count, BLOCK),), {
        "count": count,
        "PLANES": planes,
        "STEP": step,
        "BLOCK": BLOCK,
        "num_warps": warps,
    }


def plane(x: Tensor) -> Tensor:
    """A (B, 1, H, W) plane of any dtype as kernels read it: contiguous, bool as uint8. Copies only what is strided."""
    x = x.contiguous()
    return x.view(torch.uint8) if x.dtype == torch.bool else x


def launch_finish(partial: Tensor, out: Tensor, scale: float, values: int) -> None:
    """out = scale / values * sums of the rows of partial: (rows, parts) into (rows,), or into a scalar of one row."""
    rows = out.numel()
    parts = partial.numel() // rows
    # Of an image, what it has. Of a batch always the same, so that every batch size runs the same kernel: compiling
    # another would end the capture of a CUDA graph. 64 images of 256 x 256 are one turn.
    block = min(8192, max(32, triton.next_power_of_2(parts))) if out.dim() else 8192
    with torch.cuda.device_of(partial):
        finish_kernel[(rows,)](
            partial, out, parts, values, SCALE=scale, BLOCK=block, num_warps=min(16, max(1, block // 256))
        )
