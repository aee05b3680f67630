"""COCO from its files to an edited photo, and the presets with its published dimensions."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tmgan.cli import main
from tmgan.config import configfile
from tmgan.config.settings import EncoderConfig
from tmgan.data.pack import Pack
from tmgan.data.sources.read import read_source
from tmgan.editing.editor import load
from tmgan.models.bundle import build_generator
from tmgan.training.build import build_discriminator

TINY = {
    "images": 12,
    "batch": 4,
    "model": {"image_size": 64, "g_width": 4, "d_width": 4, "affine_dim": 4, "condition_dim": 8, "noise_dim": 4},
    "encoder": {"kind": "small", "dim": 16, "word_dim": 12, "width": 4},
    "pretrain": {"images": 8, "batch": 4, "hard_negatives": 0},
    "output": {"tick_images": 4, "sample_images": 12, "checkpoint_images": 12},
    "runtime": {"device": "cpu", "threads": 1},
}
ONE_THREAD = ["--runtime.device", "cpu", "--runtime.threads", "1"]


def write_as_coco(birds: Path, folder: Path) -> Path:
    """The drawn birds in COCO's layout of 2014, four to six captions each."""
    images: dict[str, list[dict]] = {"train2014": [], "val2014": []}
    annotations: dict[str, list[dict]] = {"train2014": [], "val2014": []}
    for number, item in enumerate(read_source(birds).items):
        split = "train2014" if item.split == "train" else "val2014"
        name = f"COCO_{split}_{number:012d}.jpg"
        (folder / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(item.image, folder / split / name)
        images[split].append({"id": number, "file_name": name})
        annotations[split] += [{"image_id": number, "caption": text} for text in item.captions[: 4 + number % 3]]
    (folder / "annotations").mkdir()
    for split in images:
        file = folder / "annotations" / f"captions_{split}.json"
        file.write_text(json.dumps({"images": images[split], "annotations": annotations[split]}))
    return folder


@pytest.fixture
def threads():
    """What a run sets for the whole process is as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_prepare_damsm_train_edit(birds, tmp_path, capsys, threads):
    folder = write_as_coco(birds, tmp_path / "coco")
    pack, encoders, run = (str(tmp_path / name) for name in ("pack", "encoders", "run"))
    main(["data", "doctor", str(folder)])
    assert "would make a pack of 40 images, 34 for training and 6 for testing" in capsys.readouterr().out
    main(["data", "prepare", str(folder), pack, "--image-size", "64", "--workers", "1"])
    packed = Pack.open(pack)
    assert packed.header["kind"] == "coco" and sorted(set(packed.first.diff().tolist())) == [4, 5, 6]
    assert len(set(packed.class_ids.tolist())) == 40 and int(packed.lengths.max()) > 12

    settings = tmp_path / "tiny.yaml"
    settings.write_text(yaml.safe_dump({"preset": "lightweight-coco", **TINY}))
    damsm = tmp_path / "damsm.yaml"
    keys = ("encoder", "pretrain", "runtime")
    damsm.write_text(yaml.safe_dump({key: TINY[key] for key in keys} | {"text": {"words": 15}}))
    main(["damsm", "--config", str(damsm), "--data", pack, "--run", encoders])
    main(["train", "--config", str(settings), "--data", pack, "--encoders", encoders, "--run", run])
    rows = [json.loads(line) for line in (Path(run) / "stats.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [4, 8, 12] and all(math.isfinite(v) for row in rows for v in row.values())
    config = load(Path(run)).config
    assert (config.text.words, config.model.residual_blocks, config.preset) == (12, 3, "lightweight-coco")

    photo, edited = next((folder / "val2014").iterdir()), tmp_path / "edited.png"
    main(["edit", run, str(photo), "--text", "a bird with a red head", "--out", str(edited), *ONE_THREAD])
    before, after = (np.array(Image.open(file).convert("RGB")).astype(int) for file in (photo, edited))
    assert after.shape == before.shape and np.abs(after - before).mean() > 1


def conv(inputs: int, outputs: int, edge: int = 3) -> int:
    return inputs * outputs * edge * edge


def published_generator(width: int, blocks: int) -> int:
    """Parameters of the published Lightweight GAN, layer by layer."""

    def stage(channels: int, edge: int) -> int:
        attention = conv(256, channels, 1) + conv(256, edge * edge, 1)
        residual = conv(3 * channels, 6 * channels) + conv(3 * channels, 3 * channels)
        return attention + blocks * residual + affine(3 * channels)

    def affine(channels: int) -> int:
        return conv(width, 128) + 2 * conv(128, channels)

    sentence = 256 * 400 + 400 + 456 * 512 * width + 2 * 512 * width
    first = sum(conv(channels, channels) for channels in (16 * width, 8 * width, 4 * width))
    stages = stage(2 * width, 32) + conv(6 * width, 2 * width) + stage(width, 64) + conv(3 * width, 2 * width)
    photo = conv(256, 2 * width) + conv(128, width, 4) + 2 * width + 2 * conv(width, 2 * width)
    return sentence + first + stages + conv(width, 2 * width) + photo + affine(width) + conv(width, 3)


def published_discriminator(width: int) -> int:
    """Parameters of the published discriminator of 256 pixels, layer by layer."""

    def normed(inputs: int, outputs: int, edge: int) -> int:
        return conv(inputs, outputs, edge) + 2 * outputs

    down = sum(normed(width * 2**level, width * 2 ** (level + 1), 4) for level in range(5))
    up = normed(32 * width, 16 * width, 3) + normed(16 * width, 8 * width, 3)
    heads = normed(8 * width + 256, 8 * width, 3) + 2 * (conv(8 * width, 1, 4) + 1)
    return conv(3, width, 4) + down + up + heads


@pytest.mark.parametrize(
    ("name", "width", "d_width", "blocks"), [("lightweight", 32, 64, 2), ("lightweight-coco", 48, 96, 3)]
)
def test_the_networks_of_the_presets_have_the_published_sizes(name, width, d_width, blocks):
    encoders = SimpleNamespace(config=EncoderConfig(), photo=SimpleNamespace(perceptual_dim=128))
    model = configfile.from_preset(name).model
    with torch.device("meta"):
        networks = build_generator(model, encoders), build_discriminator(model, 256)
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == [published_generator(width, blocks), published_discriminator(d_width)]


@pytest.mark.parametrize(("name", "published"), [("lightweight-coco", 20), ("manigan-coco", 32)])
def test_the_presets_train_as_published(name, published):
    config, birds = configfile.from_preset(name), configfile.from_preset(name.removesuffix("-coco"))
    assert config.images == 120 * 82_783 and config.batch == published and config.text.words == 12
    assert config.optim.ema_half_life == pytest.approx(published * math.log(0.5) / math.log(0.999), rel=0.02)
    changed = configfile.differences(configfile.to_dict(birds), configfile.to_dict(config))
    assert set(changed) - {"batch", "optim.ema_half_life"} == {
        "preset",
        "images",
        "model.g_width",
        "model.d_width",
        "model.residual_blocks",
        "text.words",
    }
    model = config.model
    assert (model.g_width, model.d_width, model.residual_blocks) == (48, 96, 3)
