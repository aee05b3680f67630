"""Box blur: the mean over a square around every pixel, channel by channel.

    out[r, c] = sum of image[r + i, c + j] over i, j in [-R, R] / size^2,   size = 2R + 1

Zeros, the outermost pixels or the mirror image lie outside; the zeros are counted, so that the divisor is the same
everywhere. Traffic: 2e bytes a value of e bytes, forward and backward. Nothing is saved (a size per image is kept, not
copied). Differentiable any number of times: the derivative is the adjoint, see `_separable.py`.
"""

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import check_image, check_one_of, choose
from tmgan_kernels._separable import BORDERS, SIZES, check_reach, launch, launch_cuda, separable_eager


# ---------------------------------------------------------------- definition
def box_weights(size: int) -> tuple[float, ...]:
    return (1.0 / size,) * size


def box_blur_eager(image: Tensor, kernel_size: int | Tensor, border: str = "replicate") -> Tensor:
    """The definition of `box_blur` in plain PyTorch."""
    if isinstance(kernel_size, int):
        return separable_eager(image, box_weights(kernel_size), border).to(image.dtype)
    radius = (kernel_size // 2).clamp(SIZES[0] // 2, SIZES[-1] // 2).view(-1, 1, 1, 1)
    out = torch.zeros_like(image, dtype=_op.wide(image))
    for size in SIZES:  # all of them: which one an image asks for is known on its device only
        out = torch.where(radius == size // 2, separable_eager(image, box_weights(size), border), out)
    return out.to(image.dtype)


# ------------------------------------------------------------------ launcher
def _blur(
    image: Tensor, sizes: Tensor | None, kernel_size: int | None, border: str, adjoint: bool, cuda: bool
) -> Tensor:
    weights = box_weights(SIZES[-1] if kernel_size is None else kernel_size)
    return (launch_cuda if cuda else launch)(
        image, weights, border, adjoint, None if sizes is None else sizes.contiguous()
    )


def _blur_fake(
    image: Tensor, sizes: Tensor | None, kernel_size: int | None, border: str, adjoint: bool, cuda: bool
) -> Tensor:
    return _op.empty_like(image)


blur_op = _op.register(
    "box_blur(Tensor image, Tensor? sizes, int? kernel_size, str border, bool adjoint, bool cuda) -> Tensor",
    _blur,
    _blur_fake,
)


class _BoxBlur(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, sizes, kernel_size, border, adjoint, cuda):
        ctx.save_for_backward(sizes)
        ctx.options = kernel_size, border, adjoint, cuda
        return blur_op(image, sizes, kernel_size, border, adjoint, cuda)

    @staticmethod
    def backward(ctx, grad):
        (sizes,) = ctx.saved_tensors
        kernel_size, border, adjoint, cuda = ctx.options
        return _BoxBlur.apply(grad, sizes, kernel_size, border, not adjoint, cuda), None, None, None, None, None


# ---------------------------------------------------------------- public API
def box_blur(image: Tensor, kernel_size: int | Tensor, border: str = "replicate", impl: str = "auto") -> Tensor:
    """Mean over a square of pixels around every pixel, channel by channel.

    Args:
        image: floating (B, C, H, W), any range; dense NCHW and NHWC are read as they are, other layouts are copied.
        kernel_size: edge of the square in pixels, odd, 3 to 15: an int, or an integer (B,) tensor on the device of
            image with a size for every image. A tensor's values are not checked, which would synchronise the host: an
            even size means the next odd one, and sizes out of range mean 3 or 15.
        border: what lies outside the image: "replicate" its outermost pixels, "reflect" its mirror image about them
            (they are not repeated), "zeros" black pixels, which count in the mean.
        impl: "auto", "eager", "triton" or "cuda".

    Returns:
        (B, C, H, W) in the dtype and memory format of image.

    Raises:
        ValueError: image is not a floating (B, C, H, W) tensor; kernel_size is not such an int or (B,) tensor; border
            is none of the three; or the mirror image is too small: "reflect" needs H and W greater than
            kernel_size // 2, and greater than 7 for a tensor of sizes.

    Example:
        >>> image = torch.zeros(1, 1, 3, 4)
        >>> image[..., 1, 0] = 9.0
        >>> box_blur(image, 3)[0, 0]
        tensor([[2., 1., 0., 0.],
                [2., 1., 0., 0.],
                [2., 1., 0., 0.]])
    """
    check_image("box_blur", "image", image)
    check_one_of("box_blur", "border", border, BORDERS)
    tensors = [image]
    if isinstance(kernel_size, Tensor):
        if kernel_size.shape != image.shape[:1] or kernel_size.is_floating_point() or kernel_size.dtype == torch.bool:
            raise ValueError(
                f"box_blur: kernel_size must be an int or an integer ({image.shape[0]},) tensor, one size "
                f"an image, got {tuple(kernel_size.shape)} {kernel_size.dtype}"
            )
        tensors.append(kernel_size)
    else:
        check_one_of("box_blur", "kernel_size", kernel_size, SIZES)
    largest = SIZES[-1] if isinstance(kernel_size, Tensor) else kernel_size
    check_reach("box_blur", image, largest, border)
    chosen = choose("box_blur", impl, *tensors)
    if chosen == "eager":
        return box_blur_eager(image, kernel_size, border)
    if isinstance(kernel_size, Tensor):
        return _BoxBlur.apply(image, kernel_size, None, border, False, chosen == "cuda")
    return _BoxBlur.apply(image, None, kernel_size, border, False, chosen == "cuda")
