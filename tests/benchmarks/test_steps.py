"""What benchmarks/results/steps-*.json may hold, and what the page makes of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from benchmarks import schema
from benchmarks.step import schema as schema_step
from benchmarks.step import tables as tables_step

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def row(engine: str, seconds: float, part: str = "step", **more) -> dict:
    made = {
        "engine": engine,
        "part": part,
        "seconds": seconds,
        "iqr_seconds": 0.001,
        "samples": 9,
        "images_per_second": 4 / seconds,
        "gflop_per_image": 100.0,
        **more,
    }
    return {**made, "share_of_peak": schema_step.share(made, 4, 5000.0)}


@pytest.fixture
def document() -> dict:
    """Invented, never to be written into benchmarks/results."""
    return {
        "schema": 1,
        "peak_gflops": 5000.0,
        "seconds": 1.0,
        "machine": {
            "processor": "p",
            "cores": 2,
            "gpu": "not used",
            "driver": "1",
            "cuda": "13",
            "python": "3.12",
            "torch": "2.11",
            "triton": "3.6",
            "date": "2000-01-01",
            "commit": "c",
            "sources": "s",
        },
        "settings": {
            "preset": "combined",
            "image_size": 64,
            "g_width": 8,
            "d_width": 8,
            "batch": 4,
            "precision": "fp32",
            "threads": 1,
        },
        "rows": [
            row("published", 3.0, peak_bytes=None),
            row("eager", 1.5, peak_bytes=None),
            row("eager", 0.5, "generate"),
        ],
        "starts": [{"engine": "compiled", "state": "cold", "seconds": 90.0}],
        "ablation": [
            {"change": "nothing", "seconds": 1.0, "iqr_seconds": 0.0, "samples": 5, "images_per_second": 4.0},
            {"change": "NCHW", "seconds": 2.0, "iqr_seconds": 0.0, "samples": 5, "images_per_second": 2.0},
            {"change": "fp32", "reason": "the time was over"},
            {"change": "flat", "error": "ValueError: no"},
        ],
    }


def test_committed_results_are_valid():
    for path in RESULTS.glob("steps-*.json"):
        schema_step.check(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("rows", 0, "seconds"), 0.0, "no time"),
        (("rows", 0, "images_per_second"), 9.0, "does not follow"),
        (("rows", 1, "share_of_peak"), 0.9, "does not follow"),
        (("rows", 0, "engine"), "magic", "'magic' is not one of"),
        (("rows", 0, "peak_bytes"), 5, "null without one"),
        (("rows",), [], "nothing was measured"),
        (("settings", "batch"), "4", "batch"),
        (("starts", 0, "state"), "tepid", "not cold or warm"),
        (("ablation", 0, "images_per_second"), 1.0, "does not follow"),
        (("schema",), 2, "schema 2"),
    ],
)
def test_the_checker_says_what_is_wrong(document, path, value, message):
    schema_step.check(document)
    spoilt = copy.deepcopy(document)
    *parents, last = path
    target = spoilt
    for step in parents:
        target = target[step]
    target[last] = value
    with pytest.raises(schema.SchemaError, match=message):
        schema_step.check(spoilt)


def test_the_section_shows_the_numbers_of_the_file(document, tmp_path):
    assert tables_step.section(tmp_path) == "No GPU has run a step yet."
    (tmp_path / "steps-cpu.json").write_text(json.dumps(document))
    text = tables_step.section(tmp_path)
    assert "| eager | 2.7 | 1500 | 1 | 100.0 | 5% | 2.00x |" in text
    assert (
        "| NCHW | 2.0 | 0 | 0.50x |" in text and "not measured, the time was over" in text and "ValueError: no" in text
    )
    assert "nothing about a GPU" in text and text.startswith("No GPU has run a step yet.")
