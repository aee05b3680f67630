"""What a file benchmarks/results/steps-*.json holds, and a checker that says which value is wrong.

A document is {"schema", "machine", "settings", "peak_gflops", "rows", "starts", "ablation", "seconds"} and, of a GPU,
"batches". A row is a part of a step ("step": all of it) under an engine, at the batch of the settings; "published" is
published.py. An ablation row is a whole step with one thing changed. A row of "batches" is a whole step at a batch of
its own. What follows from other numbers is checked against them.
"""

from __future__ import annotations

import math

from benchmarks.offline import comparison
from benchmarks.schema import MACHINE, require, require_fields

SCHEMA = 1
ENGINES = ("eager", "compiled", "graphed", "published")
SETTINGS = {
    "preset": str,
    "image_size": int,
    "g_width": int,
    "d_width": int,
    "batch": int,
    "precision": str,
    "threads": int,
}
TIMES = {"seconds": float, "iqr_seconds": float, "samples": int}
ROW = {
    "engine": str,
    "part": str,
    **TIMES,
    "images_per_second": float,
    "gflop_per_image": float,
    "share_of_peak": float,
}
START = {"engine": str, "state": str, "seconds": float}
ABLATION = {"change": str, **TIMES, "images_per_second": float}
AT_BATCH = {"engine": str, "batch": int, **TIMES, "images_per_second": float}


def share(row: dict, batch: int, peak_gflops: float) -> float:
    """Share of the speed of a large matrix product."""
    return row["gflop_per_image"] * batch / row["seconds"] / peak_gflops


def check(document: dict) -> None:
    """Raise SchemaError at the first value that is missing, of the wrong kind, impossible, or at odds with another."""
    require_fields(
        document,
        {
            "schema": int,
            "machine": dict,
            "settings": dict,
            "peak_gflops": float,
            "rows": list,
            "starts": list,
            "ablation": list,
            "seconds": float,
        },
        "document",
    )
    require(document["schema"] == SCHEMA, "document", f"schema {document['schema']}, this checker knows {SCHEMA}")
    require_fields(document["machine"], MACHINE, "machine")
    require_fields(document["settings"], SETTINGS, "settings")
    at_batch = document.get("batches", [])
    require(bool(document["rows"] or at_batch), "rows", "nothing was measured")
    batch = document["settings"]["batch"]
    for i, row in enumerate(document["rows"]):
        where = f"rows[{i}]"
        require_fields(row, ROW, where)
        _engine(row, where)
        _times(row, batch, where)
        if row["part"] == "step":
            _memory(row, document, where)
        require(
            math.isclose(row["share_of_peak"], share(row, batch, document["peak_gflops"]), rel_tol=1e-3, abs_tol=1e-9),
            f"{where}.share_of_peak",
            "does not follow from work, time and peak",
        )
    for i, row in enumerate(document["starts"]):
        require_fields(row, START, f"starts[{i}]")
        require(row["state"] in ("cold", "warm"), f"starts[{i}].state", f"{row['state']!r} is not cold or warm")
    for i, row in enumerate(document["ablation"]):
        where = f"ablation[{i}]"
        if "error" in row or "reason" in row:
            require_fields(row, {"change": str, ("error" if "error" in row else "reason"): str}, where)
        else:
            require_fields(row, ABLATION, where)
            _times(row, batch, where)
    for i, row in enumerate(at_batch):
        where = f"batches[{i}]"
        require_fields(row, AT_BATCH, where)
        _engine(row, where)
        _times(row, row["batch"], where)
        _memory(row, document, where)
    if document.get("components"):
        comparison.check(document)
    measured = [(row["engine"], row["batch"]) for row in at_batch]
    require(len(set(measured)) == len(measured), "batches", "an engine is listed twice at one batch")


def _engine(row: dict, where: str) -> None:
    require(row["engine"] in ENGINES, f"{where}.engine", f"{row['engine']!r} is not one of {', '.join(ENGINES)}")


def _memory(row: dict, document: dict, where: str) -> None:
    memory = row.get("peak_bytes", 0)
    require(
        (memory is None) == (document["machine"]["gpu"] == "not used") and memory != 0,
        f"{where}.peak_bytes",
        "must be the memory on a GPU, and null without one",
    )


def _times(row: dict, batch: int, where: str) -> None:
    require(row["seconds"] > 0 and row["samples"] > 0 and row["iqr_seconds"] >= 0, where, "holds no time")
    require(
        math.isclose(row["images_per_second"], batch / row["seconds"], rel_tol=1e-3),
        f"{where}.images_per_second",
        "does not follow from time and batch",
    )
