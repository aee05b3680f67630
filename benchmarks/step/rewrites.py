"""Other ways to compute the same step, which may pay on a GPU: toggles of gpu/2-rewrites.sh, not part of tmgan.

Each equals tmgan's own way (tests/benchmarks/test_rewrites.py). One that pays moves into tmgan; the others go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmgan.losses.adversarial import discriminator_loss
from tmgan.models import layers, resampling
from tmgan.models.discriminator import Discriminator


# ------------------------------------------- nearest doubling, then conv3: four convolutions of 2x2 at the small size
def phase_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """conv3(nearest doubling of x) with 4/9 of the products and no enlarged input: (B, C, H, W) -> (B, O, 2H, 2W).

    An even output row sees source rows i-1, i with the taps w0 and w1+w2; an odd one i, i+1 with w0+w1 and w2.
    """
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    phases = []
    for rows in (0, 1):
        tall = _two_taps(weight, 2, rows)
        for columns in (0, 1):
            taps = _two_taps(tall, 3, columns)
            phases.append(F.conv2d(padded[:, :, rows : rows + height + 1, columns : columns + width + 1], taps))
    return F.pixel_shuffle(torch.stack(phases, 2).flatten(1, 2), 2)


def _two_taps(weight: Tensor, dim: int, odd: int) -> Tensor:
    first, second, third = weight.split(1, dim)
    return torch.cat([first + second, third] if odd else [first, second + third], dim)


def _phase_up_block(self: layers.UpBlock, x: Tensor) -> Tensor:
    return layers.instance_norm_glu(phase_convolution(x, self.conv.weight))


# -------------------- nearest doubling, then conv3: one 3x3 at the small size, with outputs for each of the four phases
def fourfold_weight(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (4 O, I, 3, 3), phase by phase: the taps of conv3(nearest doubling) at the small size.

    An even output row sees source rows i-1, i, i+1 with w0, w1+w2, 0; an odd one with 0, w0+w1, w2.
    """
    phases = [
        _three_taps(tall, 3, columns)
        for tall in (_three_taps(weight, 2, rows) for rows in (0, 1))
        for columns in (0, 1)
    ]
    return torch.cat(phases).contiguous(memory_format=torch.channels_last)


def _three_taps(weight: Tensor, dim: int, odd: int) -> Tensor:
    first, second, third = weight.split(1, dim)
    none = torch.zeros_like(first)
    return torch.cat([none, first + second, third] if odd else [first, second + third, none], dim)


def fourfold_up_block(x: Tensor, weight: Tensor) -> Tensor:
    """instance_norm_glu(conv3(nearest doubling of x)): (B, I, H, W) -> (B, O/2, 2H, 2W).

    Statistics ignore the order of pixels, so the four phases of a pixel are normalised as four neighbours, which in
    channels_last is the convolution's output as it lies; only the result, half as large, is put in order.
    """
    phases = F.conv2d(x, fourfold_weight(weight), padding=1)
    batch, _, height, width = phases.shape
    as_pixels = phases.permute(0, 2, 3, 1).reshape(batch, height, 4 * width, len(weight)).permute(0, 3, 1, 2)
    out = layers.instance_norm_glu(as_pixels).permute(0, 2, 3, 1)
    pixels = out.reshape(batch, height, width, 2, 2, -1).transpose(2, 3)
    return pixels.reshape(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


def _fourfold_up_block(self: layers.UpBlock, x: Tensor) -> Tensor:
    return fourfold_up_block(x, self.conv.weight)


def _interpolated_up_block(self: layers.UpBlock, x: Tensor) -> Tensor:
    return layers.instance_norm_glu(self.conv(F.interpolate(x, scale_factor=2, mode="nearest")))


# ------------------------------------------------------- convolutions of an image, with channels added to 3 (or 4)
def padded_convolution(channels: int) -> Callable[[nn.Conv2d, Tensor, Tensor, Tensor | None], Tensor]:
    """A forward of nn.Conv2d that runs inputs and outputs of 3 or 4 channels as `channels`: the others are zeros."""

    def forward(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        outputs, inputs = weight.shape[:2]
        if self.groups == 1 and inputs in (3, 4) and inputs < channels:
            x = F.pad(x, (0, 0, 0, 0, 0, channels - inputs))
            weight = F.pad(weight, (0, 0, 0, 0, 0, channels - inputs))
        more = channels - outputs if self.groups == 1 and outputs in (3, 4) else 0
        if more > 0:
            weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, more))
            bias = None if bias is None else F.pad(bias, (0, more))
        out = F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return out[:, :outputs] if more > 0 else out

    return forward


# ------------------------------------------------- the two convolutions of an affine combination as one of 5x5
def composed_convolution(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """conv3 by `first`, then conv3 by `second`, as one 5x5 convolution; the outermost pixels by the two.

    There the map between them is 0 outside the image, which no single convolution reproduces.
    """
    # (H, I, 3, 3) and (O, H, 3, 3) -> (O, I, 5, 5): the taps of the one, convolved with those of the other
    kernel = F.conv2d(first.transpose(0, 1), second.flip(2, 3), padding=2).transpose(0, 1)
    inside = F.conv2d(x, kernel.contiguous(memory_format=torch.channels_last))

    def both(strip: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(strip, first, padding=1), second, padding=1)

    # The outer two rows and columns of the result, each from the four outer ones of x
    top, bottom = both(x[:, :, :4])[:, :, :2], both(x[:, :, -4:])[:, :, -2:]
    left, right = both(x[:, :, :, :4])[:, :, 2:-2, :2], both(x[:, :, :, -4:])[:, :, 2:-2, -2:]
    return torch.cat([top, torch.cat([left, inside, right], 3), bottom], 2)


def _composed_affine(self: layers.AffineCombination, x: Tensor, condition: Tensor) -> Tensor:
    weight = torch.cat([self.scale.weight, self.shift.weight])
    scale, shift = composed_convolution(condition, self.hidden.weight, weight).chunk(2, 1)
    return x * scale + shift


def _two_affine(self: layers.AffineCombination, x: Tensor, condition: Tensor) -> Tensor:
    hidden = self.hidden(condition)
    return x * self.scale(hidden) + self.shift(hidden)


# ------------------------------------------ one pass of the discriminator's trunk, with batch statistics of each group
class GroupedBatchNorm(nn.Module):
    """`norm` in train mode, called once for `groups` equal parts of a batch instead of once for each."""

    def __init__(self, norm: nn.BatchNorm2d, groups: int):
        super().__init__()
        self.norm, self.groups = norm, groups

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        parts = layers.at_least_float32(x).unflatten(0, (self.groups, -1))
        variance, mean = torch.var_mean(parts, (1, 3, 4), correction=0, keepdim=True)
        y = ((parts - mean) * torch.rsqrt(variance + norm.eps)).flatten(0, 1)
        count = parts[0].numel() // parts.shape[2]
        with torch.no_grad():
            for group in range(self.groups):
                norm.running_mean.lerp_(mean[group].flatten(), norm.momentum)
                norm.running_var.lerp_(variance[group].flatten() * count / (count - 1), norm.momentum)
            norm.num_batches_tracked.add_(self.groups)
        return (y * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)).to(x.dtype)


def trunk_together(discriminator: Discriminator, images: list[Tensor]) -> list[Tensor]:
    """[discriminator(x) for x in images], batches of one size, in one pass."""
    norms = [
        (block, "norm", GroupedBatchNorm(block.norm, len(images)))
        for block in (*discriminator.down, *discriminator.narrow)
    ]
    with contextlib.ExitStack() as stack:
        for block, name, norm in norms:
            stack.callback(setattr, block, name, norm.norm)
            setattr(block, name, norm)
        return list(discriminator(torch.cat(images)).chunk(len(images)))


class _Known:
    """A discriminator whose trunk was run already: gives those features in order."""

    def __init__(self, discriminator: Discriminator, features: list[Tensor]):
        self.conditional, self.unconditional = discriminator.conditional, discriminator.unconditional
        self._features = iter(features)

    def __call__(self, image: Tensor) -> Tensor:
        return next(self._features)


def discriminator_loss_together(
    discriminator, real, fake, sentence, fake_sentence, class_ids=None, order=None, blurred=None, *rest, **options
):
    """discriminator_loss, its trunk run once."""
    images = [real, fake.detach(), *([] if blurred is None else [blurred])]
    stand_in = _Known(discriminator, trunk_together(discriminator, images))
    return discriminator_loss(
        stand_in, real, fake, sentence, fake_sentence, class_ids, order, blurred, *rest, **options
    )


# ----------------------------------------------------------------- gradients in one buffer per network
def flat_gradients(network: nn.Module) -> Tensor:
    """Make every .grad a view of one buffer, which is returned: one clear, one norm, one all-reduce."""
    sizes = [-(-p.numel() // 64) * 64 for p in network.parameters()]  # 256 bytes: vector loads stay aligned
    flat = next(network.parameters()).new_zeros(sum(sizes))
    start = 0
    for parameter, size in zip(network.parameters(), sizes, strict=True):
        parameter.grad = flat.as_strided(parameter.shape, parameter.stride(), start)
        start += size
    return flat


# ----------------------------------------------------------------------------------------- switching them on
REWRITES: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "phase convolutions": lambda: mock.patch.object(layers.UpBlock, "forward", _phase_up_block),
    "fourfold convolutions": lambda: mock.patch.object(layers.UpBlock, "forward", _fourfold_up_block),
    # What tmgan did before; its backward adds up in fp32, atomically, when it is compiled.
    "nearest doubling by F.interpolate": lambda: mock.patch.object(layers.UpBlock, "forward", _interpolated_up_block),
    "pooling and resizing by torch": lambda: _scatters(),
    "3 channels padded to 4": lambda: mock.patch.object(nn.Conv2d, "_conv_forward", padded_convolution(4)),
    "3 channels padded to 8": lambda: mock.patch.object(nn.Conv2d, "_conv_forward", padded_convolution(8)),
    "composed affine": lambda: mock.patch.object(layers.AffineCombination, "forward", _composed_affine),
    "two affine convolutions": lambda: mock.patch.object(layers.AffineCombination, "forward", _two_affine),
    "discriminator in one pass": lambda: mock.patch(
        "tmgan.training.objective.discriminator_loss", discriminator_loss_together
    ),
}


@contextlib.contextmanager
def _scatters() -> Iterator[None]:
    with (
        mock.patch.object(resampling._MaxPool, "apply", F.max_pool2d),
        mock.patch.object(resampling._BilinearResize, "apply", resampling._resize),
    ):
        yield


@contextlib.contextmanager
def rewritten(name: str) -> Iterator[None]:
    """While active, steps compute `name` (of REWRITES) the other way; compile them again inside."""
    with REWRITES[name]():
        yield
