"""The sharpness-aware discriminator in somebody else's GAN: three lines in a plain DCGAN.

A discriminator that has never seen a blurred photo does not mind blur, so its generator may blur. Here it is also shown
blurred copies of the real pictures, and told that they are fake. The three lines that do it are marked with (SAD); all
else is an ordinary DCGAN on discs that are drawn as they are needed. Put your own data and networks in their place.

    python examples/sharpness_aware_discriminator.py          # a GPU, or two minutes of a CPU
    python examples/sharpness_aware_discriminator.py --toy    # seconds on a CPU: shows that it runs
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmgan_kernels import box_blur, sharpness_score

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE, NOISE = 32, 32


def discs(count: int) -> Tensor:
    """Pictures of one disc each, (count, 3, SIZE, SIZE) in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    left, top, radius = torch.rand(3, count, 1, 1) - 0.5
    inside = (x - left) ** 2 + (y - top) ** 2 < (0.4 + 0.4 * radius) ** 2
    front, back = torch.rand(2, count, 3, 1, 1) * 2 - 1
    return torch.where(inside[:, None], front, back).to(DEVICE)


def up(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inside, outside, 4, 2, 1), nn.BatchNorm2d(outside), nn.ReLU())


def down(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 4, 2, 1), nn.LeakyReLU(0.2))


def says(logits: Tensor, real: bool) -> Tensor:
    """The cross entropy of a discriminator's logits with one answer for all."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--blur", type=int, default=9, help="edge of the blur in pixels, odd, 3 to 15; 0: a plain DCGAN"
    )
    parser.add_argument("--toy", action="store_true", help="a few steps of tiny networks")
    options = parser.parse_args()
    steps, batch, width = (40, 8, 4) if options.toy else (1000, 64, 32)

    torch.manual_seed(0)
    generator = nn.Sequential(
        nn.Unflatten(1, (NOISE, 1, 1)), nn.ConvTranspose2d(NOISE, 4 * width, 4), nn.ReLU(),
        up(4 * width, 2 * width), up(2 * width, width), nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh(),
    ).to(DEVICE)  # fmt: skip
    discriminator = nn.Sequential(
        down(3, width), down(width, 2 * width), down(2 * width, 4 * width), nn.Conv2d(4 * width, 1, 4), nn.Flatten()
    ).to(DEVICE)
    of_g, of_d = (torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (generator, discriminator))

    for step in range(steps):
        real = discs(batch)
        fake = generator(torch.randn(batch, NOISE, device=DEVICE))
        loss_d = says(discriminator(real), True) + says(discriminator(fake.detach()), False)
        if options.blur:
            blurred = box_blur(real, options.blur)  # (SAD) the real pictures, blurred
            loss_d = loss_d + says(discriminator(blurred), False)  # (SAD) are fake
            loss_d = loss_d / 1.5  # (SAD) three terms in place of two: keep the size of the step
        of_d.zero_grad(set_to_none=True)
        loss_d.backward()
        of_d.step()

        loss_g = says(discriminator(fake), True)
        of_g.zero_grad(set_to_none=True)
        loss_g.backward()
        of_g.step()
        if step % max(1, steps // 5) == 0:
            print(f"step {step}: discriminator {loss_d.item():.3f}, generator {loss_g.item():.3f}")

    with torch.no_grad():
        real, fake = discs(64), generator(torch.randn(64, NOISE, device=DEVICE))
        sharp, soft = (torch.sigmoid(discriminator(x)).mean().item() for x in (real, box_blur(real, 9)))
    print(f"the discriminator takes {sharp:.0%} of a real picture for real, and {soft:.0%} of its blurred copy")
    scores = [sharpness_score(x).mean().item() for x in (real, fake)]
    print(f"sharpness: real {scores[0]:.1f}, generated {scores[1]:.1f}")


if __name__ == "__main__":
    main()
