"""Shared fixtures: a few drawn birds, packed once, and tiny configurations that train in seconds."""

from __future__ import annotations

import atexit
import dataclasses
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: its kernels then run on the CPU
# What lies in a cache on this machine (verdicts of kernels, statistics for FID) says nothing in tests.
os.environ["TMGAN_CACHE"] = tempfile.mkdtemp(prefix="tmgan-tests-")
atexit.register(shutil.rmtree, os.environ["TMGAN_CACHE"], ignore_errors=True)
# A shell ignores Ctrl-C for what it starts in the background, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import DamsmConfig, TrainConfig
from tmgan.data.drawn.dataset import write_birds
from tmgan.data.pack import Pack
from tmgan.data.prepare import prepare
from tmgan.editing.editor import Editor
from tmgan.models.bundle import Encoders, build_encoders, build_generator, save_encoders, save_generator
from tmgan.models.layers import init_weights
from tmgan_kernels import _verdict

_verdict.SHIPPED = Path(os.environ["TMGAN_CACHE"]) / "shipped"  # nor does a verdict that comes with the package
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(scope="session")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CUB folder of 40 drawn birds."""
    folder = tmp_path_factory.mktemp("drawn") / "birds"
    write_birds(folder, count=40, seed=3, image_size=96)
    return folder


@pytest.fixture(scope="session")
def packed(birds: Path) -> Path:
    """The same birds, packed for 64-pixel images."""
    folder = birds.parent / "pack"
    prepare(birds, folder, image_size=64, workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def pack(packed: Path) -> Pack:
    return Pack.open(packed)


@pytest.fixture
def own(packed: Path, tmp_path: Path) -> Pack:
    """The same pack as a copy of one's own, to store masks in."""
    return Pack.open(shutil.copytree(packed, tmp_path / "pack"))


# Lightweight GAN with small networks, on half of the photos with another one's text.
SMALL = {
    "model": {"image_size": 64, "residual_blocks": 0, "keep_input": True},
    "encoder": {"kind": "small"},
    "method": {"mismatched_text_p": 0.5, "keep_mask": "dataset"},
    "loss": {"matching": 1.0, "kl": 0.0},
    "optim": {"lr_g": 2.0e-3, "lr_d": 1.0e-3, "ema_half_life": 2_000},
    "pretrain": {"lr": 5.0e-3, "dropout": 0.0},
}
TINY = {
    "images": 24,
    "batch": 4,
    "model": {"g_width": 4, "top_width": 4, "d_width": 4, "affine_dim": 4, "condition_dim": 8, "noise_dim": 4},
    "encoder": {"dim": 16, "word_dim": 12, "width": 4},
    "pretrain": {"images": 16, "batch": 4},
    "output": {"tick_images": 8, "sample_images": 16, "checkpoint_images": 8},
}


@pytest.fixture
def tiny(packed: Path, tmp_path: Path) -> TrainConfig:
    """A run of six steps on the packed birds."""
    config = configfile.merge(configfile.from_preset("lightweight"), SMALL, "small")
    config = configfile.merge(config, TINY, "tiny")
    return dataclasses.replace(config, data=str(packed), run=str(tmp_path / "run"))


@pytest.fixture
def tiny_editor(packed: Path, tmp_path: Path) -> TrainConfig:
    """The same with our own network and method: those of the quickstart."""
    config = configfile.merge(configfile.from_preset("quickstart"), TINY, "tiny")
    return dataclasses.replace(config, data=str(packed), run=str(tmp_path / "run"))


@pytest.fixture
def tiny_damsm(packed: Path, tmp_path: Path, tiny: TrainConfig) -> DamsmConfig:
    return DamsmConfig(
        data=str(packed),
        run=str(tmp_path / "encoders"),
        encoder=tiny.encoder,
        pretrain=tiny.pretrain,
        output=tiny.output,
    )


@pytest.fixture
def encoders(tiny: TrainConfig, pack: Pack) -> Encoders:
    """Untrained small encoders, frozen."""
    made = build_encoders(tiny.encoder, 64, pack.vocabulary, seed=1)
    for module in (made.text, made.photo):
        module.eval().requires_grad_(False)
    return made


@pytest.fixture
def editor(tiny: TrainConfig, encoders: Encoders) -> Editor:
    """An untrained editor."""
    generator = build_generator(tiny.model, encoders)
    init_weights(generator, torch.Generator().manual_seed(0))
    return Editor(generator, encoders, tiny, decide(tiny.runtime))


def write_run(folder: Path, config: TrainConfig, encoders: Encoders, seed: int = 0, images: int | None = None) -> Path:
    """A run folder with an untrained generator, as far as editing needs it; it says that it has seen all `images`."""
    folder.mkdir(parents=True)
    save_encoders(encoders, folder)
    generator = build_generator(config.model, encoders)
    init_weights(generator, torch.Generator().manual_seed(seed))
    save_generator(generator, config, encoders.vocabulary, folder, config.images if images is None else images)
    return folder


@pytest.fixture
def runs(tiny: TrainConfig, encoders: Encoders, tmp_path: Path) -> tuple[Path, Path]:
    """Two runs with the same encoders, on the same pack."""
    other = dataclasses.replace(tiny, seed=5, run="elsewhere", images=48)
    return write_run(tmp_path / "a", tiny, encoders), write_run(tmp_path / "b", other, encoders, seed=5)
