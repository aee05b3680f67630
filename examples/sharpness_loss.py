"""A sharpness loss in a plain training loop: super-resolution that does not blur.

A small network enlarges pictures four times. Trained by the L1 loss alone, it hedges: where it is not sure of an edge,
it paints a soft one. With `naive_sharpness_loss` added, the edges that it does paint are pushed to be steeper, and flat
regions to be smooth. The script trains both from the same weights and prints how sharp their pictures are.

    python examples/sharpness_loss.py            # a quarter of a minute on a CPU
    python examples/sharpness_loss.py --toy      # seconds on a CPU: shows that it runs, not what it is worth
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmgan_kernels import naive_sharpness_loss, sharpness_score

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def pictures(count: int, size: int, random: torch.Generator) -> Tensor:
    """Two-coloured stripes with a disc before them, (count, 3, size, size) in [-1, 1]; every edge is sharp."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    angle, pitch, left, top, radius = torch.rand(5, count, 1, 1, generator=random)
    stripes = torch.sin((4 + 12 * pitch) * (x * torch.cos(6.3 * angle) + y * torch.sin(6.3 * angle))) > 0
    disc = (x - left + 0.5) ** 2 + (y - top + 0.5) ** 2 < 0.1 + 0.3 * radius**2
    first, second, third = torch.rand(3, count, 3, 1, 1, generator=random) * 2 - 1
    return torch.where(disc[:, None], third, torch.where(stripes[:, None], first, second)).to(DEVICE)


def sharpness(images: Tensor) -> float:
    """Their mean score: the mean absolute Laplacian, in 8-bit units."""
    return sharpness_score(images).mean().item()


def train(sharpness_weight: float, options: argparse.Namespace) -> nn.Module:
    """The network after options.steps steps; the same first weights and pictures whatever the weight."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, options.width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(options.width, options.width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(options.width, 3 * 16, 3, padding=1), nn.PixelShuffle(4), nn.Tanh(),
    ).to(DEVICE)  # fmt: skip
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for step in range(options.steps):
        truth = pictures(options.batch, options.size, random)
        enlarged = network(F.avg_pool2d(truth, 4))
        loss = F.l1_loss(enlarged, truth)
        if sharpness_weight:
            # The one line that this example is about. What is an edge, the enlarged picture says itself; pass labels=
            # to say it. Too large a weight makes pictures sharper than the truth: compare the printed scores.
            loss = loss + sharpness_weight * naive_sharpness_loss(enlarged, gamma=0.5)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step % max(1, options.steps // 4) == 0:
            print(f"  step {step}: loss {loss.item():.3f}")
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weight", type=float, default=0.01, help="of the sharpness loss beside L1")
    parser.add_argument("--toy", action="store_true", help="a few steps of a tiny network")
    options = parser.parse_args()
    sizes = {"steps": 30, "batch": 4, "size": 32, "width": 8} if options.toy else {}
    options = argparse.Namespace(**{"steps": 600, "batch": 16, "size": 64, "width": 32} | vars(options) | sizes)

    truth = pictures(16, options.size, torch.Generator().manual_seed(2))  # none that was trained on
    small = F.avg_pool2d(truth, 4)
    bicubic = F.interpolate(small, scale_factor=4, mode="bicubic")
    print(f"sharpness of the truth {sharpness(truth):.1f}, of bicubic pictures {sharpness(bicubic):.1f}")
    for name, weight in (("L1 alone", 0.0), ("L1 + sharpness", options.weight)):
        print(f"{name}:")
        enlarged = train(weight, options)(small).detach()
        print(f"  sharpness {sharpness(enlarged):.1f}, L1 {F.l1_loss(enlarged, truth).item():.3f}")


if __name__ == "__main__":
    main()
