"""tmgan report: of a finished run, of one that has hardly begun, of encoders, and of no run."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from PIL import Image

from tmgan.cli import main
from tmgan.common.files import write_json
from tmgan.common.text import number
from tmgan.config import configfile
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
        "| has_masks | yes |",
        f"Edit with it: `tmgan edit {config.run} PHOTO.jpg --text ",
    ):
        assert words in text, words
    assert "Its encoders" not in text  # they were given
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
    assert "not begun" in report(tmp_path / "begun").markdown("x")
    (tmp_path / "begun" / "stats.jsonl").write_text(
        '{"images": 4, "loss": 1.0, "images_per_second": 2.0}\n{"images": 8, "lo'
    )
    assert "run.json is missing**: 4 of 16" in report(tmp_path / "begun").markdown("x")


EVALUATION = {
    "protocol": {"split": "test", "seed": 0, "captions": "own"},
    "images": ["bird"],
    "measures": {
        "psnr": {"value": 30.0, "low": 20.0, "high": None, "n": 1, "unit": "dB", "better": "higher", "note": ""},
        "kept": {"value": None, "n": 0, "unit": "", "better": "", "note": ""},
    },
    "notes": [],
    "skipped": {"fid": "Too few photos."},
}


@pytest.fixture
def unfinished(tiny, tmp_path):
    """The folder of a run that is writing while it is read."""
    (tmp_path / "samples").mkdir()
    (tmp_path / "config.yaml").write_text(configfile.to_yaml(tiny))
    (tmp_path / "run.json").write_text('{"status": "running", "images": 16}')
    for name in ("stats", "metrics"):
        row = {"images": 8, "retrieval_photos": 5, "retrieval_top1": 0.5, "images_per_second": 2.0}
        (tmp_path / f"{name}.jsonl").write_text(f'{json.dumps(row)}\n{{"images": 16, "los')
    (tmp_path / "evaluation.json").write_text(json.dumps({"trained": EVALUATION}))
    return tmp_path


def test_numbers_and_curves_of_an_unfinished_run(unfinished):
    (unfinished / "encoders").mkdir()
    (unfinished / "encoders" / "config.yaml").touch()
    text = report(unfinished).markdown("x")
    assert f"Its encoders were trained first: `tmgan report {unfinished / 'encoders'}`" in text
    assert "Edit with it" not in text  # nothing to edit with yet
    assert "30.0 (20.0 to inf)" in text and "| kept | - | 0 |" in text and "Not measured: fid. Too few" in text
    assert "1 photo of the test split, centre crops, each edited by its own caption" in text
    assert "Metrics-retrieval_top1" in text and "Metrics-retrieval_photos" not in text


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("stats.jsonl", b'{"images": 8, "loss": 1.0}\n[1]\n\xff\x00', "**Running, or killed**: 16 of 24"),
        ("run.json", None, "**Unknown, since run.json is missing**: 8 of 24"),
        ("run.json", b'{"status": "run', "**Unknown, since run.json is damaged**: 8 of 24"),
        ("run.json", b'{"images": "many"}', "run.json is damaged"),
        ("evaluation.json", b'{"trained": {', "`evaluation.json` is damaged"),
        ("evaluation.json", b"{}", "`evaluation.json` is damaged"),
        ("evaluation.json", b'{"trained": {"measures": {}}}', "To measure again: `tmgan evaluate "),
        ("samples/images-8.png", b"\x89PNG\r\n", "`samples/images-8.png` cannot be read"),
        ("samples/images-last.png", b"", "`samples/images-last.png` cannot be read"),
        ("encoders.safetensors", b"half", "`encoders.safetensors` is damaged"),
    ],
)
def test_a_damaged_file_costs_its_part_of_the_page_only(unfinished, file, content, words):
    (unfinished / file).unlink(missing_ok=True)
    if content is not None:
        (unfinished / file).write_bytes(content)
    text = report(unfinished).markdown("x")
    assert words in text and "## Settings" in text and "## Losses" in text


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "seed: 0\nmodel: {image_size: 64}\n", "seed: 0\npretrain:\n"])
def test_damaged_settings_end_in_a_sentence(unfinished, content):
    (unfinished / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match="config.yaml is damaged"):
        report(unfinished)


def test_no_run(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "no run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value, text",
    [
        (1234.5, "1,234"),
        (12.34, "12.3"),
        (0.1234, "0.123"),
        (1e-5, "1.0e-05"),
        (0, "0.000"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "inf"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("stats.jsonl", '{"images": 8, "loss": "<b>", "images_per_second": "x"}\n{"images": 9, "loss": 1e308}\n'),
        ("stats.jsonl", '{"images": 8, "a b": 1, "a-b": 2, "\\ud800": 3, "%s": 4}' % ("x" * 400)),
        ("stats.jsonl", "[" * 100_000),
        ("run.json", '{"status": "done", "images": 8, "tmgan": 3, "torch": "2", "files": 7}'),
        ("run.json", '{"status": [], "images": true}'),
        ("run.json", '{"status": "imported", "images": 0, "files": [1, {"file": null}]}'),
        ("evaluation.json", "[" * 100_000),
        ("evaluation.json", '{"trained": {"measures": 5}}'),
        ("log.txt", "2026 NOTE: <script>alert(1)</script> ](javascript:x)"),
    ],
)
def test_files_of_another_form_cost_their_part_of_the_page(unfinished, file, content, tmp_path):
    (unfinished / file).write_text(content)
    page = report(unfinished)
    page.write(tmp_path / "out", "report")
    assert "<script" not in page.html() and "](javascript" not in page.markdown("x").partition("## Log")[0].replace(
        "\\]", ""
    )


def test_a_picture_of_a_run_is_png(unfinished):
    """Any other kind would be read by content: Pillow has Ghostscript run EPS."""
    Image.new("RGB", (40, 40)).save(unfinished / "samples" / "x.eps")
    (unfinished / "samples" / "x.eps").rename(unfinished / "samples" / "images-000000000008.png")
    assert "`samples/images-000000000008.png` cannot be read" in report(unfinished).markdown("x")
