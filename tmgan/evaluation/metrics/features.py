"""The two Inception networks behind the metrics: the one that defines FID, and ImageNet's for the Inception score.

They are different networks with different weights; a FID from the second, a common mistake, is no FID. Both stay in
eval mode whatever is called (the published code measures FID in train mode), in fp32 also under autocast, and take
pictures as they would be read back from 8-bit files, so the numbers equal those of `python -m pytorch_fid` on PNGs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception3, inception_v3

from tmgan.models import weights
from tmgan.models.layers import fold_batch_norms, init_frozen

INPUT_SIZE = 299
PROTOCOL = "pytorch-fid: 8-bit RGB, bilinear to 299 without antialiasing"


class FrozenInception(nn.Module):
    """A network with its preprocessing: images (B, 3, H, W) in [-1, 1], any size -> (B, dim) fp32.

    Attributes:
        name: of network and weights, for reports and file names; begins with "random" for random weights.
        dim: of a row of the result.
    """

    def __init__(self, network: Inception3, name: str, dim: int):
        super().__init__()
        self.network = fold_batch_norms(network.eval().requires_grad_(False)).to(memory_format=torch.channels_last)
        self.name, self.dim = name, dim
        self.train(False)

    def train(self, mode: bool = True) -> FrozenInception:
        """Stays in eval mode, always."""
        return super().train(False)

    def digest(self) -> str:
        """sha256 of the weights, in hex: what features depend on besides the pictures."""
        digest = hashlib.sha256()
        for tensor in self.network.state_dict().values():
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) in [-1, 1]; what lies outside is cut off, as in a saved file."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"{self.name}: images have the shape {tuple(images.shape)}, expected (B, 3, H, W).")
        with torch.autocast(images.device.type, enabled=False), full_fp32():
            return self.network(to_inception(images).contiguous(memory_format=torch.channels_last))


@contextmanager
def full_fp32() -> Iterator[None]:
    """No TF32 inside, whatever the process has set: its ten bits of mantissa move a distance in the third digit."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def to_inception(images: Tensor) -> Tensor:
    """images (B, 3, H, W) in [-1, 1] -> (B, 3, 299, 299) fp32 in [-1, 1], in the arithmetic of pytorch-fid.

    Rounded to 256 levels first, as in a saved file, then resized with half-pixel centres and without antialiasing.
    """
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255)
    resized = F.interpolate(levels / 255, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
    return 2 * resized - 1


def fid_network(pretrained: str = "pretrained", weights_dir: str = "", seed: int = 0) -> FrozenInception:
    """The network that defines FID, to its 2048 pooled features ("pool3"); use PROTOCOL for their `Moments`.

    Args:
        pretrained: "pretrained" (see weights.py) or "random" weights from the seed, with which a distance still tells
            sets apart but is no FID.
        weights_dir: searched first.

    Raises:
        ValueError: when the file with the weights is missing.
    """
    state = _state("fid_inception", pretrained, weights_dir)
    network = _fid_inception()
    name = _fill(network, state, "inception-2015-12-05", seed)
    network.fc = nn.Identity()
    return FrozenInception(network, name, 2048)


def random_fid_state(seed: int = 0) -> dict[str, Tensor]:
    """The weights of `fid_network("random", seed=seed)` as a file for pytorch-fid's own network would hold them."""
    network = _fid_inception()
    init_frozen(network, torch.Generator().manual_seed(seed))
    return network.state_dict()


def _fid_inception() -> Inception3:
    # Here, so that a machine that only trains does not need it.
    from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2

    network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    # As in pytorch_fid.inception.fid_inception_v3, which would then download the weights itself.
    network.Mixed_5b = FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = FIDInceptionE_1(1280)
    network.Mixed_7c = FIDInceptionE_2(2048)
    return network


def score_network(pretrained: str = "pretrained", weights_dir: str = "", seed: int = 0) -> FrozenInception:
    """torchvision's ImageNet Inception-v3 to its 1000 logits, as in the paper's Inception score.

    As published: inputs in [-1, 1], not ImageNet's mean and deviation. Other papers on CUB use a network fine-tuned on
    birds; their scores are not comparable. Arguments and errors are those of `fid_network`.
    """
    state = _state("inception", pretrained, weights_dir)
    network = inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
    name = _fill(network, state, "inception-imagenet", seed)
    return FrozenInception(network, name, 1000)


def _state(key: str, pretrained: str, weights_dir: str) -> dict[str, Tensor] | None:
    """The weights, None for random ones. Called first: a missing file is reported before anything is built."""
    return None if pretrained == "random" else weights.load(key, weights_dir)


def _fill(network: Inception3, state: dict[str, Tensor] | None, name: str, seed: int) -> str:
    if state is None:
        init_frozen(network, torch.Generator().manual_seed(seed))
        return f"random-{name}-seed-{seed}"
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("AuxLogits.")})
    return name
