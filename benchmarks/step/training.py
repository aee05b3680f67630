"""What a file benchmarks/results/training-*.json holds, its checker, and its part of docs/performance.md.

A document is {"schema", "kind", "machine", "settings", "measured", "not_measured", "seconds"}: what gpu/training.py
measured, by row, and why the other rows are not there. Beside it lies a picture of edits, of the same name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.markdown import machine_line, table
from benchmarks.schema import MACHINE, require, require_fields
from benchmarks.step import schema as schema_step

SCHEMA = 1
_SPEED = {**schema_step.TIMES, "images_per_second": float, "first_seconds": float}
_LOOP = {
    "images": int,
    "seconds": float,
    "images_per_second": float,
    "iqr_images_per_second": float,
    "samples": int,
    "with_pauses_images_per_second": float,
}
_ACCURACY = {"birds": int, "colour_accuracy": float, "others_kept": float}
PSNR = "background_psnr"  # of an accuracy: null for an exact copy
MEASURED: dict[str, dict[str, type]] = {
    "step alone": _SPEED,
    "encoders": {"images_per_second": float},
    "first step": {"seconds": float},
    "loop": _LOOP,
    "idle": {"share": float, "seconds": float, "steps": int},
    "own birds": _ACCURACY,
    "other birds": _ACCURACY,
}


def check(document: dict) -> None:
    """Raise SchemaError at the first value that is missing, of the wrong kind or impossible."""
    fields = {"schema": int, "kind": str, "machine": dict, "settings": dict, "measured": dict, "not_measured": dict}
    require_fields(document, {**fields, "seconds": float}, "document")
    require(document["schema"] == SCHEMA, "document", f"schema {document['schema']}, this checker knows {SCHEMA}")
    require(document["kind"] == "training", "document.kind", f"{document['kind']!r} is not 'training'")
    require_fields(document["machine"], MACHINE, "machine")
    require_fields(document["settings"], {**schema_step.SETTINGS, "engine": str}, "settings")
    measured = document["measured"]
    require(bool(measured), "measured", "nothing was measured")
    for name, row in measured.items():
        where = f"measured[{name!r}]"
        require(name in MEASURED, where, f"is not one of {', '.join(MEASURED)}")
        require_fields(row, MEASURED[name], where)
        require(row.get(PSNR) is None or row[PSNR] > 0, f"{where}.{PSNR}", f"{row.get(PSNR)} is not above 0")
        for field in row.keys() & {"images_per_second", "seconds", "samples", "birds"}:
            require(row[field] > 0, f"{where}.{field}", f"{row[field]} is not above 0")
        for field in row.keys() & {"share", "colour_accuracy", "others_kept"}:
            require(0 <= row[field] <= 1, f"{where}.{field}", f"{row[field]} is no share")
    twice = measured.keys() & document["not_measured"].keys()
    require(not twice, "not_measured", f"{', '.join(twice)} is among what was measured too")


def write(document: dict, path: Path) -> Path:
    """Write to a new file in the folder `path`, then check it."""
    gpu, settings = document["machine"]["gpu"], document["settings"]
    where = re.sub(r"\W+", "-", "cpu" if gpu == "not used" else gpu).strip("-").lower()
    date = document["machine"]["date"]
    path = path / f"training-{where}-{settings['preset']}-batch{settings['batch']}-{date}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    check(document)
    return path


def section(results: Path) -> str:
    """One table for each training on a GPU; empty when there is none."""
    parts = []
    for path in sorted(results.glob("training-*.json")):
        document = json.loads(path.read_text())
        check(document)
        settings, measured = document["settings"], document["measured"]
        parts += [f"### {document['machine']['gpu']}: a training", machine_line(document, path.name)]
        parts.append(
            f"Preset {settings['preset']}, drawn birds of {settings['image_size']} pixels, batch {settings['batch']}, "
            f"{settings['precision']}, engine {settings['engine']}. The loop's speed is the median of its status "
            "lines, without the first one; *idle* is the share of the time in which the GPU does nothing, by torch's "
            "profiler, over some steps of the loop."
        )
        parts.append(table(("", ""), [line for name in measured for line in _lines(name, measured)]))
        parts += [f"Not measured, {name}: {reason}." for name, reason in document["not_measured"].items()]
        if path.with_suffix(".png").exists():
            picture = path.with_suffix(".png").name
            parts.append(f"![held-out drawn birds, edited by five sentences](../benchmarks/results/{picture})")
    return "\n\n".join(parts)


def _lines(name: str, measured: dict[str, dict]) -> list[tuple[str, str]]:
    row = measured[name]
    if name == "step alone":
        return [("images/s of the step by itself", f"{row['images_per_second']:.1f}")]
    if name == "encoders":
        return [("images/s while encoders are trained", f"{row['images_per_second']:.1f}")]
    if name == "first step":
        return [("seconds to the editor's first status line, encoders included", f"{row['seconds']:.0f}")]
    if name == "loop":
        alone = measured.get("step alone")
        share = "" if alone is None else f", {row['images_per_second'] / alone['images_per_second']:.0%} of the step's"
        return [
            ("images/s in the loop", f"{row['images_per_second']:.1f}{share}"),
            ("with pictures, measures and saves", f"{row['with_pauses_images_per_second']:.1f}"),
            ("images, seconds", f"{row['images']:,}, {row['seconds']:.0f}"),
        ]
    if name == "idle":
        return [("GPU idle", f"{row['share']:.1%} of {row['steps']} steps")]
    background = "exact" if row[PSNR] is None else f"{row[PSNR]:.1f} dB"
    scores = f"{row['colour_accuracy']:.2f}, {row['others_kept']:.2f}, {background}"
    return [(f"colour accuracy, other parts kept, background PSNR: {row['birds']} {name}", scores)]
