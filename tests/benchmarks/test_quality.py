"""README's table of quality: every processor second counted, no seed measured twice, only the results' numbers."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.quality import __main__ as quality
from benchmarks.quality import command, photographs, tables
from benchmarks.quality.budgets import BIRDS, BUDGETS, SEEDS, SENTENCES, TUNED_ON
from tmgan.cli.parse import parse_run
from tmgan.config.settings import TrainConfig
from tmgan.evaluation.metrics.colour_accuracy import make_test
from tmgan.evaluation.metrics.edits import make_edits
from tmgan.models.bundle import save_encoders, save_generator


@pytest.fixture
def runs(monkeypatch, editor, encoders) -> list[list[str]]:
    """`tmgan train`, replaced by what writes an untrained editor: the options of each call."""
    calls = []

    def train(options: list[str]) -> tuple[float, float]:
        assert options[0] == "train"
        run = Path(options[options.index("--run") + 1])
        run.mkdir()
        save_encoders(encoders, run)
        save_generator(editor.generator, editor.config, encoders.vocabulary, run, 8)
        values = {name: {"value": 0.5} for name in quality.MEASURES}
        (run / "evaluation.json").write_text(json.dumps({"trained": {"measures": values}}))
        calls.append(options)
        return 10.0 + len(calls), 20.0 + len(calls)

    monkeypatch.setattr(quality, "run_tmgan", train)
    return calls


def test_a_repeated_command_measures_the_missing_seeds(runs, pack, tmp_path, monkeypatch):
    test = make_test(pack, 64, 6)
    monkeypatch.setattr(quality, "SEEDS", SEEDS[:2])
    quality.measure("default", ("--images", "8"), test, tmp_path)
    monkeypatch.setattr(quality, "SEEDS", SEEDS)
    quality.measure("default", ("--images", "8"), test, tmp_path)
    assert [options[options.index("--seed") + 1] for options in runs] == [str(seed) for seed in SEEDS]
    document = json.loads((tmp_path / "quality-default.json").read_text())
    assert [row["processor_seconds"] for row in document["rows"]] == [21.0, 22.0, 23.0]
    assert document["baselines"]["input copied"]["background_psnr"] is None
    assert document["tuned_on"] == TUNED_ON and TUNED_ON not in SEEDS
    width, height = Image.open(tmp_path / "quality-default.png").size
    assert width > 128 * (1 + len(SENTENCES)) and height > 128 * BIRDS
    with pytest.raises(SystemExit, match=r"quality-default.json was measured with other options: --images 8"):
        quality.measure("default", ("--images", "9"), test, tmp_path)


def test_the_table_has_means_ranges_and_baselines(tmp_path):
    row = {"others_kept": 0.99, "background_psnr": 41.0, "own": {"colour_accuracy": 0.7}}
    document = {
        "options": ["--runtime.threads", "1"],
        "machine": {"processor": "p", "gpu": "not used", "torch": "2", "date": "2026-01-01"},
        "rows": [
            {"seed": seed, "processor_seconds": 50.0 + seed, "colour_accuracy": 0.8 + seed / 100, **row}
            for seed in SEEDS
        ],
        "baselines": {"input copied": {"colour_accuracy": 0.0, "others_kept": 1.0, "background_psnr": None}},
    }
    (tmp_path / "quality-default.json").write_text(json.dumps(document))
    lines = tables.table(tmp_path).splitlines()
    assert "| 52 s | 0.82 (0.81 to 0.83) | 0.70 | 0.99 | 41.0 dB | seeds 1, 2, 3; one core of p" in lines[2]
    assert lines[3] == "| input copied | | 0.00 | | 1.00 | exact | |" and len(lines) == 4


def test_the_table_of_photographs_has_both_strengths(tmp_path):
    def score(edit: float) -> dict[str, float]:
        ends = {"colour_words_photo": 0.4, "colour_words_real": 0.8}
        return {"colour_words": edit, **ends, "colour_words_way": (edit - 0.4) / 0.4, "preserved_psnr": 30 + 10 * edit}

    rows = [
        {"held_out": ["a", "b", "c"], "processor_seconds": 300.0, "as_is": score(edit), "bold": score(0.8)}
        for edit in (0.6, 0.7)
    ]
    machine = {"processor": "p", "gpu": "not used", "date": "2026-01-01"}
    for size in (128, 64):
        document = {"rows": rows, "machine": machine}
        (tmp_path / f"quality-photographs-{size}.json").write_text(json.dumps(document))
    lines = tables.photographs(tmp_path).splitlines()
    assert len(lines) == 6 and lines[4].startswith("| 128 pixels | 300 s |")
    assert (
        "| 0.40 / 0.65 / 0.80 | 0.62 (0.50 to 0.75) | 36.5 (36.0 to 37.0) dB | 2 x 3 kinds; one core of p" in lines[2]
    )
    assert lines[3] == "| the same, `--strength 1.5` |  | 0.40 / 0.80 / 0.80 | 1.00 | 38.0 dB |  |"


def test_processor_time_of_a_run_is_counted_with_all_its_processes(monkeypatch):
    program = "x = 0\nfor k in range(3_000_000):\n    x += k"
    monkeypatch.setattr(command.sys, "executable", sys.executable)
    called = {}

    def run(words, check):
        called["words"] = words
        return original([sys.executable, "-c", program], check=check)

    original = command.subprocess.run
    monkeypatch.setattr(command.subprocess, "run", run)
    seconds, processor_seconds = command.run_tmgan(["train", "--images", "8"])
    assert called["words"][1:] == ["-m", "tmgan", "train", "--images", "8"]
    assert seconds > 0 and processor_seconds > 0.01


def test_classes_are_held_out_whole_and_each_once(tmp_path):
    source = tmp_path / "birds"
    names = [f"{k:03d}.K" for k in range(1, 8)] + list(photographs.TUNED_ON)
    for name in names:
        (source / "CUB_200_2011" / "images" / name).mkdir(parents=True)
        (source / "CUB_200_2011" / "images" / name / f"{name}_1.jpg").write_bytes(b"")
    seen = []
    for part in range(1, photographs.PARTS + 1):
        folder = tmp_path / str(part)
        held_out = photographs.link_split(source, folder, part)
        train, test = (pickle.loads((folder / split / "filenames.pickle").read_bytes()) for split in ("train", "test"))
        kinds = pickle.loads((folder / "test" / "class_info.pickle").read_bytes())
        assert kinds == [sorted(names).index(name) + 1 for name in held_out]
        assert test == [f"{name}/{name}_1" for name in held_out]
        assert sorted(train + test) == sorted(f"{name}/{name}_1" for name in names)
        assert (folder / "CUB_200_2011" / "images" / names[0]).is_dir()
        seen += held_out
    (source / "CUB_200_2011" / "images" / "003.Duck").rename(source / "duck")
    with pytest.raises(SystemExit, match=r"birds has not the classes 003.Duck"):
        photographs.link_split(source, tmp_path / "again", 1)
    assert sorted(seen) == names[:7]  # the classes that served a choice are trained on only


def test_every_held_out_photo_is_edited_by_a_caption_of_every_other_class(pack, editor, monkeypatch):
    shown = []

    def watch(*arguments):
        shown.append(arguments[2])
        return make_edits(*arguments)

    monkeypatch.setattr(photographs, "make_edits", watch)
    scores = photographs.score(editor, pack)
    owner = torch.repeat_interleave(torch.arange(len(pack)), pack.first.diff())
    (pairs,) = shown
    kinds = pack.class_ids[owner[pairs.target]]
    others = len(set(pack.class_ids.tolist())) - 1
    assert len(pairs) == len(pack.test) * others and not (kinds == pack.class_ids[pairs.image]).any()
    assert len({(int(i), int(k)) for i, k in zip(pairs.image, kinds, strict=True)}) == len(pairs)
    assert torch.equal(owner[pairs.own], pairs.image)
    assert 0 <= scores["colour_words"] <= 1 and scores["preserved_psnr"] > 5
    copied = photographs.score(editor, pack, 0.0)  # no change at all
    assert copied["colour_words"] == copied["colour_words_photo"] == scores["colour_words_photo"]
    assert scores["colour_words"] != scores["colour_words_photo"]


def test_photographs_are_trained_by_options_of_train():
    options = ["--preset", "editor", *photographs.OPTIONS.split()]
    config = parse_run(TrainConfig, options, "train", True)
    assert config.method.restore.palette > 0 and config.encoder.kind == "small" and config.pretrain.images == 40_000


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_are_options_of_train(name):
    config = parse_run(TrainConfig, list(BUDGETS[name]), "train", True)
    assert config.runtime.threads == 1 and config.data == ""  # one core, drawn birds
