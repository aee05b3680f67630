"""Pieces of Markdown that several pages of results share."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import schema


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table; its first column is flush left, the others flush right."""
    rules = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rules, *body))


def machine_line(document: dict, file: str) -> str:
    """Where a document was measured, with a link to it."""
    m = document["machine"]
    where = (
        f"{m['gpu']} (driver {m['driver']}, CUDA {m['cuda']})"
        if schema.on_gpu(document)
        else f"{m['cores']} cores of {m['processor']}"
    )
    return (
        f"{where}, torch {m['torch']}, Triton {m['triton']}, Python {m['python']}, {m['date']}, commit "
        f"{m['commit']}, in [`{file}`](../benchmarks/results/{file})."
    )
