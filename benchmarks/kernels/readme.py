"""The operations' sections of kernels/README.md: signature, picture, formula, speed. The code below each is typed."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Sequence

import tmgan_kernels
from benchmarks.kernels import tables
from benchmarks.markdown import table

NOT_MEASURED = "Speed: not measured."


def sections(runs: Sequence[dict]) -> dict[str, str]:
    """Marker in the page -> what stands there, for every operation.

    Args:
        runs: the documents of kernel results that were measured on GPUs, one per kind of GPU.
    """
    return {f"operation {name}": section(name, runs) for name in tmgan_kernels.__all__}


def section(name: str, runs: Sequence[dict]) -> str:
    module = importlib.import_module(f"tmgan_kernels.{name}")
    about, formula = described(module.__doc__ or "")
    return "\n\n".join(
        [
            f"### {name}",
            f"![{name}](pictures/{name}.png)",
            f"`{signature(name)}`",
            about,
            f"```\n{formula}\n```",
            speed(name, runs),
        ]
    )


def signature(name: str) -> str:
    """The call as a user types it: without types, and without impl, which all of them have."""
    parameters = inspect.signature(getattr(tmgan_kernels, name)).parameters.values()
    written = [
        parameter.name
        if parameter.default is parameter.empty
        else f"{parameter.name}={parameter.default!r}".replace("'", '"')
        for parameter in parameters
        if parameter.name != "impl"
    ]
    return f"{name}({', '.join(written)})"


def described(docstring: str) -> tuple[str, str]:
    """The first paragraph of a module's docstring on one line, and the indented formula below it."""
    match = re.match(r"(.+?)\n\n((?: {4}[^\n]*\n)+)", inspect.cleandoc(docstring) + "\n", re.S)
    assert match, docstring
    return " ".join(match[1].split()), textwrap.dedent(match[2]).rstrip()


def speed(name: str, runs: Sequence[dict]) -> str:
    """A row for every GPU, pass and type; the sentence that there is none where no GPU has run it."""
    body = []
    for run in runs:
        rows = tables.Rows(run)
        for which in ("forward", "backward"):
            for dtype, short in (("float32", "fp32"), ("bfloat16", "bf16")):
                line = dict(tables.headline(rows, dtype, which)).get(name)
                if line is not None and tables.OURS in line:
                    size = tables.size_of(line[tables.OURS])
                    body.append((run["machine"]["gpu"], f"{which}, {short}, {size}", *tables.against(line)))
    return table(("GPU", "", "µs", "of copy", "eager", "fastest other"), body) if body else NOT_MEASURED
