"""`instance_norm_glu` in a plain network, under torch.compile, checked against the same network in plain PyTorch.

A block of an image generator is often: convolution to twice the channels, instance normalisation, then a gate, half of
the channels times the sigmoid of the other half. `instance_norm_glu` is the last two in one call. torch.compile sees it
as one operator, so that fullgraph=True holds, and on a GPU it is one or two kernels that read the input twice.

    python examples/instance_norm_glu.py           # compiled by Inductor; on a GPU it also says how long both take
    python examples/instance_norm_glu.py --toy     # seconds on a CPU: traced by torch.compile, but not compiled
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmgan_kernels import instance_norm_glu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
    """Twice as large, `outside` channels: the fused operation, or what it stands for."""

    def __init__(self, inside: int, outside: int, fused: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inside, 2 * outside, 3, padding=1, bias=False)  # the norm would undo a bias
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(F.interpolate(x, scale_factor=2.0))
        if self.fused:
            return instance_norm_glu(x)
        return F.glu(F.instance_norm(x), dim=1)


def network(width: int, fused: bool) -> nn.Module:
    """From 8x8 to 64x64 pixels; the same weights each time."""
    torch.manual_seed(0)
    widths = (4 * width, 4 * width, 2 * width, width)
    blocks = [Block(inside, outside, fused) for inside, outside in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*blocks, nn.Conv2d(width, 3, 3, padding=1), nn.Tanh()).to(
        DEVICE, memory_format=torch.channels_last
    )


def gradients(net: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """A picture, and the gradients of its mean square with respect to all weights."""
    picture = net(x)
    return picture.detach(), list(torch.autograd.grad(picture.square().mean(), list(net.parameters())))


def milliseconds(net: nn.Module, x: Tensor, repeats: int = 20) -> float:
    """Of a forward and a backward pass on a GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    gradients(net, x)
    start.record()
    for _ in range(repeats):
        gradients(net, x)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", help="of torch.compile: inductor, or aot_eager, which only traces")
    parser.add_argument("--toy", action="store_true", help="a tiny network, and aot_eager unless you choose")
    options = parser.parse_args()
    width, batch = (4, 2) if options.toy else (32, 16)
    backend = options.backend or ("aot_eager" if options.toy else "inductor")

    plain = network(width, fused=False)
    fused = torch.compile(network(width, fused=True), fullgraph=True, backend=backend)
    x = torch.randn(batch, 4 * width, 8, 8, device=DEVICE).to(memory_format=torch.channels_last)
    (expected, wanted), (picture, got) = gradients(plain, x), gradients(fused, x)
    torch.testing.assert_close(picture, expected, atol=1e-4, rtol=1e-4)
    worst = max(((a - b).norm() / a.norm().clamp(min=1e-6)).item() for a, b in zip(wanted, got, strict=True))
    assert worst < 1e-3, worst
    print(f"pictures {tuple(picture.shape)} agree within {(picture - expected).abs().max().item():.1e},")
    print(f"gradients within {worst:.1e} of their length ({backend}, {DEVICE})")
    if DEVICE == "cuda":
        times = {"plain": plain, "plain, compiled": torch.compile(plain, backend=backend), "fused, compiled": fused}
        for name, net in times.items():
            print(f"{name}: {milliseconds(net, x):.2f} ms forward and backward")


if __name__ == "__main__":
    main()
