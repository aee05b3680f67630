"""ManiGAN from the first command to an edit: both stages, killed and resumed, and what is refused on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.training import steps
from tests.training.test_train import StopAfter, assert_equal_states, latest, run_gan
from tmgan.cli import main
from tmgan.cli.parse import parse_run
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import TrainConfig
from tmgan.editing.editor import load
from tmgan.evaluation.evaluate import baselines
from tmgan.models import bundle
from tmgan.training.build import FirstWeights, build_step
from tmgan.training.editor_task import EditorTask
from tmgan.training.jobs import train_editor
from tmgan.training.signs import SIGNS

NAMES = {"d", "d_16", "d_32", "g_adv", "words", "sentence", "perceptual", "kl"}


@pytest.fixture
def first(tiny: TrainConfig) -> TrainConfig:
    """A run of the main module, as small as `tiny`."""
    settings = configfile.to_dict(tiny) | {"preset": "manigan"}
    settings["model"] |= {"keep_input": False, "architecture": "manigan"}
    settings["method"] |= {"keep_mask": "none"}
    return configfile.merge(TrainConfig(), settings, "test")


@pytest.fixture
def second(first, pack, encoders) -> TrainConfig:
    """A run of the second stage, from a finished run of the first."""
    run_gan(first, pack, encoders)
    return second_of(first)


def second_of(first: TrainConfig) -> TrainConfig:
    config = configfile.from_preset("manigan-dcm", configfile.settings_of(first.run))
    return dataclasses.replace(config, run=f"{first.run}-dcm")


def test_prepare_train_kill_train_again_second_stage_evaluate_edit(first, birds, tmp_path, capsys):
    settings = tmp_path / "main.yaml"
    settings.write_text(yaml.safe_dump(configfile.to_dict(dataclasses.replace(first, images=10**6))))
    command = ["train", "--config", str(settings)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tmgan", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("  colour_accuracy"))  # measured; now it is saved
    next(line for line in process.stdout if "g_adv" in line)
    process.kill()
    process.communicate()
    run = Path(first.run)
    saved = latest(run)["images"]
    assert json.loads((run / "run.json").read_text())["status"] == "running" and saved > 0
    main([*command, "--images", str(saved + 8)])
    out = capsys.readouterr().out
    assert f"Resuming {run} at {saved:,} of" in out
    assert f"tmgan train --preset manigan-dcm --from {run} --run {run}-dcm" in out, "what comes next"
    assert re.search(rf"tmgan edit {run} {birds}/\S+\.jpg --text", out), "with a photo of this very set"

    corrected = tmp_path / "corrected"
    main(["train", "--preset", "manigan-dcm", "--from", str(run), "--run", str(corrected), "--images", "16"])
    rows = [json.loads(line) for line in (corrected / "stats.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] == 16 and rows[-1]["difference"] > 0 and not {"perceptual", "kl"} & rows[-1].keys()
    record = json.loads((corrected / "run.json").read_text())["from"]
    assert record == {"run": str(run), "images": saved + 8, "sha256": bundle.hash_of(load(run).generator)}
    before, after = (load_file(folder / bundle.GENERATOR) for folder in (run, corrected))
    assert_equal_states(before, {k.removeprefix("main."): v for k, v in after.items() if k.startswith("main.")})

    main(["evaluate", str(corrected), "--count", "4", "--metrics", "sharpness", "--json", str(tmp_path / "e.json")])
    assert "sharpness" in (tmp_path / "e.json").read_text()
    photo = next(birds.rglob("*.jpg"))
    main(["edit", str(corrected), str(photo), "--text", "a bird with a red head", "--out", str(tmp_path / "e.png")])
    assert Image.open(tmp_path / "e.png").size == Image.open(photo).size


def test_the_second_stage_resumes_to_the_same_bits_and_keeps_its_main_module_once(second, pack, encoders):
    run_gan(second, pack, encoders)
    pieces = dataclasses.replace(second, run=f"{second.run}-pieces")
    assert [run_gan(pieces, pack, encoders, StopAfter(k)) for k in (3, 10**9)] == ["stopped", "done"]
    state = latest(Path(second.run))["task"]
    assert_equal_states(state, latest(Path(pieces.run))["task"])
    live, average = (state[name]["main.start.weight"] for name in ("generator", "ema"))
    assert live.data_ptr() == average.data_ptr()


def test_a_second_stage_keeps_the_main_module_that_it_began_with(second, pack, encoders):
    run_gan(dataclasses.replace(second, run=f"{second.run}-whole"), pack, encoders)
    run_gan(second, pack, encoders, StopAfter(1))
    path = Path(second.from_) / bundle.GENERATOR
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    save_file({name: x + 1 for name, x in load_file(path).items()}, path, about)
    run_gan(second, pack, encoders)
    log = (Path(second.run) / "log.txt").read_text()
    assert "is another one by now; this run goes on with the one that it began with" in log
    assert_equal_states(*(load_file(Path(run) / bundle.GENERATOR) for run in (second.run, f"{second.run}-whole")))


def test_a_refusal_leaves_the_record_of_a_run(second, pack, encoders, tmp_path):
    bundle.save_encoders(encoders, Path(second.from_))
    run_gan(second, pack, encoders)
    record = (Path(second.run) / "run.json").read_text()
    other = bundle.build_encoders(encoders.config, 64, pack.vocabulary, seed=5)
    bundle.save_encoders(other, Path(second.from_))
    with pytest.raises(ValueError, match="another pair of encoders"):
        train_editor(second)
    assert (Path(second.run) / "run.json").read_text() == record


def test_settings_start_from_those_of_the_first_stage(second, first):
    assert second.model == dataclasses.replace(first.model, architecture="manigan-dcm")
    assert (second.data, second.batch, second.text, second.encoder) == (
        first.data,
        first.batch,
        first.text,
        first.encoder,
    )
    assert (second.from_, second.encoders) == (first.run, "")
    text = configfile.to_yaml(second)
    assert yaml.safe_load(text)["from"] == first.run
    assert configfile.merge(TrainConfig(), yaml.safe_load(text), "test") == second


def test_run_then_preset_then_file_then_flag(first, second, tmp_path):
    """Two first stages A and B, a file that goes on from A, and flags."""
    other = dataclasses.replace(first, run=str(tmp_path / "b"), batch=2, images=30, allow_unfinished=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.yaml").write_text(configfile.to_yaml(other))
    file = tmp_path / "file.yaml"
    file.write_text(f"preset: manigan-dcm\nfrom: {first.run}\nimages: 40\n")

    def parsed(*flags: str) -> TrainConfig:
        return parse_run(TrainConfig, ["--config", str(file), *flags], "train", preset=True)

    assert (parsed().from_, parsed().batch, parsed().images) == (first.run, first.batch, 40)
    by_flag = parsed("--from", other.run, "--loss.kl", "3")
    assert (by_flag.from_, by_flag.batch, by_flag.images, by_flag.loss.kl) == (other.run, 2, 40, 3.0)
    assert by_flag.loss.difference == 1.0 and not by_flag.allow_unfinished
    (tmp_path / "b" / "config.yaml").write_text(configfile.to_yaml(configfile.from_preset("quickstart")))
    with pytest.raises(ValueError, match=r"b holds no main module of ManiGAN: its model.architecture is editor"):
        parsed("--from", other.run)


def test_a_note_says_that_the_first_stage_is_unfinished(first, pack, encoders, tmp_path):
    run_gan(first, pack, encoders, StopAfter(2))
    with pytest.raises(ValueError, match="--allow-unfinished"):
        train_editor(second_of(first))
    train_editor(dataclasses.replace(second_of(first), allow_unfinished=True, images=4), evaluated=False)
    assert (
        "NOTE: the main module is unfinished: it has seen 8 of 24 images." in (tmp_path / "run-dcm/log.txt").read_text()
    )


def test_the_baseline_of_a_second_stage_is_its_main_module_with_an_untrained_correction(second, pack, encoders):
    run_gan(dataclasses.replace(second, images=4), pack, encoders)
    editor = load(second.run)
    untrained = baselines(editor)["untrained"].generator
    assert_equal_states(untrained.main.state_dict(), editor.generator.main.state_dict())
    first = FirstWeights(editor.generator.main)
    begin = EditorTask(second, pack, encoders, decide(second.runtime), first).train_step.generator
    assert_equal_states(untrained.correction.state_dict(), begin.correction.state_dict())


def test_what_does_not_fit_a_second_stage_is_refused(first, pack, encoders, second, tmp_path):
    bundle.save_encoders(encoders, Path(first.run))
    wrong = tmp_path / "wrong"
    with pytest.raises(ValueError, match=r"needs a finished main module, --from RUN"):
        train_editor(dataclasses.replace(second, from_="", run=str(wrong)))
    with pytest.raises(ValueError, match=r"--encoders is of no use with --from"):
        train_editor(dataclasses.replace(second, encoders=first.run, run=str(wrong)))
    wider = dataclasses.replace(second.model, g_width=8)
    with pytest.raises(ValueError, match=r"model.g_width 4 there, 8 here"):
        train_editor(dataclasses.replace(second, model=wider, run=str(wrong)))
    started = tmp_path / "started"
    started.mkdir()
    with pytest.raises(
        ValueError, match=r"started holds no generator.safetensors: it has not reached its first checkpoint, or"
    ):
        train_editor(dataclasses.replace(second, from_=str(started), run=str(wrong)))
    run_gan(second, pack, encoders, StopAfter(1))
    bundle.save_encoders(encoders, Path(second.run))
    with pytest.raises(ValueError, match=r"In .*-dcm the editor is unfinished: it has seen 4 of 24 images"):
        train_editor(dataclasses.replace(second, from_=second.run, run=str(wrong)))
    config = dataclasses.replace(first, images=first.images + 4)
    generator, _, images = bundle.load_generator(Path(first.run), encoders)
    bundle.save_generator(generator, config, encoders.vocabulary, Path(first.run), images)
    with pytest.raises(ValueError, match=r"the main module is unfinished: it has seen 24 of 28 images"):
        train_editor(dataclasses.replace(second, run=str(wrong)))
    (tmp_path / "damsm").mkdir()
    (tmp_path / "damsm" / "config.yaml").write_text("weights: random\n")
    with pytest.raises(ValueError, match=r"no run of `tmgan train` in .*damsm: it has no config.yaml with"):
        configfile.settings_of(tmp_path / "damsm")
    with pytest.raises(ValueError, match="There is no run folder nowhere"):
        configfile.settings_of("nowhere")
    with pytest.raises(ValueError, match=r"model.keep_input is not a part of ManiGAN"):
        dataclasses.replace(first.model, keep_input=True)
    assert not wrong.exists()


@pytest.mark.parametrize("preset", ["manigan", "manigan-dcm"])
def test_the_papers_methods_combine_with_it(preset):
    def everything(config):
        return configfile.merge(config, steps.EVERYTHING, "test")

    plain, _ = steps.losses_and_gradients(*steps.make(preset))
    losses, _ = steps.losses_and_gradients(*steps.make(preset, change=everything))
    assert losses.keys() - plain.keys() == {"masked_mae", "kept", "sharpness", "d_blurred"}
    assert all(torch.isfinite(loss) for loss in losses.values())
    scales = {"d_16", "d_32"} & plain.keys()
    assert len(scales) == (2 if preset == "manigan" else 0)
    for name in scales:  # they judge smaller images, which no method looks at
        assert torch.equal(plain[name], losses[name])


def test_the_main_module_logs_these_losses_and_the_word_term_changes_nothing(first, pack, encoders):
    weights = []
    for on in (False, True):
        config = dataclasses.replace(first, method=dataclasses.replace(first.method, word_correlation=on))
        task = EditorTask(config, pack, encoders, decide(config.runtime))
        losses = task.step(0)
        assert losses.keys() - set(SIGNS) == NAMES | ({"d_words"} if on else set())
        assert losses.get("d_words", torch.zeros(())).requires_grad is False
        weights.append(task.train_step.state_dict())
    assert_equal_states(*weights)


def test_a_detail_correction_begins_as_torch_begins_and_is_the_only_thing_trained(encoders, second):
    main, _, _ = bundle.load_generator(Path(second.from_), encoders)
    step = build_step(second, encoders, None, decide(second.runtime), first=FirstWeights(main))
    torch.manual_seed(0)
    default = bundle.build_generator(second.model, encoders).correction
    for (name, ours), theirs in zip(step.generator.correction.named_parameters(), default.parameters(), strict=True):
        bound = 1 / ours[0].numel() ** 0.5
        assert ours.abs().max() <= bound >= theirs.abs().max(), name
        if ours.numel() > 500:
            assert abs(ours.std() / theirs.std() - 1) < 0.1, name
    assert {id(p) for p in step.adam_g.param_groups[0]["params"]} == {
        id(p) for p in step.generator.correction.parameters()
    }
    step.generator.train()
    assert not step.generator.main.training and not step.ema.main.training
