"""Writes the tables of README.md, kernels/README.md and, in docs/, of data, metrics, performance, reliability and more.

From benchmarks/results/*.json: no number is typed by hand.

    python -m benchmarks.report          # rewrite, and draw the plots (needs matplotlib: pip install tmgan[bench])
    python -m benchmarks.report --check  # exit 1 when a page does not match the results, or a plot is missing
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks import goals, schema
from benchmarks.kernels import readme, tables
from benchmarks.loaders import tables as loader_tables
from benchmarks.markdown import machine_line
from benchmarks.offline import memory_tables
from benchmarks.offline import tables as tables_offline
from benchmarks.quality import tables as tables_quality
from benchmarks.reliability import tables as tables_reliability
from benchmarks.step import host
from benchmarks.step import tables as tables_step
from tmgan.paper import pages as paper_pages
from tmgan.reports.document import Document, slug

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
KERNELS = ROOT / "kernels" / "README.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
DATA = ROOT / "docs" / "data.md"
METRICS = ROOT / "docs" / "metrics.md"
TABLES = ROOT / "docs" / "tables.md"
TRAINING = ROOT / "docs" / "training.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
NO_GPU = "No GPU has been measured yet."


# ----------------------------------------------------------- docs/metrics.md
def fid_table() -> str:
    """One row per measured machine."""
    lines = [
        "| photos, reals | `tmgan evaluate` | save pictures + pytorch-fid | times as fast | measured |",
        "|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob("fid-*.json")):
        result = json.loads(path.read_text())
        machine, timings = result["machine"], result["timings"]
        unit, name = ("processor_seconds", "s of processor time") if machine["gpu"] == "not used" else ("seconds", "s")
        ours, save, theirs = (timings[key][unit] for key in ("tmgan", "save pictures", "pytorch-fid"))
        where = f"{machine['cores']} cores of {machine['processor']}, GPU {machine['gpu']}, torch {machine['torch']}, "
        lines.append(
            f"| {result['photos']} of {result['image_size']} pixels, {result['reals']} | {ours:.0f} {name} | "
            f"{save:.0f} + {theirs:.0f} {name} | {result['ratio'][unit]:.1f} | {where}{machine['date']} |"
        )
    return "\n".join(lines)


# ------------------------------------------------------- docs/performance.md
def latest(results: Path) -> list[tuple[str, dict]]:
    """(file name, document) of the newest run on each GPU, then of the newest without one."""
    newest: dict[str, tuple[str, dict]] = {}
    for path in sorted(results.glob("kernels-*.json")):
        document = json.loads(path.read_text())
        schema.check(document)
        before = newest.get(document["machine"]["gpu"])
        if before is None or before[1]["machine"]["date"] <= document["machine"]["date"]:
            newest[document["machine"]["gpu"]] = path.name, document
    return sorted(newest.values(), key=lambda pair: (not schema.on_gpu(pair[1]), pair[0]))


def plot_name(file: str) -> str:
    return f"{Path(file).stem}.png"


def kernel_section(results: Path = RESULTS) -> str:
    """The kernels' section of docs/performance.md."""
    parts = [] if any(schema.on_gpu(document) for _, document in latest(results)) else [NO_GPU]
    for file, document in latest(results):
        gpu = schema.on_gpu(document)
        parts.append(f"### {document['machine']['gpu'] if gpu else 'Without a GPU'}")
        parts.append(machine_line(document, file))
        if gpu:
            parts.append(f"![share of the copy bandwidth, by operation and implementation]({plot_name(file)})")
        parts += (tables.gpu_sections if gpu else tables.cpu_sections)(document)
    return "\n\n".join(parts)


def performance_page() -> str:
    text = PERFORMANCE.read_text()
    for marker, section in (
        ("kernels", kernel_section),
        ("goals", goals.section),
        ("step", tables_step.section),
        ("host", host.section),
        ("memory", memory_tables.section),
        ("offline", tables_offline.section),
    ):
        text = fill(text, marker, lambda section=section: section(RESULTS))
    return text


# ---------------------------------------------------------- kernels/README.md
def kernels_page(results: Path = RESULTS) -> str:
    """The page as it is, its operations' sections written again."""
    text = KERNELS.read_text()
    runs = [document for _, document in latest(results) if schema.on_gpu(document)]
    for marker, content in readme.sections(runs).items():
        text = fill(text, marker, lambda content=content: content)
    return text


# ------------------------------------------------------------- docs/tables.md
def tables_page() -> Document:
    """What `tmgan tables --as-published` found, from its JSON and the pictures beside the page (see docs/tables/)."""
    about = json.loads((RESULTS / "tables.json").read_text())
    pictures = {name: Image.open(TABLES.with_suffix("") / f"{slug(name)}.png") for name in about["captions"]}
    return paper_pages.document(about, pictures)


# -------------------------------------------------------- docs/reliability.md
def reliability_page() -> str:
    text = RELIABILITY.read_text()
    for marker in ("kills", "saves", "endurance", "fuzz"):
        text = fill(text, marker, lambda marker=marker: getattr(tables_reliability, marker)(RESULTS))
    return text


# ------------------------------------------------------------------ the pages
def fill(text: str, marker: str, content: Callable[[], str]) -> str:
    """A page with the part between <!-- marker --> and <!-- end --> replaced."""
    assert f"<!-- {marker} -->\n" in text and "<!-- end -->" in text, marker
    return re.sub(
        rf"(<!-- {marker} -->\n).*?(<!-- end -->)", lambda match: f"{match[1]}{content()}\n{match[2]}", text, flags=re.S
    )


def pages() -> dict[Path, str]:
    """What the pages should say."""
    return {
        README: fill(README.read_text(), "quality", lambda: tables_quality.table(RESULTS)),
        TRAINING: fill(TRAINING.read_text(), "photographs", lambda: tables_quality.photographs(RESULTS)),
        KERNELS: kernels_page(),
        PERFORMANCE: performance_page(),
        DATA: fill(DATA.read_text(), "loaders", lambda: loader_tables.section(RESULTS)),
        METRICS: fill(METRICS.read_text(), "fid", fid_table),
        RELIABILITY: reliability_page(),
        TABLES: tables_page().markdown(TABLES.stem),
    }


def main() -> None:
    gpu_runs = [(file, document) for file, document in latest(RESULTS) if schema.on_gpu(document)]
    if "--check" in sys.argv:
        wrong = [path.relative_to(ROOT) for path, text in pages().items() if path.read_text() != text]
        wrong += [plot for file, _ in gpu_runs if not (plot := PERFORMANCE.with_name(plot_name(file))).exists()]
        names = ", ".join(map(str, wrong))
        sys.exit(f"{names} and benchmarks/results differ: run `python -m benchmarks.report`" if wrong else 0)
    for path, text in pages().items():
        path.write_text(text)
    tables_page().write_markdown(TABLES.parent, TABLES.stem)
    if gpu_runs:
        from benchmarks.kernels import plots

        for file, document in gpu_runs:
            plots.draw(document, PERFORMANCE.with_name(plot_name(file)))


if __name__ == "__main__":
    main()
