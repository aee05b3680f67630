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


@pytest.fixture
def of_gpu(document) -> dict:
    """With whole steps at several batches, on a card that does not exist."""
    sizes = {("published", 10): 1.0, ("compiled", 10): 0.25, ("published", 4): 3.0, ("compiled", 64): 0.5}
    document["batches"] = [
        {**row(engine, seconds), "batch": batch, "images_per_second": batch / seconds, "peak_bytes": 3 * 2**30}
        for (engine, batch), seconds in sizes.items()
    ]
    document["settings"]["image_size"] = 256
    document["machine"]["gpu"] = "Imaginary"
    for each in document["rows"]:
        each |= {"peak_bytes": 2**30} if each["part"] == "step" else {}
    return document


def test_a_ratio_compares_equal_batches_only(of_gpu, tmp_path):
    (tmp_path / "steps-gpu.json").write_text(json.dumps(of_gpu))
    text = tables_step.section(tmp_path)
    assert "| 10, compiled | 40.0 | 250 | 1.0 | 3.0 | 4.00x | 369 |" in text
    assert "| 64, compiled | 128.0 | 500 | 1.0 | 3.0 |  | 115 |" in text, "nobody measured the published step at 64"
    assert "| eager | 2.7 | 1500 | 1 | 100.0 | 5% | 2.00x | 5534 |" in text, "885,500 photos at 8/3 a second"


def test_minutes_for_cub_are_those_of_the_published_size(of_gpu, tmp_path):
    of_gpu["settings"]["image_size"] = 128
    (tmp_path / "steps-gpu.json").write_text(json.dumps(of_gpu))
    assert "CUB" not in tables_step.section(tmp_path)


def test_minutes_for_cub_are_those_of_gpus(document, tmp_path):
    document["settings"]["image_size"] = 256
    (tmp_path / "steps-cpu.json").write_text(json.dumps(document))
    assert "CUB" not in tables_step.section(tmp_path)


def test_a_part_that_one_engine_lacks_is_left_empty(document, tmp_path):
    document["rows"].append(row("compiled", 0.4, "average"))
    document["ablation"] = []
    (tmp_path / "steps-cpu.json").write_text(json.dumps(document))
    assert "| average |  | 400 |" in tables_step.section(tmp_path)


def test_the_checker_looks_at_every_batch(of_gpu):
    schema_step.check(of_gpu)
    for field, value in (("images_per_second", 1.0), ("peak_bytes", None), ("engine", "magic"), ("batch", 10.0)):
        spoilt = copy.deepcopy(of_gpu)
        spoilt["batches"][3][field] = value
        with pytest.raises(schema.SchemaError, match=r"batches\[3\]"):
            schema_step.check(spoilt)
    of_gpu["batches"].append(of_gpu["batches"][0])
    with pytest.raises(schema.SchemaError, match="listed twice"):
        schema_step.check(of_gpu)


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
