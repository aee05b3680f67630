"""Object masks from a finder of your own: stored in a pack, trained with, and used to find the object in a photo.

    python examples/mask_provider.py packs/mine

The finder here takes for the object whatever differs from the colours at the picture's border. Put a network in its
place: any class with `name`, `about` and `__call__` will do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

import tmgan


class UnlikeTheBorder:
    """Masks are stored as PACK/masks-own.u8; `about` says what they depend on, so that others are not mixed up."""

    name = "own"
    about = {"weights": "none: distance from the border's mean colour"}

    def __call__(self, images: Tensor, texts: list[str], span: float = 1.0) -> Tensor:
        """Object masks (B, 1, H, W) in [0, 1] of images (B, 3, H, W) in [-1, 1], one text for each."""
        top, bottom, left, right = images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]
        border = (top.mean(-1) + bottom.mean(-1) + left.mean(-1) + right.mean(-1)) / 4
        distance = (images - border[..., None, None]).square().mean(1, keepdim=True).sqrt()
        return (distance > 2 * distance.mean((2, 3), keepdim=True)).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", nargs="?", default="", help="pack of `tmgan data prepare`; without it birds are drawn")
    parser.add_argument("--photo", default="", help="photo to edit; without it one of the drawn birds")
    parser.add_argument("--run", default="runs/own-masks", help="run folder to make")
    parser.add_argument("--toy", action="store_true", help="few images, to see that it works")
    options = parser.parse_args()
    small = (
        {"images": 16, "drawn_images": 20, "pretrain": {"images": 32}, "runtime": {"threads": 1}} if options.toy else {}
    )
    pack, photo = options.pack, options.photo
    if not pack:
        pack, photo = draw(Path(options.run), small.get("drawn_images", 600))

    found = tmgan.find_masks(pack, UnlikeTheBorder())
    print(f"{found.images} masks; the object covers {100 * found.coverage:.0f} % of an image")
    config = tmgan.configure(data=pack, run=options.run, method={"keep_mask": "own"}, **small)
    run = tmgan.train(config, evaluated=False)
    score = tmgan.evaluate(run, protocol=tmgan.Protocol(metrics=("mask_score",), masks=("own",), count=50))
    print(f"mask score under these masks: {score['mask_score/own'].value:.1f}")
    if photo:  # the square to edit lies where the finder sees the object
        edit = tmgan.load(run).edit(photo, "a bird with a red head", find=UnlikeTheBorder())
        edit.save("edited.png")


def draw(run: Path, count: int) -> tuple[Path, Path]:
    """A pack of drawn birds beside the run, and one of its photos."""
    birds, pack = run.with_name(f"{run.name}-birds"), run.with_name(f"{run.name}-pack")
    tmgan.draw_birds(birds, count, image_size=128)
    photo = min(birds.rglob("*.jpg"))
    return tmgan.prepare(birds, pack, image_size=64, workers=1).pack, photo


if __name__ == "__main__":
    main()
