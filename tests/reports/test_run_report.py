"""tmgan report: of a finished run, of one that has hardly begun, of encoders, and of no run."""

from __future__ import annotations

import dataclasses

import pytest

from tmgan.cli import main
from tmgan.common.files import write_json
from tmgan.common.text import number
from tmgan.config.settings import RuntimeConfig
from tmgan.editing.editor import load
from tmgan.evaluation.evaluate import baselines, evaluate
from tmgan.evaluation.protocol import Protocol
from tmgan.models.bundle import save_encoders
from tmgan.reports.run_report import report
from tmgan.training.jobs import train_editor, train_encoders


def test_finished_run(tiny, pack, encoders, tmp_path, capsys):
    (tmp_path / "encoders").mkdir()
    save_encoders(encoders, tmp_path / "encoders")
    config = dataclasses.replace(tiny, encoders=str(tmp_path / "encoders"), runtime=RuntimeConfig(threads=1))
    train_editor(config, evaluated=False)
    editor, protocol = load(config.run, config.runtime), Protocol(metrics=("sharpness", "colour_accuracy"), count=4)
    models = {"trained": editor, "input copied": baselines(editor)["input copied"]}
    write_json(
        tmp_path / "run" / "evaluation.json", {n: evaluate(m, pack, protocol).to_json() for n, m in models.items()}
    )
    main(["report", config.run])
    assert "report.html" in capsys.readouterr().out
    text = (tmp_path / "run" / "report.md").read_text()
    for words in (
        "**Finished**: 24 of 24 images",
        "## Pictures",
        "samples-24",
        "## Evaluation",
        "input copied",
        "95% intervals",
        "Losses-perceptual",
        "## Speed",
        "## Data",
        "`optim.lr_g` ",
        "`model.g_width` 4",
        "colour_accuracy",
    ):
        assert words in text, words
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<figure>") == 2 and "<svg" in page and "https://" not in page
    assert (tmp_path / "run" / "report" / "samples-24.png").is_file()
    main(["report", config.run, "--out", str(tmp_path / "elsewhere")])
    assert (tmp_path / "elsewhere" / "report.html").is_file()


def test_encoders_and_a_run_that_has_not_begun(tiny_damsm, tmp_path):
    train_encoders(tiny_damsm)
    text = report(tmp_path / "encoders").markdown("x")
    assert "encoders: encoders" in text and "retrieval" in text and "## Evaluation" not in text
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text((tmp_path / "encoders" / "config.yaml").read_text())
    (tmp_path / "begun" / "stats.jsonl").write_text(
        '{"images": 4, "loss": 1.0, "images_per_second": 2.0}\n{"images": 8, "lo'
    )
    assert "not begun" in report(tmp_path / "begun").markdown("x")


def test_no_run(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "no run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value, text",
    [(1234.5, "1,234"), (12.34, "12.3"), (0.1234, "0.123"), (1e-5, "1.0e-05"), (0, "0.000"), (None, "inf")],
)
def test_numbers(value, text):
    assert number(value) == text
