"""The memory section of docs/performance.md, as markdown, from benchmarks/results/memory-*.json (see memory.py)."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.markdown import table
from benchmarks.offline.memory import PARTS, SCHEMA, SETTINGS

CARD = 16 * 2**30  # bytes of the card that is asked about
RESERVE = 1.5 * 2**30  # assumption: what CUDA itself, cuDNN's workspaces and the allocator's rounding take of it


class CountError(ValueError):
    """A document of counts that cannot be one."""


def check(document: dict) -> None:
    """Raise CountError unless the counts are whole and possible."""
    about = ("schema", "kind", "preset", "batch", "precision", "engine", "compiled_for", "torch", "commit", "date")
    for key in (*about, *SETTINGS):
        if key not in document:
            raise CountError(f"lacks {key!r}")
    if document["kind"] != "memory" or document["schema"] != SCHEMA:
        raise CountError(f"is not a count of memory of schema {SCHEMA}")
    for setting in SETTINGS:
        counts = document[setting]
        if list(counts["bytes"]) != list(PARTS.values()):
            raise CountError(f"{setting}: has the parts {list(counts['bytes'])}")
        for part, (left, most) in counts["bytes"].items():
            if not 0 < counts["owned"] <= left <= most:
                raise CountError(f"{setting}, {part}: {left} bytes left and {most} at most")
        if counts["flop"] <= 0:
            raise CountError(f"{setting}: no arithmetic")


def peak(counts: dict) -> int:
    """Bytes at most in a step."""
    return max(most for _, most in counts["bytes"].values())


def largest_batch(document: dict, setting: str) -> int:
    """Images that fill the card, predicted: activations grow with the batch, weights and optimisers do not."""
    counts = document[setting]
    per_image = (peak(counts) - counts["owned"]) / document["batch"]
    return int((CARD - RESERVE - counts["owned"]) / per_image)


def load(path: Path) -> dict:
    document = json.loads(path.read_text())
    check(document)
    return document


def section(results: Path) -> str:
    """One row per preset, precision and setting."""
    files = sorted(results.glob("memory-*.json"))
    documents = [load(path) for path in files]
    head = (
        "GiB at most in",
        "weights, Adam, average, batch",
        *PARTS.values(),
        "step",
        "TFLOP",
        "fits 16 GB, predicted",
        "images that fill it, predicted",
    )
    body = []
    for document in documents:
        for setting in SETTINGS:
            counts = document[setting]
            more = counts["flop"] / document["normal"]["flop"] - 1
            fits = "yes" if peak(counts) + RESERVE <= CARD else "no"
            body.append(
                (
                    f"`{document['preset']}`, batch {document['batch']}, {document['precision']}, "
                    f"{document['engine']}, {setting}",
                    _gib(counts["owned"]),
                    *(_gib(counts["bytes"][part][1]) for part in PARTS.values()),
                    _gib(peak(counts)),
                    f"{counts['flop'] / 1e12:.2f}" + (f" (+{more:.0%})" if setting == "low" else ""),
                    fits,
                    str(largest_batch(document, setting)),
                )
            )
    about = ", ".join(
        f"[`{path.name}`](../benchmarks/results/{path.name}) (torch {document['torch']}, commit {document['commit']})"
        for path, document in zip(files, documents, strict=True)
    )
    card = documents[0]["compiled_for"]
    return (
        f"For an {card} that was not there, 256 pixels: {about}. A prediction: a step fits where "
        f"{RESERVE / 2**30:.1f} GiB of {CARD / 2**30:.0f} stay free for what is not counted.\n\n" + table(head, body)
    )


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f}"
