"""The report as rows of tables: what was counted, and what it predicts; plain() aligns them for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from . import rates
from .counting import KINDS
from .predict import predict

Row = tuple[str, ...]


def totals(rows: list[dict]) -> dict:
    """Sums over kernels: calls and bytes by kind, FLOPs, launches, atomics, changes of layout."""
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    return {
        "calls": {kind: len(members) for kind, members in kinds.items()},
        "bytes": {kind: sum(row["bytes"] for row in members) for kind, members in kinds.items()},
        "all_bytes": sum(row["bytes"] for row in rows),
        "flop": sum(row["flop"] for row in rows),
        "launches": sum(row["launches"] for row in rows),
        "atomics": sum(row["atomics"] for row in rows),
        "layout": sum(bool(row["layout"]) for row in rows),
    }


def whole(report: dict) -> dict:
    """totals() of the three graphs together; launches include those outside."""
    sums = totals([row for graph in report["graphs"] for row in graph["rows"]])
    return {**sums, "launches": sums["launches"] + sum(row["launches"] for row in report["outside"])}


def count_rows(report: dict) -> list[Row]:
    """Head, one row per graph, what is outside, and their sum."""
    head = (
        "",
        *(f"{kind}, GB" for kind in KINDS),
        "sum, GB",
        "TFLOP",
        "generated kernels",
        "launches",
        "float atomics",
        "changes of layout",
    )
    rows = [(graph["graph"], *_counts(totals(graph["rows"]))) for graph in report["graphs"]]
    rows += [
        (row["what"], *[""] * len(KINDS), f"{row['bytes'] / 1e9:.2f}", "", "", str(row["launches"]), "", "")
        for row in report["outside"]
    ]
    return [head, *rows, ("step, its bytes without the rows outside the graphs", *_counts(whole(report)))]


def _counts(sums: dict) -> Row:
    return (
        *(f"{sums['bytes'][kind] / 1e9:.2f}" for kind in KINDS),
        f"{sums['all_bytes'] / 1e9:.2f}",
        f"{sums['flop'] / 1e12:.3f}",
        str(sums["calls"][KINDS[0]]),
        f"{sums['launches']:,}",
        f"{sums['atomics'] / 1e6:.0f} M" if sums["atomics"] else "0",
        str(sums["layout"]),
    )


def prediction_rows(report: dict, card: str) -> list[Row]:
    """Head and one row per kind of work: predicted milliseconds per step in each component."""
    parts = predict(report)[card]
    labels = sorted({label for times in parts.values() for label in times}, key=place)
    rows = [
        (
            label,
            *(f"{1e3 * times[label]:.2f}" if times.get(label) else "" for times in parts.values()),
            f"{1e3 * sum(times.get(label, 0.0) for times in parts.values()):.2f}",
        )
        for label in labels
    ]
    sums = [sum(times.values()) for times in parts.values()]
    return [
        (f"{card}, predicted ms", *parts, "step"),
        *rows,
        ("sum", *(f"{1e3 * each:.2f}" for each in sums), f"{1e3 * sum(sums):.2f}"),
    ]


def place(label: str) -> tuple:
    """Where a label stands among others, as a key to sort by."""
    return (
        next(
            (
                number
                for number, kind in enumerate(("convolutions", "products", "fused", "our", "other", "float"))
                if label.startswith(kind)
            ),
            9,
        ),
        "more" in label,
        len(label),
        label,
    )


def step_seconds(report: dict) -> dict[str, float]:
    """Predicted seconds of a whole step by card."""
    return {card: sum(sum(times.values()) for times in parts.values()) for card, parts in predict(report).items()}


def largest(report: dict, count: int = 12) -> list[Row]:
    """The nodes that move most."""
    rows = [(graph["graph"], row) for graph in report["graphs"] for row in graph["rows"]]
    rows.sort(key=lambda pair: -pair[1]["bytes"])
    return [
        ("graph", "kind", "MB", "what"),
        *((name, row["kind"], f"{row['bytes'] / 1e6:.0f}", describe(row)) for name, row in rows[:count]),
    ]


def describe(row: dict) -> str:
    detail = ", ".join(row["of"]) if row["of"] else ", ".join(row["inputs"][:3])
    return f"{row['what']}: {detail}"  # a fused kernel: how many nodes it is of, and the operations they come from


def changes(report: dict, count: int = 12) -> list[Row]:
    """The changes of layout that move most, and how many others there are."""
    rows = [
        (graph["graph"], row["bytes"], row["layout"][0])
        for graph in report["graphs"]
        for row in graph["rows"]
        if row["layout"]
    ]
    rows.sort(key=lambda row: -row[1])
    rest = [("", f"{sum(row[1] for row in rows[count:]) / 1e6:.0f}", f"in {len(rows) - count} others")]
    return [
        ("graph", "MB", "change of layout"),
        *((name, f"{moved / 1e6:.0f}", what) for name, moved, what in rows[:count]),
        *(rest if len(rows) > count else []),
    ]


def atomics(report: dict) -> list[Row]:
    """Every kernel with float atomics."""
    rows = [
        (graph["graph"], f"{row['atomics'] / 1e6:.1f}", describe(row))
        for graph in report["graphs"]
        for row in graph["rows"]
        if row["atomics"]
    ]
    return [("graph", "millions", "float atomics"), *rows]


def plain(report: dict) -> str:
    """All of it, for a terminal."""
    parts = [
        f"Counted: preset {report['preset']}, batch {report['batch']}, compiled for {report['compiled_for']} by "
        f"torch {report['torch']}, Triton {report['triton']}, commit {report['commit']}.",
        align(count_rows(report)),
        align(largest(report)),
        align(atomics(report)),
        align(changes(report)),
        "PREDICTED from these counts and benchmarks/offline/rates.py, nothing was measured:",
    ]
    return "\n\n".join([*parts, *(align(prediction_rows(report, card)) for card in rates.CARDS)])


def align(rows: Iterable[Row]) -> str:
    """Rows as lines of text: the first column flush left, the others flush right."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width) if column < len(row) - 1 or len(cell) < 16 else cell
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
