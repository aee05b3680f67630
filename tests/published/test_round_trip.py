"""Train, `tmgan export --published`, `tmgan import`, edit: the picture is the same to the bit."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tmgan.cli import main
from tmgan.config.settings import EncoderConfig
from tmgan.data.pack import Pack
from tmgan.editing.editor import load
from tmgan.models import bundle, weights
from tmgan.training import jobs
from tmgan.training.editor_task import EditorTask

TEXT = "a bird with a red head and white wings"
# Losses by large networks would only take time.
SMALL = ["--model.g-width", "4", "--model.d-width", "4", "--loss.matching", "0", "--loss.perceptual", "0"]
CPU = ["--runtime.device", "cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A folder with a `pack` of drawn birds, `encoders` of random numbers, and VGG's `weights` that are theirs.

    What a run draws and measures is not asked for here: it would take most of the time.
    """
    folder = tmp_path_factory.mktemp("round")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EditorTask, "draw", lambda self, path: Image.new("RGB", (8, 8)).save(path))
        patch.setattr(EditorTask, "measure", lambda self, images: {})
        patch.setattr(jobs, "_finish", lambda *_: None)
        main(["data", "synth", str(folder / "birds"), "--count", "6", "--image-size", "304"])
        main(["data", "prepare", str(folder / "birds"), str(folder / "pack")])
        encoders = bundle.build_encoders(EncoderConfig(), 256, Pack.open(folder / "pack").vocabulary, seed=0)
        (folder / "encoders").mkdir()
        bundle.save_encoders(encoders, folder / "encoders")
        perceptor = encoders.photo.perceptor
        assert perceptor is not None
        file = folder / "vgg16.pth"
        torch.save({f"features.{k}": v for k, v in perceptor.layers.state_dict().items()}, file)
        name = f"vgg16-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
        (folder / "weights").mkdir()
        file.rename(folder / "weights" / name)
        patch.setitem(weights.KNOWN, "vgg16", dataclasses.replace(weights.KNOWN["vgg16"], name=name, sha256=""))
        yield folder


def edited(run: Path, photo: Path) -> np.ndarray:
    return np.asarray(load(run).edit(photo, TEXT))


def same_after_the_way_through_files(made: Path, run: Path) -> None:
    photo = sorted((made / "birds").rglob("*.jpg"))[0]
    before = edited(run, photo)
    assert before.std() > 1
    exported = run.parent / f"{run.name}-exported"
    main(["export", str(run), "--published", "--out", str(exported)])
    again = run.parent / f"{run.name}-imported"
    main(["import", *map(str, exported.iterdir()), "--out", str(again), "--weights-dir", str(made / "weights")])
    assert np.array_equal(edited(again, photo), before)


def train(made: Path, run: Path, *arguments: str) -> Path:
    steps = ["--images", "2", "--batch", "2", *CPU]
    main(["train", "--data", str(made / "pack"), "--run", str(run), *steps, *arguments])
    return run


@pytest.mark.parametrize("preset", ["lightweight", "manigan"])
def test_the_picture_is_the_same_to_the_bit(made, tmp_path, preset):
    encoders = ["--encoders", str(made / "encoders")]
    run = train(made, tmp_path / preset, "--preset", preset, *encoders, *SMALL)
    same_after_the_way_through_files(made, run)


@pytest.mark.slow
def test_the_picture_of_the_second_stage_is_the_same_to_the_bit(made, tmp_path):
    encoders = ["--encoders", str(made / "encoders")]
    first = train(made, tmp_path / "first", "--preset", "manigan", *encoders, *SMALL)
    run = train(made, tmp_path / "second", "--preset", "manigan-dcm", "--from", str(first))
    same_after_the_way_through_files(made, run)
