"""Golden values of the published Lightweight GAN code, and the recipe its weights and inputs are made by.

The files in `goldens/` hold outputs only. Weights and inputs are functions of a name and a shape (numpy's legacy
generator, a frozen stream), so both sides make the same ones and nothing else has to be stored. Weights are named by
their *published* state_dict key. Every value is rounded to float32; the comparison runs in float64.

A stored output `f64:NAME` takes one of these forms:
    NAME            the whole array
    NAME|sub        flat[::stride] of the array, with |stride, |shape and |stats = [sum, mean, std, max abs, l2]
    NAME|gsub       a parameter's gradient: flat[::stride], about 64 samples, with |gnorm = its l2 norm
"""

import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tmgan.models.encoders import ImageFeatures
from tmgan.models.published_names import published_key

FOLDER = Path(__file__).parent / "goldens"
TOLERANCE = 1e-9  # relative, in l2
LENGTHS = (9, 7, 7, 4)
WRONG_LENGTHS = (10, 8, 5, 3)
CLASS_IDS = torch.tensor([3, 5, 3, 1])
# Names of what is not a file of its own: the VGG of the losses, torchvision's FCN, two attention modules.
VGG = {"layers": "vgg"}
SEGMENTER = {"network": ""}
SPATIAL_ATTENTION = {"project": "sp.conv_context"}
CHANNEL_ATTENTION = {"project": "ch.conv_context"}


def unit(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform float64 in [-1, 1), a function of name and shape."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return stream.random_sample(shape) * 2.0 - 1.0


def tensor(name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """Uniform in [-scale, scale)."""
    return _double(scale * unit(name, shape))


def image(name: str, batch: int, size: int = 256) -> Tensor:
    """(batch, 3, size, size) in [-1, 1]: coarse 16-pixel blocks with fine noise on them."""
    coarse = unit(f"{name}/coarse", (batch, 3, size // 16, size // 16)).repeat(16, 2).repeat(16, 3)
    return _double(np.clip(0.7 * coarse + 0.3 * unit(f"{name}/fine", (batch, 3, size, size)), -1, 1))


def words(name: str, lengths: tuple[int, ...], dim: int = 256) -> Tensor:
    """(B, dim, longest), 0 from each caption's length on."""
    values = tensor(name, (len(lengths), dim, max(lengths)))
    return values.masked_fill(padding(lengths)[:, None, :], 0.0)


def captions(name: str, lengths: tuple[int, ...], width: int = 18, vocabulary: int = 60) -> Tensor:
    """int64 (B, width) word ids in [1, vocabulary), 0 from each caption's length on."""
    ids = 1 + np.floor((unit(name, (len(lengths), width)) + 1) / 2 * (vocabulary - 1)).astype(np.int64)
    return torch.from_numpy(ids).masked_fill(padding(lengths, width), 0)


def padding(lengths: tuple[int, ...], width: int | None = None) -> Tensor:
    """bool (B, width), True from each length on; width defaults to the longest."""
    return torch.arange(width or max(lengths)) >= torch.tensor(lengths)[:, None]


def generator_inputs(perceptual: bool = True) -> dict[str, Tensor | ImageFeatures]:
    """Of the generators: by the names of their arguments."""
    texture = tensor("g/vgg_features", (4, 128, 128, 128)).clamp(min=0) if perceptual else None
    return {
        "noise": tensor("g/noise", (4, 100), 1.7),
        "sentence": tensor("g/sent_emb", (4, 256)),
        "words": words("g/words_embs", LENGTHS),
        "padding": captions("captions", LENGTHS)[:, :9] == 0,
        "eps": tensor("g/eps", (4, 100), 1.7),
        "features": ImageFeatures(
            regions=tensor("g/region_features", (4, 256, 17, 17)),
            code=tensor("g/cnn_code", (4, 256)),
            perceptual=texture,
        ),
    }


def parameter(key: str, shape: tuple[int, ...]) -> Tensor:
    """The value of a state_dict entry, from its published key and shape."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    values = unit(key, shape)
    if leaf == "running_var":
        values = 1.0 + 0.5 * values
    elif leaf == "running_mean" or leaf.startswith("bias"):
        values = 0.1 * values
    elif len(shape) == 1:
        values = 1.0 + 0.2 * values
    elif key == "encoder.weight":
        values = np.sqrt(3.0) * values
    else:
        values = np.sqrt(6.0 / float(np.prod(shape[1:]))) * values
        if key.startswith("emb_"):
            values = 0.1 * values
    return _double(values)


@torch.no_grad()
def fill(module: nn.Module, names: dict[str, str]) -> nn.Module:
    """Turn a module to float64 and set every parameter and buffer from its published name."""
    module.double()
    for key, value in module.state_dict().items():
        value.copy_(parameter(published_key(key, names), tuple(value.shape)))
    return module


def assert_golden(value: Tensor, file: str, name: str, tolerance: float = TOLERANCE, run: str = "f64") -> None:
    """Fail unless a result equals the stored one of a run in f64 or f32: relative l2 of samples, and statistics."""
    stored = _load(file)
    key = f"{run}:{name}"
    got = value.detach().double().numpy()
    flat = got.reshape(-1)
    if key in stored:
        _assert_close(flat, stored[key].reshape(-1), f"{file} {name}", tolerance)
    elif f"{key}|sub" in stored:
        assert got.shape == tuple(stored[f"{key}|shape"]), f"{file} {name}: shape {got.shape}"
        _assert_close(flat[:: int(stored[f"{key}|stride"])], stored[f"{key}|sub"], f"{file} {name}", tolerance)
        # The sum, and so the mean, may cancel to almost nothing: they are judged on the scale of the l1 norm.
        total, _, deviation, largest, l2 = stored[f"{key}|stats"]
        assert abs(flat.sum() - total) <= tolerance * np.abs(flat).sum(), f"{file} {name}: sum"
        statistics = np.array([flat.std(), np.abs(flat).max(), np.linalg.norm(flat)])
        _assert_close(statistics, np.array([deviation, largest, l2]), f"{file} {name} statistics", tolerance)
    else:
        stride = max(1, -(-flat.size // 64))
        _assert_close(flat[:: stride + 1 - stride % 2], stored[f"{key}|gsub"], f"{file} {name}", tolerance)
        _assert_close(np.linalg.norm(flat), stored[f"{key}|gnorm"], f"{file} {name} norm", tolerance)


def assert_golden_gradients(
    module: nn.Module, names: dict[str, str], file: str, prefix: str, tolerance: float = TOLERANCE
) -> None:
    """Compare the gradient of every trainable parameter with the stored one."""
    stored = {k for k in _load(file) if k.startswith(f"f64:{prefix}") and k.endswith("|gnorm")}
    for key, value in module.named_parameters():
        name = f"{prefix}{published_key(key, names)}"
        assert_golden(value.grad, file, name, tolerance)
        stored.discard(f"f64:{name}|gnorm")
    assert not stored, f"{file}: gradients nobody compared: {sorted(stored)}"


def stored_value(file: str, name: str, run: str = "f64") -> np.ndarray:
    """The stored array itself."""
    return _load(file)[f"{run}:{name}"]


def _assert_close(got: np.ndarray, wanted: np.ndarray, what: str, tolerance: float) -> None:
    error = np.linalg.norm(got - wanted) / max(np.linalg.norm(wanted), 1e-30)
    assert error <= tolerance, f"{what}: relative l2 error {error:.3g} > {tolerance:.3g}"


def _double(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values).astype(np.float32)).double()


@cache
def _load(file: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{file}.npz") as archive:
        return {key: archive[key] for key in archive.files}
