"""Third-party weights: where they are looked for, how they are checked, and what to do when one is missing.

Nothing is downloaded. The file names carry the first eight digits of their sha256, and that is what is checked.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class WeightFile:
    name: str  # what to save it as, ending in -<first 8 hex digits of sha256>.pth
    url: str
    purpose: str


KNOWN = {
    "inception": WeightFile(
        "inception_v3_google-0cc3c7bd.pth",
        "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
        "photo encoder of DAMSM, and network of the Inception score (ImageNet Inception-v3)",
    ),
    "vgg16": WeightFile(
        "vgg16-397923af.pth",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "perceptual features (ImageNet VGG16)",
    ),
    "fid_inception": WeightFile(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "network that defines FID",
    ),
    "fcn": WeightFile(
        "fcn_resnet101_coco-7ecb50ca.pth",
        "https://download.pytorch.org/models/fcn_resnet101_coco-7ecb50ca.pth",
        "segmentation network of the FCN masks (FCN-ResNet101)",
    ),
    "alexnet": WeightFile(
        "alexnet-owt-7be5be79.pth",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "network of LPIPS (ImageNet AlexNet)",
    ),
    "lpips": WeightFile(
        "lpips-0.1-alex-df73285e.pth",
        "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/alex.pth",
        "fitted layer weights of LPIPS",
    ),
}


def folders(weights_dir: str = "") -> list[Path]:
    """Where weights are looked for, in this order."""
    names = [weights_dir, os.environ.get("TMGAN_WEIGHTS", ""), os.path.join(torch.hub.get_dir(), "checkpoints")]
    return [Path(name).expanduser() for name in names if name]


def find(key: str, weights_dir: str = "") -> Path | None:
    """Path of a known weight file, or None."""
    for folder in folders(weights_dir):
        if (folder / KNOWN[key].name).is_file():
            return folder / KNOWN[key].name
    return None


def load(key: str, weights_dir: str = "") -> dict[str, torch.Tensor]:
    """State dict of a known weight file, checked.

    Raises:
        ValueError: the file is missing or altered; the message says where to get it and where to put it.
    """
    file, path = KNOWN[key], find(key, weights_dir)
    if path is None:
        places = "\n".join(f"  {folder}" for folder in folders(weights_dir))
        raise ValueError(
            f"The weights of the {file.purpose} are missing.\nDownload {file.url}\nand save it as "
            f"{file.name} in one of these folders:\n{places}\nTo try things out without them: "
            "--weights random."
        )
    prefix = path.stem.rsplit("-", 1)[1]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(prefix):
        raise ValueError(
            f"{path} is not the published file: its sha256 begins with {digest[:8]}, expected {prefix}. "
            f"Download it again from {file.url}."
        )
    return torch.load(path, map_location="cpu", weights_only=True)
