"""Pictures of a GPU run for docs/performance.md, drawn by report.py from its JSON. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from benchmarks.kernels.tables import HEADLINE_BATCH, OURS, SHORT, Rows, headline, main_layout, of

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

# Ours stands out; the others are told apart by lightness as well as by hue, for those who do not see colours.
COLOURS = {
    "eager": "#c9ccd1",
    "best-eager": "#8f959e",
    "kornia": "#e3b778",
    "compile": "#86b3d9",
    "compile-max": "#4a7fb0",
    "triton": "#c8443a",
    "cuda": "#7a3fa0",
}
NAMES = {
    "eager": "eager (the definition)",
    "best-eager": "best eager",
    "kornia": "kornia",
    "compile": "torch.compile",
    "compile-max": "torch.compile, max-autotune",
    "triton": "tmgan_kernels, Triton",
    "cuda": "tmgan_kernels, CUDA C++",
}
INK, FAINT = "#2b2f36", "#d9dce1"
Lines = Sequence[tuple[str, dict[str, dict]]]


def draw(document: dict, path: Path) -> None:
    """One PNG: a row of bars for each type and pass, then batch sizes, then the stages of the generator."""
    rows = Rows(document)
    panels = [
        (f"{title}, {SHORT[dtype]}", headline(rows, dtype, which))
        for dtype in ("float32", "bfloat16")
        for title, which in (("Forward", "forward"), ("Backward", "backward"))
    ]
    providers = [name for name in COLOURS if any(name in line for line in rows.lines.values())]
    with plt.rc_context(
        {
            "font.size": 9,
            "text.color": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.edgecolor": FAINT,
            "font.family": "DejaVu Sans",
        }
    ):
        figure = plt.figure(figsize=(13, 15.5), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.12, w_pad=0.15)
        grid = figure.add_gridspec(5, 2, height_ratios=[1, 1, 1, 1, 1.35])
        for i, (title, lines) in enumerate(panels):
            _bars(figure.add_subplot(grid[i, :]), f"{title}: batch {HEADLINE_BATCH}, 256x256", lines, providers)
        _batches(figure.add_subplot(grid[4, 0]), rows)
        _bars(
            figure.add_subplot(grid[4, 1]),
            f"instance_norm_glu by stage, bf16, forward, batch {HEADLINE_BATCH}",
            _stages(rows),
            providers,
        )
        machine = document["machine"]
        figure.suptitle(
            f"Time that the bytes alone need, over time taken   |   {machine['gpu']}, copy "
            f"{document['copy']['gigabytes_per_second']:,.0f} GB/s, torch {machine['torch']}, "
            f"{machine['date']}",
            fontsize=11,
        )
        figure.legend(
            handles=[Patch(color=COLOURS[name], label=NAMES[name]) for name in providers],
            loc="outside lower center",
            ncols=len(providers),
            frameon=False,
        )
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)


def _stages(rows: Rows) -> Lines:
    lines = rows.select(
        operation="instance_norm_glu", batch=HEADLINE_BATCH, dtype="bfloat16", layout="nhwc", **{"pass": "forward"}
    )
    return [(f"{row['channels']}x{row['height']}²", line) for line in lines for row in [next(iter(line.values()))]]


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)


def _bars(axes: Axes, title: str, lines: Lines, providers: Sequence[str]) -> None:
    _style(axes, title)
    width = 0.86 / max(len(providers), 1)
    for group, (_, line) in enumerate(lines):
        present = [name for name in providers if name in line]
        for i, name in enumerate(present):
            x = group + (i - (len(present) - 1) / 2) * width
            fraction = of(line, name, "copy_fraction")
            if fraction is None:
                axes.text(x, 0.01, "failed", rotation=90, ha="center", va="bottom", fontsize=7)
                continue
            axes.bar(x, fraction, width * 0.92, color=COLOURS[name])
            if name == OURS:
                axes.text(
                    x,
                    fraction + 0.02,
                    f"{fraction:.0%}",
                    ha="center",
                    va="bottom",
                    fontsize=8,
                    fontweight="bold",
                    color=COLOURS[OURS],
                )
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xticks(range(len(lines)), [name.replace("_", "\n", 1) for name, _ in lines], fontsize=8)
    axes.set_xlim(-0.6, max(len(lines), 1) - 0.4)
    axes.set_ylim(
        0,
        max(1.12, *(1.1 * row.get("copy_fraction", 0) for _, line in lines for row in line.values()))
        if lines
        else 1.12,
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)


def _batches(axes: Axes, rows: Rows) -> None:
    """How much of the copy bandwidth ours reaches with more images."""
    _style(axes, "tmgan_kernels by batch, fp32, forward (gradient gains: backward)")
    shades = {16: "#eab0ab", 64: COLOURS[OURS], 256: "#6e1f19"}
    operations: dict[str, dict[int, float]] = {}
    for line in rows.lines.values():
        row = line.get(OURS, {})
        main = row.get("pass") == "forward" or row.get("operation") in ("scale_gradient", "sharp_gradient")
        if "microseconds" in row and main and main_layout(row) and row["height"] == 256 and row["dtype"] != "bfloat16":
            operations.setdefault(row["operation"], {}).setdefault(row["batch"], row["copy_fraction"])
    for y, (_, fractions) in enumerate(operations.items()):
        axes.plot([min(fractions.values()), max(fractions.values())], [y, y], color=FAINT, linewidth=2, zorder=1)
        for batch, fraction in fractions.items():
            axes.scatter(fraction, y, s=34, color=shades.get(batch, INK), zorder=2)
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(operations)), list(operations))
    axes.invert_yaxis()
    axes.set_xlim(0, max([1.05] + [f for each in operations.values() for f in each.values()]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", color=colour, label=f"{batch} images")
            for batch, colour in shades.items()
        ],
        frameon=False,
        ncols=3,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.4, -0.06),
    )
