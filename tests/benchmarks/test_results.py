"""What benchmarks/results may hold, and that the pages say nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

import tmgan_kernels
from benchmarks import report, schema
from benchmarks.kernels import readme, tables
from benchmarks.loaders import tables as loader_tables

ROOT = Path(__file__).parents[2]
KEY = {
    "operation": "box_blur",
    "pass": "forward",
    "provider": "triton",
    "batch": 64,
    "channels": 3,
    "height": 256,
    "width": 256,
    "dtype": "float32",
    "layout": "nchw",
    "options": {"kernel_size": 5},
}
COPY = {"gigabytes_per_second": 4000.0, "bytes": 10**9, "microseconds": 250.0, "iqr_microseconds": 0.5}


def row(microseconds: float, **key) -> dict:
    return {
        **KEY,
        **key,
        "microseconds": microseconds,
        "iqr_microseconds": 0.1,
        "samples": 30,
        "calls": 40,
        "input_sets": 5,
        "bytes": 100_000_000,
        **schema.derive(microseconds, 100_000_000, COPY),
        "peak_bytes": 50_000_000,
    }


@pytest.fixture
def document() -> dict:
    """Invented, never to be written into benchmarks/results."""
    return {
        "schema": schema.SCHEMA,
        "copy": dict(COPY),
        "seconds": 1.0,
        "not_measured": [],
        "machine": {
            "processor": "p",
            "cores": 16,
            "gpu": "Imaginary",
            "driver": "1",
            "cuda": "13",
            "python": "3.12",
            "torch": "2.11",
            "triton": "3.6",
            "date": "2000-01-01",
            "commit": "c",
            "sources": "s",
        },
        "rows": [
            row(50.0),
            row(500.0, provider="eager"),
            row(75.0, provider="compile"),
            {**KEY, "provider": "kornia", "error": "ValueError: no"},
        ],
        "host": [
            {
                "operation": "box_blur",
                "pass": "forward",
                "provider": "triton",
                "microseconds": 9.0,
                "iqr_microseconds": 0.1,
                "samples": 30,
            }
        ],
    }


@pytest.fixture
def cpu_document(document) -> dict:
    nothing = dict.fromkeys(schema.ON_GPU)
    rows = [{**each, **({} if "error" in each else nothing)} for each in document["rows"]]
    return {**document, "copy": None, "rows": rows, "machine": {**document["machine"], "gpu": "not used"}}


def test_committed_results_are_valid():
    for path in (ROOT / "benchmarks" / "results").glob("kernels-*.json"):
        document = json.loads(path.read_text())
        schema.check(document)
        assert document["machine"]["gpu"] != "Imaginary", path


def test_committed_results_of_loaders_are_valid():
    for path in (ROOT / "benchmarks" / "results").glob("loaders-*.json"):
        document = json.loads(path.read_text())
        schema.check_loaders(document)
        assert document["machine"]["gpu"] != "Imaginary", path


def test_a_valid_document_passes(document, cpu_document):
    schema.check(document)
    schema.check(cpu_document)


def spoil(document: dict, *path, value=...):
    """A copy with one value changed, or removed."""
    spoilt = copy.deepcopy(document)
    *parents, last = path
    target = spoilt
    for step in parents:
        target = target[step]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return spoilt


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("rows", 0, "bytes"), ..., r"rows\[0\]: lacks 'bytes'"),
        (("rows", 0, "bytes"), 0, r"rows\[0\].bytes: 0 is not above 0"),
        (("rows", 0, "microseconds"), -1.0, "microseconds"),
        (("rows", 0, "microseconds"), float("nan"), "finite number"),
        (("rows", 0, "iqr_microseconds"), ..., "lacks 'iqr_microseconds'"),
        (("rows", 0, "copy_fraction"), 0.9, "does not follow"),
        (("rows", 0, "copy_fraction"), None, "copy_fraction"),
        (("rows", 0, "floor_microseconds"), 1.0, "does not follow"),
        (("rows", 0, "gigabytes_per_second"), 4000.0, "does not follow"),
        (("rows", 0, "provider"), "magic", "'magic' is not one of"),
        (("rows", 0, "options"), ..., "lacks 'options'"),
        (("rows", 0, "batch"), True, "batch"),
        (("rows", 0, "error"), "also failed", "both an error and a measurement"),
        (("rows", 3, "error"), ..., "lacks 'microseconds'"),
        (("rows", 1, "provider"), "triton", "measured twice"),
        (("rows",), [], "nothing was measured"),
        (("machine", "driver"), ..., "lacks 'driver'"),
        (("machine", "date"), "yesterday", "machine.date"),
        (("copy",), None, "must hold the bandwidth"),
        (("host", 0, "microseconds"), ..., r"host\[0\]: lacks"),
        (("not_measured",), [{**KEY, "provider": "kornia", "reason": "r"}], "among the measured"),
        (("schema",), 99, "99"),
    ],
)
def test_the_checker_says_what_is_wrong(document, path, value, message):
    with pytest.raises(schema.SchemaError, match=message):
        schema.check(spoil(document, *path, value=value))


def test_without_a_gpu_no_bandwidth_may_stand(cpu_document):
    with pytest.raises(schema.SchemaError, match="must be null in a run without a GPU"):
        schema.check(spoil(cpu_document, "rows", 0, "copy_fraction", value=0.5))
    with pytest.raises(schema.SchemaError, match="copy"):
        schema.check(spoil(cpu_document, "copy", value=COPY))


def test_the_section_shows_the_numbers_of_the_file(document, tmp_path):
    (tmp_path / "kernels-imaginary.json").write_text(json.dumps(document))
    text = report.kernel_section(tmp_path)
    assert "| `box_blur(kernel_size=5)` forward | 50.0 | 50% | 10.0x | 1.50x compile |" in text
    assert "4,000 GB/s" in text and "kernels-imaginary.png" in text
    assert "by kornia, 1 row: ValueError: no" in text, "a failure is shown"
    assert report.NO_GPU not in text


def test_the_newest_run_of_a_gpu_is_shown(document, tmp_path):
    newer = spoil(document, "machine", "date", value="2001-01-01")
    (tmp_path / "kernels-a.json").write_text(json.dumps(newer))
    (tmp_path / "kernels-b.json").write_text(json.dumps(document))
    assert [file for file, _ in report.latest(tmp_path)] == ["kernels-a.json"]


def test_where_a_rival_is_faster_the_section_says_so(document, tmp_path):
    document["rows"][2] = row(40.0, provider="compile")
    (tmp_path / "kernels-imaginary.json").write_text(json.dumps(document))
    assert "Somewhere slower than another implementation: `box_blur(kernel_size=5)` forward." in report.kernel_section(
        tmp_path
    )


def test_the_kernels_page_has_a_row_for_each_gpu_pass_and_type(document):
    other = {**document, "machine": {**document["machine"], "gpu": "Other"}}
    other["rows"] = [row(20.0, dtype="bfloat16"), row(40.0, dtype="bfloat16", provider="eager")]
    lines = readme.speed("box_blur", [document, other]).splitlines()
    assert lines[2:] == [
        "| Imaginary | forward, fp32, 64x3x256x256 | 50.0 | 50% | 10.0x | 1.50x compile |",
        "| Other | forward, bf16, 64x3x256x256 | 20.0 | 125% | 2.0x |  |",
    ]
    assert readme.speed("masked_mae", [document, other]) == "Speed: not measured."


def test_the_kernels_page_shows_no_speed_that_no_gpu_has_measured(cpu_document, tmp_path):
    (tmp_path / "kernels-cpu.json").write_text(json.dumps(cpu_document))
    assert report.kernels_page(tmp_path).count("Speed: not measured.") == len(tmgan_kernels.__all__)


def test_the_kernels_page_takes_the_formula_from_the_docstring():
    about, formula = readme.described("A map: of\n two lines.\n\n    a = b\n      + c\n\nTraffic: none.\n")
    assert (about, formula) == ("A map: of two lines.", "a = b\n  + c")
    assert readme.signature("box_blur") == 'box_blur(image, kernel_size, border="replicate")'


def test_without_a_gpu_the_section_says_so(cpu_document, tmp_path):
    assert report.kernel_section(tmp_path) == report.NO_GPU
    (tmp_path / "kernels-cpu.json").write_text(json.dumps(cpu_document))
    text = report.kernel_section(tmp_path)
    assert text.startswith(report.NO_GPU)
    assert "| `box_blur(kernel_size=5)` forward | 64x3x256x256 | 500 | 75 | failed | 50 |" in text
    assert "%" not in text, "a fraction of a bandwidth that was not measured"


def test_the_terminal_table(document):
    text = "\n".join(tables.plain(document))
    assert "50.0  50%" in text and "failed: box_blur forward kornia: ValueError: no" in text


def test_plots_are_drawn_from_the_file_alone(document, tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.kernels import plots

    document["rows"] += [
        row(20.0, operation="instance_norm_glu", channels=64, layout="nhwc", dtype="bfloat16", options={})
    ]
    plots.draw(document, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def loaders(document) -> dict:
    """Invented, never to be written into benchmarks/results."""
    row = {
        "loader": "dali",
        "batch": 128,
        "threads": 16,
        "images_per_second": 2500.0,
        "iqr_images_per_second": 40.0,
        "images_per_core_second": 700.0,
        "samples": 7,
        "images": 2560,
    }
    return {
        "schema": schema.SCHEMA,
        "kind": "loaders",
        "seconds": 9.0,
        "machine": {**document["machine"], "pillow": "13.0.0", "dali": "2.4.0", "load": 0.5},
        "data": {"images": 64, "width": 500, "height": 375, "size": 256, "bytes_per_file": 90_000.0},
        "rows": [row, {**row, "loader": "pillow", "images_per_second": 900.0}],
    }


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("rows", 0, "images_per_second"), ..., r"rows\[0\]: lacks 'images_per_second'"),
        (("rows", 0, "images_per_core_second"), 0.0, "not above 0"),
        (("rows", 0, "loader"), "magic", "'magic' is not one of"),
        (("rows", 1, "loader"), "dali", "a loader is listed twice"),
        (("rows",), [], "nothing was measured"),
        (("kind",), "kernels", "is not 'loaders'"),
        (("data", "bytes_per_file"), "many", "finite number"),
        (("machine", "pillow"), ..., "lacks 'pillow'"),
        (("machine", "date"), "yesterday", "machine.date"),
    ],
)
def test_the_checker_of_loaders_says_what_is_wrong(loaders, path, value, message):
    schema.check_loaders(loaders)
    with pytest.raises(schema.SchemaError, match=message):
        schema.check_loaders(spoil(loaders, *path, value=value))


def test_the_loaders_section_shows_the_numbers_of_the_newest_file(loaders, tmp_path):
    assert loader_tables.section(tmp_path) == report.NO_GPU
    older = spoil(loaders, "rows", 0, "images_per_second", value=1.0)
    (tmp_path / "loaders-imaginary-2000-01-01.json").write_text(json.dumps(older))
    (tmp_path / "loaders-imaginary-2000-01-02.json").write_text(json.dumps(loaders))
    text = loader_tables.section(tmp_path)
    assert "| `dali` | 2,500 | 40 | 700 |" in text and "90 kB" in text and report.NO_GPU not in text
    assert "| `dali` | 1 |" not in text and "was busy" not in text
    busy = spoil(loaders, "machine", "load", value=9.0)
    (tmp_path / "loaders-imaginary-2000-01-03.json").write_text(json.dumps(busy))
    assert "The machine was busy: 9 other processes" in loader_tables.section(tmp_path)
