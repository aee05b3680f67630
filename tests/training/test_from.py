"""tmgan train --from RUN: what a run that goes on from another one begins with, keeps, and refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tmgan
from tests.conftest import write_run
from tests.data.data_folders import write_cub
from tests.training.test_train import StopAfter, assert_equal_states, latest, run_gan
from tmgan.cli import main
from tmgan.cli.parse import parse_run
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import DamsmConfig, TrainConfig
from tmgan.data.crops import centre_crops
from tmgan.data.given_words import GivenWords
from tmgan.data.prepare import prepare
from tmgan.editing.editor import load
from tmgan.models import bundle
from tmgan.models.layers import init_weights
from tmgan.training.build import build_discriminator
from tmgan.training.editor_task import EditorTask
from tmgan.training.jobs import train_editor
from tmgan.training.run_folder import RunFolder
from tmgan.training.start import discriminator_of, start_of


def parsed(*flags: object) -> TrainConfig:
    return parse_run(TrainConfig, [str(flag) for flag in flags], "train", preset=True)


@pytest.fixture
def short(tiny) -> TrainConfig:
    """`tiny` with three steps, a checkpoint after the second and the last one, and no pictures."""
    return dataclasses.replace(tiny, images=12, output=dataclasses.replace(tiny.output, sample_images=100))


@pytest.fixture
def trained(short, pack, encoders) -> Path:
    """The finished run."""
    run_gan(short, pack, encoders)
    return Path(short.run)


@pytest.fixture
def imported(tiny, encoders, tmp_path) -> Path:
    """What `tmgan import` writes, without a discriminator."""
    return as_import(tmp_path / "imported", dataclasses.replace(tiny, data="", run=""), encoders)


def as_import(folder: Path, config: TrainConfig, encoders: bundle.Encoders) -> Path:
    write_run(folder, config, encoders, seed=3)
    generator, _, _ = bundle.load_generator(folder, encoders)
    bundle.save_generator(generator, config, encoders.vocabulary, folder, None)
    (folder / "config.yaml").write_text(configfile.to_yaml(config))
    (folder / "run.json").write_text(json.dumps({"status": "imported", "images": None}))
    return folder


def some_discriminator(config: TrainConfig) -> dict[str, torch.Tensor]:
    network = build_discriminator(config.model, config.encoder.dim)
    init_weights(network, torch.Generator().manual_seed(8))
    return network.state_dict()


def first_state(config: TrainConfig, pack, encoders) -> EditorTask:
    start = start_of(config, Path(config.run))
    assert start is not None
    return EditorTask(config, pack, encoders, decide(config.runtime), start.weights)


def test_it_begins_with_the_averaged_generator_and_the_discriminator(trained, pack, encoders, tmp_path):
    task = first_state(parsed("--from", trained, "--run", tmp_path / "new", "--seed", 7), pack, encoders)
    state, before = task.state_dict(), latest(trained)["task"]
    for name in ("generator", "ema"):
        assert_equal_states(state[name], before["ema"])
    assert_equal_states(state["discriminator"], before["discriminator"])
    assert not state["adam_g"]["state"] and not state["adam_d"]["state"]
    images, texts = centre_crops(pack.tiles, pack.test[:2], 64), ["a red bird", "a blue bird"]
    assert torch.equal(task.editor.edit_tensors(images, texts).image, load(trained).edit_tensors(images, texts).image)


@pytest.mark.parametrize("architecture", ["editor", "manigan", "manigan-dcm"])
def test_an_import_of_every_network_is_trained_on(architecture, tiny, pack, encoders, packed, tmp_path):
    model = dataclasses.replace(tiny.model, architecture=architecture, keep_input=architecture == "editor")
    config = dataclasses.replace(tiny, model=model, preset="quickstart", data="", run="")
    source = as_import(tmp_path / "imported", config, encoders)
    weights = some_discriminator(config)
    bundle.save_discriminator(weights, model, source)
    new = parsed("--from", source, "--data", packed, "--run", tmp_path / "new", "--images", 4)
    task = first_state(new, pack, encoders)
    assert_equal_states(task.train_step.discriminator.state_dict(), weights)
    assert_equal_states(task.train_step.generator.state_dict(), load_file(source / bundle.GENERATOR))
    train_editor(new, evaluated=False)
    log = (tmp_path / "new" / "log.txt").read_text()
    assert f"Begins with the editor of {source} (sha256 " in log
    assert f") and the discriminator in {source / bundle.DISCRIMINATOR}." in log and "NOTE" not in log
    record = json.loads((tmp_path / "new" / "run.json").read_text())["from"]
    assert record["images"] is None and record["run"] == str(source)
    assert load(source).notes == [], "how far an import was trained is unknown, not unfinished"


def test_without_a_discriminator_a_new_one_is_noted(imported, packed, tmp_path):
    train_editor(parsed("--from", imported, "--data", packed, "--run", tmp_path / "new", "--images", 4), False)
    log = (tmp_path / "new" / "log.txt").read_text()
    assert f"NOTE: {imported} has no discriminator: this run begins with a new one" in log


def test_one_command_adds_a_method_and_records_what_it_began_with(trained, short, tmp_path, capsys):
    new = tmp_path / "new"
    main(["train", "--preset", "sad9", "--from", str(trained), "--run", str(new), "--images", "8", "--batch", "4"])
    config = configfile.read_yaml(new / "config.yaml", TrainConfig())
    blur = dataclasses.replace(short.method.blur, sizes=(9,))
    assert config == dataclasses.replace(
        short,
        preset="sad9",
        method=dataclasses.replace(short.method, blur=blur),
        from_=str(trained),
        run=str(new),
        images=8,
    )
    digest = bundle.hash_of(load(trained).generator)
    assert json.loads((new / "run.json").read_text())["from"] == {"run": str(trained), "images": 12, "sha256": digest}
    log = (new / "log.txt").read_text()
    assert (
        f"Begins with the editor of {trained}, after 12 images (sha256 {digest[:12]}) and the discriminator in its "
        "checkpoint of 12 images." in log
    )
    assert "method.blur.sizes [9] (there: [])" in log and "encoder.kind" not in log, "what differs from that run"
    assert "NOTE" not in log and "d_blurred" in (new / "stats.jsonl").read_text()
    assert (new / bundle.ENCODERS).read_bytes() == (trained / bundle.ENCODERS).read_bytes()
    assert not any(torch.equal(x, y) for x, y in weights_of(new, trained)), "it has learned"


def weights_of(*runs: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    one, other = (load_file(run / bundle.GENERATOR) for run in runs)
    return [(one[name], other[name]) for name in one if name.endswith("weight")]


def test_it_goes_on_to_the_same_bits_when_that_run_is_another_one_or_gone(trained, encoders, pack, tmp_path):
    def flags(name: str) -> tuple:
        return "--from", trained, "--preset", "sad9", "--seed", 4, "--run", tmp_path / name

    def again() -> TrainConfig:
        """What different ways to go on come to."""
        ways = [parsed(*flags("pieces")), parsed("--run", pieces), parsed("--config", pieces / "config.yaml")]
        assert ways == [begun] * 3 and tmgan.configure(run=pieces) == begun
        start = start_of(begun, pieces)
        assert start is not None and start.weights is start.record is None and not start.lines
        assert start.encoders.hash() == encoders.hash()
        return ways[1]

    train_editor(parsed(*flags("whole")), evaluated=False)
    begun, pieces = parsed(*flags("pieces")), tmp_path / "pieces"
    assert run_gan(begun, pack, encoders, StopAfter(2)) == "stopped"
    settings = dataclasses.replace(TrainConfig(), images=400, data=begun.data)
    (trained / "config.yaml").write_text(configfile.to_yaml(settings))
    for name in (bundle.GENERATOR, bundle.ENCODERS):
        (trained / name).write_bytes(b"not a safetensors file")
    again()
    shutil.rmtree(trained)
    train_editor(again(), evaluated=False)
    assert_equal_states(*(latest(tmp_path / name)["task"] for name in ("whole", "pieces")))
    assert "Begins with" not in (pieces / "log.txt").read_text()


def test_that_run_may_move_with_the_birds_that_it_drew(trained, short, packed, tmp_path):
    shutil.copytree(packed, trained / "drawn" / "pack")
    (trained / "config.yaml").write_text(configfile.to_yaml(dataclasses.replace(short, data="")))
    new = ("--run", tmp_path / "new")
    config = parsed("--from", trained, *new, "--images", 4)
    assert config.data == str(trained / "drawn" / "pack")
    train_editor(config, evaluated=False)
    first = json.loads((tmp_path / "new" / "run.json").read_text())
    shutil.move(trained, tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="If that run was moved, name its new place: --from RUN"):
        train_editor(parsed(*new, "--images", 8))
    config = parsed("--from", tmp_path / "elsewhere", *new, "--images", 8)
    assert config.data == str(tmp_path / "elsewhere" / "drawn" / "pack")
    train_editor(config, evaluated=False)
    second = json.loads((tmp_path / "new" / "run.json").read_text())
    assert (first["images"], second["images"]) == (4, 8)
    assert first["from"] == second["from"], "what it began with"


def test_that_run_then_preset_then_file_then_flag(trained, short, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"from: {trained}\nimages: 40\nloss: {{kl: 2.0}}\n")
    new = ("--run", tmp_path / "new")
    config = parsed("--from", trained, *new)
    assert config == dataclasses.replace(short, from_=str(trained), run=str(tmp_path / "new")), "its preset too"
    config = parsed("--config", file, "--preset", "nsl", "--loss.kl", 3, *new)
    assert (config.preset, config.method.sharpness.weight, config.method.keep_mask) == ("nsl", 1.0, "dataset")
    assert (config.images, config.loss.kl, config.batch) == (40, 3.0, short.batch)
    settings = {"from_": trained, "run": tmp_path / "new"}
    assert tmgan.configure("nsl", **settings, images=40, loss={"kl": 3.0}) == config
    assert tmgan.configure(**settings) == parsed("--from", trained, *new)
    assert parsed("--from", trained, "--data", "other", *new).data == "other"


def test_a_second_stage_is_trained_on_as_such(tiny, encoders, tmp_path):
    model = dataclasses.replace(tiny.model, architecture="manigan-dcm", keep_input=False)
    loss = dataclasses.replace(tiny.loss, difference=0.5)
    config = dataclasses.replace(tiny, model=model, loss=loss, preset="manigan-dcm", from_="first")
    source = as_import(tmp_path / "imported", config, encoders)
    plain, named = (parsed("--from", source, *preset) for preset in ((), ("--preset", "manigan-dcm")))
    assert plain.model == named.model == model and plain.preset == named.preset == "manigan-dcm"
    assert (plain.loss.difference, named.loss.difference) == (0.5, 1.0)


def test_an_imported_main_module_gets_a_second_stage(tiny, encoders, packed, tmp_path):
    model = dataclasses.replace(tiny.model, architecture="manigan", keep_input=False)
    source = as_import(tmp_path / "imported", dataclasses.replace(tiny, model=model, preset="manigan"), encoders)
    flags = ("--from", source, "--data", packed, "--preset", "manigan-dcm", "--run", tmp_path / "new")
    start = start_of(parsed(*flags), tmp_path / "new")
    assert start is not None and start.second_stage and start.notes == ()
    assert start.lines[0].startswith(f"Begins with the main module of {source} (sha256 ")


def test_what_does_not_go_together_is_refused(trained, tiny, imported, packed, tmp_path):
    new = ("--run", tmp_path / "new")

    def refused(message: str, *flags: object) -> None:
        with pytest.raises(ValueError, match=message):
            train_editor(parsed(*flags))

    refused("a run does not begin with itself", "--from", trained, "--run", trained)
    refused("a run does not begin with itself", "--from", trained, "--run", trained / ".." / "run")
    refused("--encoders is of no use with --from", "--from", trained, "--encoders", trained, *new)
    refused(r"another one: model.g_width 4 there, 8 here\. Leave", "--from", trained, "--model.g-width", 8, *new)
    refused("model.image_size 64 there, 128 here", "--from", trained, "--model.image-size", 128, *new)
    refused(
        r"Preset editor has another network than .*run: model.architecture editor, and lightweight there",
        *("--from", trained, "--preset", "editor", *new),
    )
    refused("holds no main module of ManiGAN", "--from", trained, "--preset", "manigan-dcm", *new)
    refused(r"imported has no photos of its own to train on: say which with --data", "--from", imported, *new)
    refused("is an import; train on with .*--from .*imported --run NEW", "--data", packed, "--run", imported)
    refused("There is no run folder nowhere", "--from", "nowhere", *new)
    refused("There is no preset 'sad'", "--from", trained, "--preset", "sad", *new)
    for text in ("5", "- a", "model: 5", "batch: 4", ""):
        (tmp_path / "odd").mkdir(exist_ok=True)
        (tmp_path / "odd" / "config.yaml").write_text(text)
        refused(r"odd/config.yaml|There is no run of `tmgan train` in .*odd", "--from", tmp_path / "odd", *new)
    assert start_of(parsed("--from", trained, "--model.attention", "published"), tmp_path / "new") is not None
    assert not (tmp_path / "new").exists()
    for record in (None, "", "{"):  # whatever becomes of run.json
        if record is not None:
            (imported / "run.json").write_text(record)
        with pytest.raises(ValueError, match="is an import; train on with"):
            RunFolder(imported, tiny, 3)
    assert not (imported / "samples").exists()


def test_the_attention_of_manigan_is_refused_for_it_has_weights(tiny, encoders, packed, tmp_path):
    model = dataclasses.replace(tiny.model, architecture="manigan", keep_input=False)
    source = as_import(tmp_path / "imported", dataclasses.replace(tiny, model=model), encoders)
    with pytest.raises(ValueError, match="model.attention own there, published here"):
        start_of(parsed("--from", source, "--data", packed, "--model.attention", "published"), tmp_path / "new")


def test_damaged_and_unfinished_runs(trained, imported, short, pack, encoders, packed, tmp_path):
    new = tmp_path / "new"

    def refused(message: str, source: Path) -> None:
        with pytest.raises(ValueError, match=message):
            train_editor(parsed("--from", source, "--data", packed, "--run", new))

    bundle.save_discriminator(some_discriminator(short), short.model, imported)
    path = imported / bundle.DISCRIMINATOR
    path.write_bytes(path.read_bytes()[:-4])
    refused(r"discriminator.safetensors is damaged or was not written by tmgan .* Import its file again", imported)
    wider = dataclasses.replace(short, model=dataclasses.replace(short.model, d_width=8))
    bundle.save_discriminator(some_discriminator(wider), wider.model, imported)
    refused(r"does not fit the settings of its run \(\S+ is \(1, 64, 4, 4\), expected \(1, 32, 4, 4\)\)", imported)
    (trained / bundle.GENERATOR).write_bytes(b"damaged")
    refused("generator.safetensors is damaged", trained)
    (trained / bundle.GENERATOR).unlink()
    refused("holds no generator.safetensors: it has not reached its first checkpoint", trained)
    (trained / "config.yaml").write_text(configfile.to_yaml(DamsmConfig()))
    refused("it has no config.yaml with the settings of one. What it holds are encoders, for --encoders", trained)
    half = dataclasses.replace(short, run=str(tmp_path / "half"))
    run_gan(half, pack, encoders, StopAfter(2))
    refused("half the editor is unfinished: it has seen 8 of 12 images.* --allow-unfinished", Path(half.run))
    assert not new.exists()
    train_editor(parsed("--from", half.run, "--run", new, "--images", 4, "--allow-unfinished"), evaluated=False)
    assert "NOTE: the editor is unfinished: it has seen 8 of 12 images." in (new / "log.txt").read_text()


def test_the_discriminator_of_the_newest_checkpoint_that_can_be_read(trained, tiny):
    said: list[str] = []
    newest, before, *_ = sorted((trained / "checkpoints").glob("*.pt"), reverse=True)
    expected = torch.load(before, weights_only=True)["task"]["discriminator"]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert_equal_states(discriminator_of(trained, said.append) or {}, expected)
    assert len(said) == 1 and f"WARNING: {newest} is damaged" in said[0]
    for path in (trained / "checkpoints").glob("*.pt"):
        path.write_bytes(b"")
    assert discriminator_of(trained, said.append) is None
    weights = some_discriminator(tiny)
    bundle.save_discriminator(weights, tiny.model, trained)
    assert_equal_states(discriminator_of(trained, said.append) or {}, weights)


def test_a_pack_that_does_not_fit_is_refused(imported, tiny, encoders, tmp_path):
    """It has other words, and no masks, which a network that blends its edit with the photo learns from."""
    prepare(write_cub(tmp_path / "photos", count=10), tmp_path / "pack", image_size=64, workers=1, progress=False)
    where = ("--data", tmp_path / "pack", "--run", tmp_path / "new")
    known = GivenWords(encoders.vocabulary, imported)
    prepare(tmp_path / "photos", tmp_path / "known", image_size=64, workers=1, progress=False, vocabulary=known)
    with pytest.raises(ValueError, match=r"has no masks. Prepare it .* use --method.keep-mask fcn\.$"):
        train_editor(parsed("--from", imported, *where[2:], "--data", tmp_path / "known"))
    model = dataclasses.replace(tiny.model, keep_input=False)
    plain = as_import(tmp_path / "plain", dataclasses.replace(tiny, model=model), encoders)
    with pytest.raises(ValueError, match=r"tmgan data prepare \S+ PACK --vocabulary \S+plain\n"):
        train_editor(parsed("--from", plain, *where, "--method.keep-mask", "none"))
    small = dataclasses.replace(tiny, model=dataclasses.replace(model, image_size=128))
    other = as_import(tmp_path / "other", small, encoders)
    with pytest.raises(ValueError, match=r"PACK --image-size 128 --vocabulary \S+other\n"):
        train_editor(parsed("--from", other, *where, "--method.keep-mask", "none"))


def test_a_run_began_with_another_one_or_with_none(trained, tiny, pack, encoders, tmp_path):
    other = dataclasses.replace(tiny, run=str(tmp_path / "other"))
    run_gan(other, pack, encoders, StopAfter(1))
    with pytest.raises(ValueError, match=r"other settings:\n  from: none in the run, .*/run now"):
        train_editor(parsed("--from", trained, "--run", other.run))
    train_editor(parsed("--from", trained, "--run", tmp_path / "new", "--images", 4), evaluated=False)
    config = configfile.read_yaml(tmp_path / "new" / "config.yaml", TrainConfig())
    with pytest.raises(ValueError, match=r"from: .*/run in the run, none now"):
        run_gan(dataclasses.replace(config, from_="", images=8), pack, encoders)
