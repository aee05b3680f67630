"""Tell from names and shapes which published network a state dict is, and turn it into ours and back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tmgan.models import published_names
from tmgan.models.detail_correction import DetailCorrection
from tmgan.models.discriminator import Discriminator
from tmgan.models.encoders import InceptionEncoder, TextEncoder
from tmgan.models.lightweight import Generator
from tmgan.models.manigan import MainModule

IMAGE_SIZE = 256  # the published networks know no other
SCALES = (64, 128, 256)  # of ManiGAN's images and discriminators
TEXT, IMAGE = "text encoder", "image encoder"
LIGHTWEIGHT, MAIN, CORRECTION = "Lightweight GAN's generator", "ManiGAN's main module", "ManiGAN's detail correction"
_COUNTER = "num_batches_tracked"  # which torch has written since 0.4.1
_SHOWN = 4  # names in a message


def discriminator(size: int) -> str:
    """What a discriminator of this size is called."""
    return f"discriminator of {size} pixels"


class Size(NamedTuple):
    """A setting that the shape of a weight tells: `shape[axis] // divisor` of the published name `key`."""

    key: str
    axis: int
    divisor: int
    birds: int  # as published for birds


@dataclass(frozen=True)
class Kind:
    """A published network.

    Attributes:
        name: what it is called in messages.
        names: its layers, ours -> published.
        sizes: where its shapes say what its settings are, by name.
        build: a network of ours with settings by these names.
    """

    name: str
    names: dict[str, str]
    sizes: dict[str, Size]
    build: Callable[..., nn.Module]

    @functools.cached_property
    def keys(self) -> frozenset[str]:
        """Published names of a network for birds."""
        return frozenset(self.shapes({name: size.birds for name, size in self.sizes.items()}))

    def shapes(self, settings: dict[str, int]) -> dict[str, tuple[int, ...]]:
        """Published names and shapes of a network with these settings."""
        return {
            published_names.published_key(key, self.names): _published_shape(value)
            for key, value in self.empty(settings).state_dict().items()
        }

    def empty(self, settings: dict[str, int]) -> nn.Module:
        """Our network, without memory for its numbers."""
        with torch.device("meta"):
            return self.build(**settings)

    def settings(self, state: dict[str, Tensor]) -> dict[str, int]:
        """What the shapes of a state dict say; as for birds where it does not say it."""
        found = {}
        for name, size in self.sizes.items():
            shape = state[size.key].shape if size.key in state else ()
            told = len(shape) > size.axis and shape[size.axis] >= size.divisor
            found[name] = shape[size.axis] // size.divisor if told else size.birds
        if any(".residual." in key for key in self.names.values()):
            blocks = {key.split(".residual.")[1].split(".")[0] for key in state if ".residual." in key}
            found["residual_blocks"] = min(len(blocks), published_names.BLOCKS)
        return found


@dataclass(frozen=True)
class Network:
    """A published network that was recognised.

    Attributes:
        state: its state dict, by our names.
        settings: see `Kind.sizes`, and "residual_blocks".
    """

    kind: str
    state: dict[str, Tensor]
    settings: dict[str, int]


_START = {
    "condition_dim": Size("ca_net.fc.weight", 0, 4, 100),
    "start_inputs": Size("h_net1.fc.0.weight", 1, 1, 456),  # condition, noise and the photo's code
}


def _generator(network: type[Generator] | type[MainModule]) -> Callable[..., nn.Module]:
    def build(word_dim: int, condition_dim: int, start_inputs: int, **others: Any) -> nn.Module:
        noise_dim = max(1, start_inputs - condition_dim - word_dim)
        dims: dict[str, Any] = dict.fromkeys(("sentence_dim", "word_dim", "code_dim", "region_dim"), word_dim)
        return network(
            IMAGE_SIZE, condition_dim=condition_dim, noise_dim=noise_dim, attention="published", **dims, **others
        )

    return build


KINDS = (
    Kind(
        TEXT,
        published_names.TEXT_ENCODER,
        {
            "vocabulary_size": Size("encoder.weight", 0, 1, 5450),
            "word_dim": Size("encoder.weight", 1, 1, 300),
            "half_dim": Size("rnn.weight_hh_l0", 1, 1, 128),
        },
        lambda vocabulary_size, word_dim, half_dim: TextEncoder(vocabulary_size, 2 * half_dim, word_dim),
    ),
    Kind(IMAGE, published_names.IMAGE_ENCODER, {"dim": Size("emb_features.weight", 0, 1, 256)}, InceptionEncoder),
    Kind(
        LIGHTWEIGHT,
        published_names.LIGHTWEIGHT,
        {
            **_START,
            "word_dim": Size("h_net1.att.conv_context.weight", 1, 1, 256),
            "affine_dim": Size("ACM.conv.weight", 0, 1, 128),
            "width": Size("imgUpSample1.1.weight", 0, 2, 32),
            "top_width": Size("imgUpSample4.1.weight", 0, 2, 32),
        },
        _generator(Generator),
    ),
    Kind(
        MAIN,
        published_names.MAIN_MODULE,
        {
            **_START,
            "word_dim": Size("h_net2.att.conv_context.weight", 1, 1, 256),
            "affine_dim": Size("SAIN1.conv.weight", 0, 1, 128),
            "width": Size("imgUpSample.1.weight", 0, 2, 32),
            "top_width": Size("imgUpSample2.1.weight", 0, 2, 32),
        },
        _generator(MainModule),
    ),
    Kind(
        CORRECTION,
        published_names.DETAIL_CORRECTION,
        {
            "word_dim": Size("h_net.att.conv_context.weight", 1, 1, 256),
            "affine_dim": Size("SAIN.conv.weight", 0, 1, 128),
            "width": Size("upsample.1.weight", 0, 2, 32),
        },
        functools.partial(DetailCorrection, IMAGE_SIZE, attention="published"),
    ),
    *(
        Kind(
            discriminator(size),
            published_names.discriminator(size),
            {
                "width": Size("img_code_s16.0.weight", 0, 1, 64),
                "joint": Size("COND_DNET.jointConv.0.weight", 1, 1, 768),
            },
            lambda width, joint, size=size: Discriminator(size, width, max(1, joint - 8 * width)),
        )
        for size in SCALES
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def recognise(state: dict[str, Tensor], where: object) -> Network:
    """The published network whose state dict this is.

    Args:
        where: its file, for messages.

    Raises:
        ValueError: it is none of them, or has names or shapes that are off; the message says which.
    """

    def alike(kind: Kind) -> float:
        return len(kind.keys & state.keys()) / len(kind.keys | state.keys())

    kind = max(KINDS, key=alike)
    if alike(kind) < 0.5:
        raise ValueError(
            f"{where} is none of the published networks: it holds {_few(sorted(state))}. What is read: DAMSM's text "
            "and image encoders, generators and discriminators of Lightweight GAN and ManiGAN, its detail correction."
        )
    settings = kind.settings(state)
    shapes = kind.shapes(settings)
    given = {key: tuple(value.shape) for key, value in state.items()}
    off = {
        "missing": sorted(key for key in shapes if key not in given and not key.endswith(_COUNTER)),
        "not float32": sorted(key for key in state if (state[key].dtype == torch.int64) != key.endswith(_COUNTER)),
        "unknown": sorted(key for key in given if key not in shapes),
        "shape": [
            f"{key} {given[key]} instead of {shape}" for key, shape in shapes.items() if given.get(key, shape) != shape
        ],
    }
    told = [f"{what}: {_few(keys)}" for what, keys in off.items() if keys]
    if told:
        hint = ""
        if given.get("img_code_s16.0.weight", (0, 0))[1] == 4:
            hint = " It reads a fourth channel, the paper's sharp-region mask, which is not built here."
        raise ValueError(f"{where} looks like {_article(kind.name)}, but it is not: {'; '.join(told)}.{hint}")
    return Network(kind.name, _to_ours(state, kind, settings), settings)


def _to_ours(state: dict[str, Tensor], kind: Kind, settings: dict[str, int]) -> dict[str, Tensor]:
    ours = {}
    for key, value in kind.empty(settings).state_dict().items():
        published = state.get(published_names.published_key(key, kind.names))
        ours[key] = torch.zeros((), dtype=torch.int64) if published is None else published.reshape(value.shape)
    return ours


def to_published(state: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """A state dict of ours, by published names and with published shapes.

    ManiGAN's main module without the weights that nothing depends on (attention "own") is given zeros for them.
    """
    about = BY_NAME[kind]
    published = {
        published_names.published_key(key, about.names): value.detach()
        .cpu()
        .reshape(_published_shape(value))
        .contiguous()
        for key, value in state.items()
    }
    if kind == MAIN:
        settings = about.settings(published)
        for key, shape in about.shapes(settings).items():
            if key.endswith("channel_att.conv_context3.weight") or key.endswith("channel_att.conv_context2.weight"):
                published.setdefault(key, torch.zeros(shape))
    return published


def _published_shape(value: Tensor) -> tuple[int, ...]:
    """Words are projected by convolutions of two dimensions there, of one here."""
    return (*value.shape, 1) if value.ndim == 3 else tuple(value.shape)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _article(name: str) -> str:
    return name if "'s " in name else f"an {name}" if name[0] in "aeiou" else f"a {name}"
