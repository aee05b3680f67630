"""README's table of quality: every processor second counted, no seed measured twice, only the results' numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.quality import __main__ as quality
from benchmarks.quality import tables
from benchmarks.quality.budgets import BUDGETS, SEEDS, TUNED_ON
from tmgan.cli.parse import parse_run
from tmgan.config.settings import TrainConfig
from tmgan.evaluation.metrics.colour_accuracy import make_test
from tmgan.models.bundle import save_encoders, save_generator


@pytest.fixture
def runs(monkeypatch, editor, encoders) -> list[list[str]]:
    """`tmgan train`, replaced by what writes an untrained editor: the options of each call."""
    calls = []

    def train(options: list[str]) -> tuple[float, float]:
        run = Path(options[options.index("--run") + 1])
        (run / "samples").mkdir(parents=True)
        (run / "samples" / "a.png").write_bytes(b"picture")
        save_encoders(encoders, run)
        save_generator(editor.generator, editor.config, encoders.vocabulary, run, 8)
        values = {name: {"value": 0.5} for name in quality.MEASURES}
        (run / "evaluation.json").write_text(json.dumps({"trained": {"measures": values}}))
        calls.append(options)
        return 10.0 + len(calls), 20.0 + len(calls)

    monkeypatch.setattr(quality, "train", train)
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
    assert (tmp_path / "quality-default.png").read_bytes() == b"picture"
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


def test_processor_time_of_a_run_is_counted_with_all_its_processes(monkeypatch):
    program = "x = 0\nfor k in range(3_000_000):\n    x += k"
    monkeypatch.setattr(quality.sys, "executable", sys.executable)
    called = {}

    def run(command, check):
        called["command"] = command
        return original([sys.executable, "-c", program], check=check)

    original = quality.subprocess.run
    monkeypatch.setattr(quality.subprocess, "run", run)
    seconds, processor_seconds = quality.train(["--images", "8"])
    assert called["command"][1:] == ["-m", "tmgan", "train", "--images", "8"]
    assert seconds > 0 and processor_seconds > 0.01


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_are_options_of_train(name):
    config = parse_run(TrainConfig, list(BUDGETS[name]), "train", True)
    assert config.runtime.threads == 1 and config.data == ""  # one core, drawn birds
