"""What the files benchmarks/results/kernels-*.json and loaders-*.json hold, and checkers that say which value is wrong.

A document of kernels is {"schema", "machine", "copy", "rows", "host", "not_measured", "seconds"}. A row says what was
called (KEY) and either what was measured (MEASURED) or the "error" of a provider that failed. The numbers that follow
from others (floor, bandwidth, fraction) are checked against them. All times are microseconds per call.

A document of loaders is {"schema", "kind", "machine", "data", "rows", "seconds"}, with one row per loader; machine.load
is how many processes were computing when it began.
"""

from __future__ import annotations

import datetime
import math

SCHEMA = 1
PASSES = ("forward", "backward", "both")
PROVIDERS = (
    "eager",
    "best-eager",
    "compile",
    "compile-max",
    "kornia",
    "triton",
    "cuda",
    "groups-l2",
    "groups-half",
    "groups-quarter",
)  # the last three: Triton, one group of images after the other
DTYPES = ("float32", "bfloat16", "uint8")
LAYOUTS = ("nchw", "nhwc")

KEY = {
    "operation": str,
    "pass": str,
    "provider": str,
    "batch": int,
    "channels": int,
    "height": int,
    "width": int,
    "dtype": str,
    "layout": str,
    "options": dict,
}
MEASURED = {
    "microseconds": float,
    "iqr_microseconds": float,
    "samples": int,
    "calls": int,
    "input_sets": int,
    "bytes": int,
}
# null for a run without a GPU: what fits in a processor's caches says nothing about memory
ON_GPU = {"floor_microseconds": float, "gigabytes_per_second": float, "copy_fraction": float, "peak_bytes": int}
HOST = {
    "operation": str,
    "pass": str,
    "provider": str,
    "microseconds": float,
    "iqr_microseconds": float,
    "samples": int,
}
FAILED_HOST = {"operation": str, "pass": str, "provider": str, "error": str}
MACHINE = {
    "processor": str,
    "cores": int,
    "gpu": str,
    "driver": str,
    "cuda": str,
    "python": str,
    "torch": str,
    "triton": str,
    "date": str,
    "commit": str,
    "sources": str,
}
COPY = {"gigabytes_per_second": float, "bytes": int, "microseconds": float, "iqr_microseconds": float}
LOADERS = ("resident", "dali", "pillow")
LOADER_ROW = {
    "loader": str,
    "batch": int,
    "threads": int,
    "images_per_second": float,
    "iqr_images_per_second": float,
    "images_per_core_second": float,
    "samples": int,
    "images": int,
}
LOADER_DATA = {"images": int, "width": int, "height": int, "size": int, "bytes_per_file": float}


class SchemaError(ValueError):
    """A results file that does not say what it must; the message names the value."""


def identity(row: dict) -> tuple:
    """What a row is about, as something to sort and to look up by."""
    return tuple(tuple(sorted(row[name].items())) if name == "options" else row[name] for name in KEY)


def on_gpu(document: dict) -> bool:
    return document["machine"]["gpu"] != "not used"


def derive(microseconds: float, moved: int, copy: dict | None) -> dict[str, float | None]:
    """What follows from a time and the bytes that had to move; None on a machine whose copy was not measured."""
    if copy is None:
        return {"floor_microseconds": None, "gigabytes_per_second": None, "copy_fraction": None}
    floor = moved / copy["gigabytes_per_second"] / 1e3
    return {
        "floor_microseconds": floor,
        "gigabytes_per_second": moved / microseconds / 1e3,
        "copy_fraction": floor / microseconds,
    }


def check(document: dict) -> None:
    """Raise SchemaError at the first value that is missing, of the wrong kind, impossible, or at odds with another."""
    require_fields(
        document,
        {"schema": int, "machine": dict, "rows": list, "host": list, "not_measured": list, "seconds": float},
        "document",
    )
    _check_machine(document, MACHINE)
    gpu = on_gpu(document)
    copy = document.get("copy")
    if gpu:
        require(isinstance(copy, dict), "copy", "a GPU run must hold the bandwidth of a copy")
        require_fields(copy, COPY, "copy")
    else:
        require(copy is None, "copy", "must be null in a run without a GPU")
    require(bool(document["rows"]), "rows", "nothing was measured")
    identities: set[tuple] = set()
    for i, row in enumerate(document["rows"]):
        where = f"rows[{i}]"
        _check_key(row, where)
        require(identity(row) not in identities, where, f"measured twice: {identity(row)}")
        identities.add(identity(row))
        if "error" in row:
            require_fields(row, {"error": str}, where)
            require(not row.keys() & MEASURED.keys(), where, "holds both an error and a measurement")
        else:
            _check_measurement(row, copy, where)
    for i, row in enumerate(document["host"]):
        require_fields(row, HOST if "error" not in row else FAILED_HOST, f"host[{i}]")
    for i, row in enumerate(document["not_measured"]):
        where = f"not_measured[{i}]"
        _check_key(row, where)
        require_fields(row, {"reason": str}, where)
        require(identity(row) not in identities, where, "is among the measured rows too")


def check_loaders(document: dict) -> None:
    """The same for a document of loaders."""
    require_fields(
        document,
        {"schema": int, "kind": str, "machine": dict, "data": dict, "rows": list, "seconds": float},
        "document",
    )
    require(document["kind"] == "loaders", "document.kind", f"{document['kind']!r} is not 'loaders'")
    _check_machine(document, {**MACHINE, "pillow": str, "dali": str, "load": float})
    require_fields(document["data"], LOADER_DATA, "data")
    require(bool(document["rows"]), "rows", "nothing was measured")
    for i, row in enumerate(document["rows"]):
        where = f"rows[{i}]"
        require_fields(row, LOADER_ROW, where)
        require(row["loader"] in LOADERS, f"{where}.loader", f"{row['loader']!r} is not one of {', '.join(LOADERS)}")
        for name in LOADER_ROW.keys() - {"loader", "iqr_images_per_second"}:
            require(row[name] > 0, f"{where}.{name}", f"{row[name]} is not above 0")
    names = [row["loader"] for row in document["rows"]]
    require(len(set(names)) == len(names), "rows", f"a loader is listed twice: {names}")


def _check_machine(document: dict, fields: dict[str, type]) -> None:
    require(document["schema"] == SCHEMA, "document", f"schema {document['schema']}, this checker knows {SCHEMA}")
    require_fields(document["machine"], fields, "machine")
    try:
        datetime.date.fromisoformat(document["machine"]["date"])
    except ValueError as error:
        raise SchemaError(f"machine.date: {error}") from None


def _check_key(row: dict, where: str) -> None:
    require_fields(row, KEY, where)
    for name, allowed in (("pass", PASSES), ("provider", PROVIDERS), ("dtype", DTYPES), ("layout", LAYOUTS)):
        require(row[name] in allowed, f"{where}.{name}", f"{row[name]!r} is not one of {', '.join(allowed)}")
    for name in ("batch", "channels", "height", "width"):
        require(row[name] > 0, f"{where}.{name}", f"{row[name]} is not a size")


def _check_measurement(row: dict, copy: dict | None, where: str) -> None:
    require_fields(row, MEASURED, where)
    for name in ("microseconds", "samples", "calls", "input_sets", "bytes"):
        require(row[name] > 0, f"{where}.{name}", f"{row[name]} is not above 0")
    require(row["iqr_microseconds"] >= 0, f"{where}.iqr_microseconds", "below 0")
    if copy is None:
        for name in ON_GPU:
            require(row.get(name, 0) is None, f"{where}.{name}", "must be null in a run without a GPU")
        return
    require_fields(row, ON_GPU, where)
    for name, value in derive(row["microseconds"], row["bytes"], copy).items():
        require(
            math.isclose(row[name], value, rel_tol=1e-3),
            f"{where}.{name}",
            f"{row[name]} does not follow from time, bytes and copy bandwidth: {value:.6g}",
        )


def require_fields(row: object, fields: dict[str, type], where: str) -> None:
    """Raise SchemaError unless `row` has these fields, each of its type."""
    require(isinstance(row, dict), where, f"must be an object, is {type(row).__name__}")
    for name, kind in fields.items():
        require(name in row, where, f"lacks {name!r}")
        value = row[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        right = number and math.isfinite(value) if kind is float else type(value) is kind
        require(
            right, f"{where}.{name}", f"must be a {'finite number' if kind is float else kind.__name__}, is {value!r}"
        )


def require(condition: bool, where: str, what: str) -> None:
    """Raise SchemaError(where: what) unless the condition holds."""
    if not condition:
        raise SchemaError(f"{where}: {what}")
