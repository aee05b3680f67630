"""Where object masks come from when a data set has none: networks that look at a picture and, if they can, its text.

A new provider is one class with the interface of MaskProvider, a line in `make_provider` and a name in MASK_PROVIDERS
(config/settings.py). What a provider finds in the tiles of a pack is stored there by `tmgan data masks`
(data/masks.py), which does not depend on networks.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.config.methods import MASK_PROVIDERS
from tmgan.config.runtime import decide
from tmgan.config.settings import RuntimeConfig
from tmgan.models import weights
from tmgan.models.layers import init_frozen
from tmgan.models.segmentation import CROP_EDGE, Segmenter, voc_ids

_RANDOM_SEED = 0


class MaskProvider(Protocol):
    """Finds the object that a picture's text is about.

    Attributes:
        name: of the masks it makes, as in `method.keep_mask` and PACK/masks-NAME.u8.
        about: what the masks depend on, as JSON types; masks with another `about` are other masks. Its "weights" are
            "random" for random numbers, else a name with a hash.
    """

    name: str
    about: dict[str, str | list[str]]

    def __call__(self, images: Tensor, texts: list[str], span: float = 1.0) -> Tensor:
        """The object masks (B, 1, H, W) in [0, 1], 1 on the object; on the provider's device.

        Args:
            images: (B, 3, H, W) in [-1, 1], on any device.
            texts: one caption per image.
            span: edge of the images in training crops: 1 for a crop, 304/256 for a tile. Networks see a picture at the
                scale at which they would see a crop.
        """


class FcnMasks:
    """Objects of some classes of Pascal VOC, by FCN-ResNet101; it reads no text."""

    name = "fcn"

    def __init__(
        self,
        classes: tuple[str, ...],
        pretrained: Literal["pretrained", "random"],
        weights_dir: str,
        device: torch.device,
    ):
        ids = voc_ids(classes)
        self.segmenter = Segmenter(ids)
        if pretrained == "random":
            init_frozen(self.segmenter, torch.Generator().manual_seed(_RANDOM_SEED))
        else:
            self.segmenter.load_published(weights.load("fcn", weights_dir))
        self.segmenter.to(  # type: ignore[call-overload]  # torch's stubs know memory_format only by itself
            device=device, memory_format=torch.channels_last
        )
        source = "random" if pretrained == "random" else weights.KNOWN["fcn"].name
        self.about: dict[str, str | list[str]] = {"classes": sorted(set(classes)), "weights": source}

    def __call__(self, images: Tensor, texts: list[str], span: float = 1.0) -> Tensor:
        return self.segmenter(images.to(self.segmenter.mean.device), round(CROP_EDGE * span))


class ClipSegMasks:
    """Whatever the text is about, by CLIPSeg (Lueddecke & Ecker, CVPR 2022) through `transformers`, extra `clip`.

    Not in the paper, whose network is limited to one class. A pixel is object where the network finds that
    more likely than not; as with FCN masks, the map of zeros and ones is enlarged bilinearly.

    Args:
        folder: a copy of such a model as `save_pretrained` writes it, with its weights as safetensors.

    Raises:
        ValueError: a file or the package is missing; the message says what to do.
    """

    name = "clipseg"

    def __init__(self, folder: str, device: torch.device):
        source = weights.MODEL_FOLDERS["clipseg"]
        missing = source.absent(folder)
        if missing:
            lack = f"{folder} lacks {', '.join(missing)}" if folder else "--weights-dir names none"
            raise ValueError(
                f"CLIPSeg is read from a folder, and {lack}. Put a copy of {source.url} into the one that "
                "--weights-dir names, its weights as safetensors."
            )
        try:
            from transformers import AutoTokenizer, CLIPSegForImageSegmentation
        except ImportError:
            raise ValueError("CLIPSeg needs the package transformers: pip install 'tmgan[clip]'.") from None
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.network = CLIPSegForImageSegmentation.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self.network.float().eval().requires_grad_(False).to(device)
        settings = json.loads((Path(folder) / "preprocessor_config.json").read_text("utf-8"))
        size = settings["size"]
        self.edge = size["height"] if isinstance(size, dict) else size
        self.mean, self.std = (
            torch.tensor(settings[name], device=device).view(3, 1, 1) for name in ("image_mean", "image_std")
        )
        digest = hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()
        self.about: dict[str, str | list[str]] = {"text": "first caption", "weights": f"clipseg-{digest[:8]}"}

    @torch.no_grad()
    def __call__(self, images: Tensor, texts: list[str], span: float = 1.0) -> Tensor:
        """As published, the network sees every picture at the same size, so span is not used."""
        device = self.mean.device
        small = F.interpolate((images.to(device) + 1) / 2, size=(self.edge, self.edge), mode="bilinear", antialias=True)
        words = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            return_tensors="pt",
            max_length=self.network.config.text_config.max_position_embeddings,
        ).to(device)
        logits = self.network(
            pixel_values=(small - self.mean) / self.std,
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
        ).logits.view(len(images), 1, self.edge, self.edge)
        return F.interpolate((logits > 0).float(), size=images.shape[2:], mode="bilinear", align_corners=False)


def make_provider(
    name: str,
    classes: tuple[str, ...] = ("bird",),
    pretrained: Literal["pretrained", "random"] = "pretrained",
    weights_dir: str = "",
    device: torch.device | None = None,
) -> MaskProvider:
    """The provider of a name in MASK_PROVIDERS: "fcn" or "clipseg".

    Args:
        classes: for "fcn", of Pascal VOC.
        device: None for the GPU if there is one.
        pretrained: "random" for seeded random numbers instead of weights, which only "fcn" has.

    Raises:
        ValueError: a class is unknown or weights are missing; the message says what to do.
    """
    assert name in MASK_PROVIDERS, name
    device = device or decide(RuntimeConfig()).device
    if name == "clipseg":
        if pretrained == "random":
            raise ValueError("CLIPSeg has no --weights random: its tokenizer comes with its weights.")
        return ClipSegMasks(weights_dir, device)
    return FcnMasks(classes, pretrained, weights_dir, device)
