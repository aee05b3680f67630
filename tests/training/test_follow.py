"""What a run takes from its data where nobody says otherwise, and that who says otherwise is obeyed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import tmgan
from tests.data.data_folders import write_cub
from tmgan.cli.parse import parse_run
from tmgan.config import configfile
from tmgan.config.settings import DamsmConfig, TrainConfig
from tmgan.data.masks import find_masks
from tmgan.data.prepare import prepare
from tmgan.models import weights
from tmgan.training import follow
from tmgan.training.jobs import train_editor


class Stub:
    """A provider that finds the object in the left half."""

    def __init__(self, name: str):
        self.name, self.about = name, {"weights": "left"}

    def __call__(self, images, texts, span=1.0):
        masks = images[:, :1] * 0
        masks[..., : images.shape[-1] // 2] = 1
        return masks


@pytest.fixture
def photographs(tmp_path) -> Path:
    """A pack of photographs, 128 pixels, without masks; captions name colours."""
    source = write_cub(tmp_path / "photos", count=10)
    for path in (source / "text").rglob("*.txt"):
        path.write_text("a red bird\n")
    prepare(source, tmp_path / "pack", image_size=128, workers=1, progress=False)
    return tmp_path / "pack"


def train(*flags: str) -> TrainConfig:
    return parse_run(TrainConfig, [str(flag) for flag in flags], "train", preset=True)


def test_drawn_birds_get_quickstart(packed):
    config = train("--data", packed)
    assert config == dataclasses.replace(configfile.from_preset("quickstart"), data=str(packed))


def test_a_preset_of_photographs_is_fitted_to_drawn_birds(packed, capsys):
    config, paper, quick = (
        train("--data", packed, "--preset", "sad9"),
        *map(configfile.from_preset, ("sad9", "quickstart")),
    )
    assert config.model == dataclasses.replace(paper.model, image_size=64) and config.method == paper.method
    assert config.encoder == quick.encoder and config.pretrain.images == quick.pretrain.images
    assert config.pretrain.hard_negatives == paper.pretrain.hard_negatives == 0, "a part of the method"
    said = capsys.readouterr().out
    assert f"model.image_size 64: that of {packed}" in said and "encoder.kind small" in said
    assert train("--data", packed, "--preset", "sad9", "--encoders", "x").encoder.kind == "inception"


def test_who_says_otherwise_is_obeyed(packed, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(f"data: {packed}\nmodel: {{image_size: 128}}\n")
    assert train("--config", file).model.image_size == 128
    assert train("--data", packed, "--preset", "sad9", "--model.image-size", "256").model.image_size == 256
    assert tmgan.configure("sad9", data=packed, encoder={"kind": "inception"}).encoder.kind == "inception"
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "image_size" in line] == [f"model.image_size 64: that of {packed}."]  # of the last
    assert len([line for line in said if "encoder.kind small" in line]) == 1, "of the one before"


def test_photographs_by_what_is_known_of_them(photographs, monkeypatch, capsys):
    monkeypatch.setattr(weights, "find", lambda name, *rest: Path("x") if name == "efficientnet" else None)
    config = train("--data", photographs)
    assert (config.preset, config.model.image_size, config.encoder.kind) == ("lightweight", 128, "efficientnet")
    assert config.pretrain.recolour == 0 and "has no masks of the objects" in capsys.readouterr().out
    monkeypatch.setattr(weights, "find", lambda *rest: None)
    assert train("--data", photographs).encoder.kind == "inception", "as before: refused, with what to do"
    find_masks(photographs, Stub("fcn"))
    config = train("--data", photographs)
    assert (config.preset, config.method.keep_mask, config.model.image_size) == ("editor", "fcn", 128)
    assert "method.keep_mask fcn" in capsys.readouterr().out
    record = photographs / "masks-fcn.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "pack": "another"}))
    assert train("--data", photographs).preset == "lightweight", "damaged masks are none"


def test_captions_without_colours_are_not_restored_by_them(photographs, monkeypatch):
    monkeypatch.setattr(follow, "COLOUR_WORDS", {})
    find_masks(photographs, Stub("fcn"))
    assert train("--data", photographs).preset == "lightweight"


def test_a_run_keeps_what_it_began_with(tiny_editor, packed, tmp_path):
    """Masks that came later, or a choice that changes with the version, are no reason to refuse the same command."""
    begun = dataclasses.replace(tiny_editor, preset="editor", images=4, data=str(packed))
    train_editor(begun, evaluated=False)
    config = train("--data", packed, "--run", begun.run)
    assert (config.preset, config.encoder, config.pretrain) == ("editor", begun.encoder, begun.pretrain)
    assert config.model.image_size == 64 and config.method.keep_mask == "dataset"
    assert train("--data", packed, "--run", begun.run, "--preset", "sad9").preset == "sad9"
    shutil.rmtree(Path(begun.run) / "checkpoints")
    shutil.rmtree(Path(begun.run) / "encoders")
    assert train("--data", packed, "--run", begun.run).preset == "quickstart"


def test_encoders_of_drawn_birds_are_small(packed, photographs, capsys):
    def damsm(*flags: str | Path) -> DamsmConfig:
        return parse_run(DamsmConfig, [str(flag) for flag in flags], "damsm", preset=False)

    quick = configfile.from_preset("quickstart")
    config = damsm("--data", packed)
    assert (config.encoder, config.pretrain) == (quick.encoder, quick.pretrain)
    assert "--encoder.kind" in capsys.readouterr().out
    assert damsm("--data", packed, "--encoder.kind", "inception").encoder.kind == "inception"
    assert damsm("--data", photographs) == DamsmConfig(data=str(photographs))


def test_masks_of_ones_own_provider(photographs, monkeypatch):
    find_masks(photographs, Stub("own"))
    config = tmgan.configure("editor", data=photographs, method={"keep_mask": "own"})
    assert config.method.stored_masks == "own"
    with pytest.raises(ValueError, match=r"tmgan.find_masks\('.*other', PROVIDER\)"):
        other = photographs.with_name("other")
        shutil.copytree(photographs, other)
        (other / "masks-own.u8").unlink()
        train_editor(dataclasses.replace(config, data=str(other), run=str(photographs.parent / "run")))


def test_help_needs_no_pack(capsys):
    with pytest.raises(SystemExit) as stop:
        train("--data", "nowhere", "--help")
    assert stop.value.code == 0


def test_settings_that_do_not_exist_are_named(packed):
    with pytest.raises(ValueError, match="Did you mean 'image_size'"):
        tmgan.configure(data=packed, model={"image_sise": 64})
    with pytest.raises(ValueError, match="is not a pack"):
        tmgan.configure(data="nowhere")


@pytest.mark.parametrize(
    "name, about, message",
    [
        ("a/b", {}, "name is 'a/b'"),
        ("dataset", {}, 'use "own"'),
        ("own", {"edge": {1}}, "`about` is stored with its masks"),
    ],
)
def test_a_provider_whose_masks_cannot_be_stored_is_refused_at_once(photographs, name, about, message):
    provider = Stub(name)
    provider.about = about
    with pytest.raises(ValueError, match=message):
        find_masks(photographs, provider)
    assert not [*photographs.glob("masks-*")]


def test_the_default_folder_is_that_of_its_own_pack_only(tiny_editor, packed, photographs, tmp_path, monkeypatch):
    """A run of other data there says nothing about this pack; one of this pack says all."""
    monkeypatch.chdir(tmp_path)
    find_masks(photographs, Stub("fcn"))
    begun = dataclasses.replace(tiny_editor, preset="editor", run="runs/editor", images=4, data=str(packed))
    train_editor(begun, evaluated=False)
    assert train("--data", photographs).model.image_size == 128
    assert train("--data", packed).preset == "editor" and train("--data", packed).encoder == begun.encoder


def test_encoders_of_a_kind_that_is_named_take_nothing_from_the_pack(packed):
    paper = configfile.from_preset("sad9")
    config = tmgan.configure("sad9", data=packed, encoder={"kind": "small"})
    assert config.encoder == dataclasses.replace(paper.encoder, kind="small") and config.pretrain == paper.pretrain
    assert train("--preset", "sad9", "--data", packed, "--encoder.kind=small").pretrain == paper.pretrain
    quick = configfile.from_preset("quickstart")
    assert tmgan.configure_encoders(data=packed) == DamsmConfig(
        data=str(packed), encoder=quick.encoder, pretrain=quick.pretrain
    )
    assert tmgan.configure_encoders(data=packed, encoder={"kind": "small"}).pretrain == DamsmConfig().pretrain


def test_a_flag_without_its_value_is_refused_by_its_command(capsys):
    with pytest.raises(SystemExit):
        train("--data")
    assert "tmgan train --help" in "".join(capsys.readouterr())
