"""Configuration: precedence, round trip, and messages that say what to change."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml

from tmgan.cli.parse import parse_run
from tmgan.config import configfile
from tmgan.config.settings import DamsmConfig, TrainConfig


@pytest.mark.parametrize("name", configfile.presets())
def test_presets_load_and_survive_yaml(name, tmp_path):
    config = configfile.from_preset(name)
    path = tmp_path / "config.yaml"
    path.write_text(configfile.to_yaml(config))
    assert configfile.read_yaml(path, TrainConfig()) == config


def test_preset_then_file_then_flag(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("batch: 6\nseed: 011\noptim: {lr_g: 1e-4}\n")
    config = parse_run(TrainConfig, ["--config", str(path), "--batch", "8"], "train", preset=True)
    assert (config.batch, config.seed, config.optim.lr_g) == (8, 11, 1e-4)
    assert config.model == configfile.from_preset("quickstart").model


def test_a_file_may_name_its_preset_and_a_flag_wins(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: lightweight\nimages: 1e5\n")
    config = parse_run(TrainConfig, ["--config", str(path)], "train", preset=True)
    assert (config.preset, config.model.image_size, config.images) == ("lightweight", 256, 100_000)
    config = parse_run(TrainConfig, ["--config", str(path), "--preset", "editor"], "train", preset=True)
    assert config.preset == "editor" and config.model.keep_input


def test_equals_form_of_preset():
    assert parse_run(TrainConfig, ["--preset=lightweight"], "train", preset=True).model.image_size == 256


@pytest.mark.parametrize(
    "text, message",
    [
        ("bach: 6", "Did you mean 'batch'"),
        ("model: {image_sise: 64}", "Did you mean 'image_size'"),
        ("batch: many", "not a whole number"),
        ("batch: 2.5", "not a whole number"),
        ("model: {keep_input: maybe}", "not true or false"),
        ("model: {attention: other}", "not one of 'own', 'published'"),
        ("model: {image_size: 100}", "use 64, 128 or 256"),
        ("batch: 1", "need 2 or more"),
        ("output: {keep: 1}", "keep at least 2"),
        ("method: {mismatched_text_p: 1.5}", "use 0 to 1"),
        ("- a\n- b", "expected settings"),
        ("a: [", "not valid YAML"),
        ("batch: 4\nseed: 1\nbatch: 8", r"the key 'batch' occurs twice\n.*line 3"),
        ("optim: {lr_g: 1, lr_g: 2}", "the key 'lr_g' occurs twice"),
        ("images: 1:30", "'1:30' is not a whole number"),
        ("images: 0x1G", "'0x1G' is not a whole number"),
        ("optim: {lr_g: 1:30.5}", "'1:30.5' is not a number"),
        ("optim: {lr_g: !!float abc}", "not valid YAML"),
        ("seed: !!bool x", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("seed: " + "9" * 400, "seed is 9999"),
        ("model: 0", "expected settings as `name: value`, found 0"),
        ("false", "expected settings as `name: value`, found False"),
        ("data:", "not a text"),
        ("seed: true", "not a whole number"),
        ("images: .inf", "not a whole number"),
        ("optim: {lr_g: .nan}", "not a number"),
        ("seed: -1", "seed is -1"),
        ("runtime: {threads: -1}", "use 0 or more"),
        ("preset: 5", "preset: 5 is not a text"),
        ("from: 5", "from: 5 is not a text"),
        ("pretrain: {images: 0}", "less than one batch"),
        ("drawn_images: 1", "use 20 or more"),
        ("model: {keep_input: true}", "method.keep_mask dataset"),
    ],
)
def test_mistakes_say_what_to_change(text, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        configfile.read_yaml(path, TrainConfig())
    assert "bad.yaml" in str(error.value)


def test_numbers_are_what_they_look_like(tmp_path):
    """YAML 1.1 reads 064 as 52, and what has colons as minutes and seconds."""
    (tmp_path / "a.yaml").write_text(
        "images: 0x4000\nbatch: 064\nseed: '9007199254740993'\nrun: 20:30\noptim: {lr_g: 1e-4}\n"
        "data: 2026-13-45\nencoders: 2026-11-28\n"
    )
    config = configfile.read_yaml(tmp_path / "a.yaml", TrainConfig())
    assert (config.images, config.batch, config.seed, config.run) == (0x4000, 64, 2**53 + 1, "20:30")
    assert (config.optim.lr_g, config.data, config.encoders) == (1e-4, "2026-13-45", "2026-11-28")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_obeyed(tmp_path, encoding):
    (tmp_path / "a.yaml").write_text("data: paquets/café\n", encoding)
    assert configfile.read_yaml(tmp_path / "a.yaml", TrainConfig()).data == "paquets/café"


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("data: paquets/café\n", "latin-1")
    with pytest.raises(ValueError, match="a.yaml is not valid YAML"):
        configfile.read_yaml(tmp_path / "a.yaml", TrainConfig())


def test_home_is_found_in_files_and_flags(tmp_path, monkeypatch):
    """A shell replaces ~ at the beginning of a word only."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.yaml").write_text("encoders: ~/runs/e\nmodel: {g_width: 4}\n")
    config = parse_run(TrainConfig, ["--config=~/a.yaml", "--run=a~/b"], "train", preset=True)
    assert (config.encoders, config.run, config.model.g_width) == (f"{tmp_path}/runs/e", "a~/b", 4)


def test_unknown_preset_and_file():
    with pytest.raises(ValueError, match="Did you mean 'quickstart'"):
        configfile.from_preset("quickstrt")
    with pytest.raises(ValueError, match="no configuration file"):
        configfile.read_yaml("nowhere.yaml", TrainConfig())


def test_differences_are_dotted():
    old, new = configfile.to_dict(DamsmConfig()), configfile.to_dict(DamsmConfig(seed=1))
    new["loss"]["gamma1"] = 1.0
    assert configfile.differences(old, new) == ["seed", "loss.gamma1"]


@pytest.mark.parametrize("name", configfile.presets())
def test_a_preset_repeats_no_default(name):
    text = (Path(configfile.__file__).parent / "presets" / f"{name}.yaml").read_text()
    defaults = configfile.to_dict(TrainConfig())

    def repeated(values: dict, beneath: dict) -> list[str]:
        return [
            name
            for key, value in values.items()
            for name in (repeated(value, beneath[key]) if isinstance(value, dict) else [key] * (value == beneath[key]))
        ]

    assert repeated(yaml.safe_load(text) or {}, defaults) == []


def test_help_shows_first_what_people_use(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # a wider terminal shows sections side by side
    with pytest.raises(SystemExit):
        parse_run(TrainConfig, ["--help"], "train", preset=True)
    first = capsys.readouterr().out.split("method options")[0]
    assert re.findall(r"^\W*?(--[a-z-]+) [A-Z]", first, re.M) == [
        "--config",
        "--preset",
        "--data",
        "--run",
        "--encoders",
        "--from",
        "--images",
        "--batch",
        "--seed",
        "--drawn-images",
    ]


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcd", "bcde", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases (*) are not read"),
        ("a: &a {b: 1}\nc: {<<: [*a, *a]}\n", "aliases (*) are not read"),
        ("x: " + "y" * 2**16, "settings of more than 65,536 bytes"),
        ("x: " + "[" * 2000, "is not valid YAML"),
        (f"seed: {'9' * 5000}", "is not a whole number"),
        (f"{'k' * 1000}: 1", "unknown setting 'kkk"),
    ],
)
def test_a_file_from_anywhere_takes_no_more_than_it_has(text, message, tmp_path):
    (tmp_path / "some.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        configfile.read_yaml(tmp_path / "some.yaml", TrainConfig())
    assert len(str(error.value)) < 2000


def test_many_keys_take_time_by_their_number(tmp_path):
    start = time.process_time()
    (tmp_path / "some.yaml").write_text("".join(f"k{n:x}:\n" for n in range(9_000)))
    with pytest.raises(ValueError, match="unknown setting 'k0'"):
        configfile.read_yaml(tmp_path / "some.yaml", TrainConfig())
    assert time.process_time() - start < 5  # half a second is YAML's; pair by pair it took minutes for twice as many
