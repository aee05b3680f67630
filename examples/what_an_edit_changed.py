"""Three operations on two photos: what did an edit change, how much of the rest did it keep, and is it still sharp?

For a photo and the same photo edited by anything at all: another program, a network, a person.

    python examples/what_an_edit_changed.py PHOTO EDITED --out kept.png
    python examples/what_an_edit_changed.py --toy      # a drawn photo, with one square changed and all of it darkened

`change_mask` first gives the photo the histogram of the edit, so that a change of brightness alone is no change; the
picture that it writes is the edit with all that was kept turned grey.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tmgan_kernels import change_mask, mask_score, sharpness_score

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def open_photo(path: Path) -> Tensor:
    """(1, 3, H, W) in 0..255."""
    with Image.open(path) as photo:
        return torch.from_numpy(np.array(photo.convert("RGB"))).permute(2, 0, 1)[None].float().to(DEVICE)


def drawn() -> tuple[Tensor, Tensor]:
    """A photo of soft waves, and its edit: a bit darker, and with a square in its middle inverted."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    photo = (128 + 100 * torch.sin(x / 9) * torch.cos(y / 13)).round().expand(1, 3, 96, 96).contiguous()
    edited = photo.clone()
    edited[..., 36:60, 36:60] = 255 - edited[..., 36:60, 36:60]
    return photo.to(DEVICE), (0.9 * edited).round().to(DEVICE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="*", metavar="PHOTO", help="two of one size: before and after")
    parser.add_argument("--out", type=Path, help="write the edit, with what was kept turned grey, here")
    parser.add_argument("--toy", action="store_true", help="drawn photos in place of yours")
    options = parser.parse_args()
    if len(options.photos) != (0 if options.toy else 2):
        parser.error("give two photos, before and after, or --toy")
    photo, edited = drawn() if options.toy else map(open_photo, options.photos)

    # Units are those of 8-bit photos throughout; eight_bit promises that the photo holds whole numbers only.
    keep = change_mask(photo, edited, value_range=(0, 255), eight_bit=True)
    damage = mask_score(photo, edited, keep, value_range=(0, 255))
    before, after = (sharpness_score(x, value_range=(0, 255)).item() for x in (photo, edited))
    print(f"changed: {1 - keep.float().mean().item():.1%} of the photo")
    print(f"mean squared difference where it was kept, in 8-bit units: {damage.item():.1f}")
    print(f"sharpness: {before:.1f} before, {after:.1f} after")
    if options.out:
        shown = torch.where(keep, edited.mean(1, keepdim=True), edited)
        Image.fromarray(shown[0].permute(1, 2, 0).byte().cpu().numpy()).save(options.out)
        print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
