"""The step's section of docs/performance.md, as markdown, from benchmarks/results/steps-*.json and training-*.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.markdown import machine_line, table
from benchmarks.step import schema as schema_step
from benchmarks.step import training
from tmgan.config.settings import TrainConfig

CUB = TrainConfig().images  # 100 epochs of CUB's 8,855 training photos, as published
CUB_SIZE = 256


def section(results: Path) -> str:
    """All documents, GPUs first; says so when no GPU has been measured."""
    documents = []
    for path in sorted(results.glob("steps-*.json")):
        document = json.loads(path.read_text())
        schema_step.check(document)
        documents.append((document["machine"]["gpu"] == "not used", path.name, document))
    parts = [] if any(not cpu for cpu, _, _ in documents) else ["No GPU has run a step yet."]
    for cpu, name, document in sorted(documents, key=lambda entry: entry[:2]):
        parts.append(
            f"### {'Without a GPU' if cpu else document['machine']['gpu']}: "
            f"{'what each change is worth' if document['ablation'] else 'engines and parts'}"
        )
        parts.append(machine_line(document, name))
        parts += _sections(document, cpu)
    parts += [trainings] if (trainings := training.section(results)) else []
    return "\n\n".join(parts)


def _sections(document: dict, cpu: bool) -> Iterator[str]:
    settings = document["settings"]
    note = (
        (
            " Small networks on a processor: ratios of work there, nothing about a GPU. Times are those that the one "
            "thread had the processor; beside busy neighbours, so a tenth more or less means little."
        )
        if cpu
        else ""
    )
    yield (
        f"Preset {settings['preset']}, {settings['image_size']} pixels, widths {settings['g_width']} and "
        f"{settings['d_width']}, batch {settings['batch']}, {settings['precision']}, random weights.{note} "
        f"*Of peak* is the share of {document['peak_gflops']:,.0f} GFLOP/s, one large matrix product on the same "
        "machine."
    )
    steps = [row for row in document["rows"] if row["part"] == "step"]
    baseline = next((row for row in steps if row["engine"] == "published"), None)
    cub = not cpu and settings["image_size"] == CUB_SIZE
    head = ("whole step", "images/s", "ms", "iqr", "GFLOP per image", "of peak", "against published")
    if steps:
        yield table(
            (*head, _CUB_HEAD) if cub else head,
            [
                (
                    row["engine"],
                    f"{row['images_per_second']:.1f}",
                    f"{1e3 * row['seconds']:.0f}",
                    f"{1e3 * row['iqr_seconds']:.0f}",
                    f"{row['gflop_per_image']:.1f}",
                    f"{row['share_of_peak']:.0%}",
                    "" if baseline is None else f"{baseline['seconds'] / row['seconds']:.2f}x",
                    *([_cub_minutes(row)] if cub else []),
                )
                for row in steps
            ],
        )
    if document.get("batches"):
        yield _batches(document["batches"], cub)
    parts = [row for row in document["rows"] if row["part"] != "step"]
    if parts and not document["ablation"]:
        engines = list(dict.fromkeys(row["engine"] for row in parts))
        by_name = {(row["engine"], row["part"]): row for row in parts}
        names = list(dict.fromkeys(row["part"] for row in parts))
        yield table(
            ("part, timed by itself, ms", *engines),
            [(name, *(_milliseconds(by_name.get((engine, name))) for engine in engines)) for name in names],
        )
    if document["starts"]:
        yield table(
            ("from a new process to the end of its first step", "seconds"),
            [
                (f"{row['engine']}, {row['state']} compiler cache", f"{row['seconds']:.0f}")
                for row in document["starts"]
            ],
        )
    if document["ablation"]:
        base = next((row for row in document["ablation"] if row["change"] == "nothing"), {})
        yield table(
            ("change", "images/s", "iqr ms", "speed against no change"),
            [_change(row, base) for row in document["ablation"]],
        )


_CUB_HEAD = "minutes for 100 epochs of CUB"


def _cub_minutes(row: dict) -> str:
    """By the step's speed alone: pictures, measures and saves come on top."""
    return f"{CUB / row['images_per_second'] / 60:.0f}"


def _milliseconds(row: dict | None) -> str:
    """Empty where the script was stopped before this part."""
    return "" if row is None else f"{1e3 * row['seconds']:.0f}"


def _batches(rows: list[dict], cub: bool) -> str:
    """Whole steps by batch: speed, memory, and the ratio to the published step at the same batch only."""
    published = {row["batch"]: row for row in rows if row["engine"] == "published"}
    head = ("batch, engine", "images/s", "ms", "iqr", "GiB at most", "against published at this batch")
    body = []
    for row in sorted(rows, key=lambda row: (row["batch"], schema_step.ENGINES.index(row["engine"]))):
        baseline, memory = published.get(row["batch"]), row["peak_bytes"]
        body.append(
            (
                f"{row['batch']}, {row['engine']}",
                f"{row['images_per_second']:.1f}",
                f"{1e3 * row['seconds']:.0f}",
                f"{1e3 * row['iqr_seconds']:.1f}",
                "" if memory is None else f"{memory / 2**30:.1f}",
                "" if baseline is None else f"{baseline['seconds'] / row['seconds']:.2f}x",
                *([_cub_minutes(row)] if cub else []),
            )
        )
    return table((*head, _CUB_HEAD) if cub else head, body)


def _change(row: dict, base: dict) -> tuple[str, str, str, str]:
    if "seconds" not in row:
        return row["change"], row.get("error") or f"not measured, {row['reason']}", "", ""
    ratio = f"{base['seconds'] / row['seconds']:.2f}x" if "seconds" in base else ""
    return row["change"], f"{row['images_per_second']:.1f}", f"{1e3 * row['iqr_seconds']:.0f}", ratio
