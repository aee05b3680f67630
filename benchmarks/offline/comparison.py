"""The measured step of a GPU beside the prediction, by component and label, and the rates that follow from it.

Each operator of a profile (benchmarks/gpu/profile.py) is found again among the counted ones by its name and the sizes
of its tensors, generated kernels as one sum per component.

A corrected rate is a plain ratio of sums: over all rows that the rate binds, predicted by measured time, times the
rate. What binds a row, arithmetic or memory, is decided by the rates as they were. Rows that only one side has are left
out, and listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.schema import require, require_fields

from . import counting, predict, rates, text
from .counting import CONVOLUTION, OTHER, OURS, PRODUCT

ENGINE = "compiled"  # whose profile the document has
JOINED = " + "  # between graphs that a profile could not tell apart
SEVERAL = "several"  # rates bind calls of one operator with the same sizes, by their strides
# Of a profile, per step: which graph, what kind of work, for which operator with tensors of which sizes ("" where they
# were not asked for), seconds on the GPU and kernels; the label LAUNCHES has the gaps before the component's kernels.
ROW = {"component": str, "label": str, "what": str, "sizes": str, "seconds": float, "kernels": float}
LISTED = 1e-4  # seconds from which a row that only one side has is listed


class Pair(NamedTuple):
    """What was counted and predicted, and what was measured, under one component, label, operator and sizes.

    Attributes:
        flop, bytes, launches: counted, per step; 0 where nothing was.
        predicted, measured: seconds per step; 0 where there is none.
        bound: the rate that binds it; SEVERAL, or "" where nothing was counted.
        kernels: measured, per step.
    """

    component: str
    label: str
    what: str
    sizes: str
    flop: int = 0
    bytes: int = 0
    launches: int = 0
    predicted: float = 0.0
    bound: str = ""
    measured: float = 0.0
    kernels: float = 0.0


class Correction(NamedTuple):
    """A rate that follows from a measurement: over how many rows, and how many measured seconds."""

    value: float
    rows: int
    seconds: float


def written(sizes: Iterable[Sequence[int]]) -> str:
    """Sizes of tensors as a row has them: "40x3x299x299 32x3x3x3"."""
    return " ".join("x".join(map(str, size)) for size in sizes)


def check(document: dict) -> None:
    """Raise SchemaError unless the document's components can be compared with a prediction."""
    rows = document.get("components")
    require(bool(rows), "components", f"no profile of the {ENGINE} step; 1-step.sh makes one on a GPU")
    for i, row in enumerate(rows):
        require_fields(row, ROW, f"components[{i}]")
        require(row["seconds"] >= 0, f"components[{i}].seconds", f"must not be negative, is {row['seconds']}")
        require(row["kernels"] > 0, f"components[{i}].kernels", f"must be more than 0, is {row['kernels']}")


def card_of(document: dict) -> str:
    """Its card's name in rates.py. Raises ValueError for another one."""
    gpu = document["machine"]["gpu"]
    for card in rates.CARDS:
        if re.search(rf"\b{card}\b", gpu):
            return card
    raise ValueError(f"measured on {gpu!r}; rates.py knows {', '.join(rates.CARDS)}: add its data sheet there")


def fits(document: dict, report: dict) -> bool:
    """Whether the report is of the step that the document measured."""
    settings = document["settings"]
    return (
        (settings["preset"], settings["batch"]) == (report["preset"], report["batch"])
        and settings["precision"] == "bf16"
        and report["thin"] is None
        and report["only"] is None
    )


# --------------------------------------------------------------- the two sides
def pairs(document: dict, report: dict, table: predict.Table = rates.assumed) -> list[Pair]:
    """Each counted row with what was measured for it, and what only one side has.

    Raises:
        ValueError: where the report is of another step.
    """
    if not fits(document, report):
        settings = {name: document["settings"][name] for name in ("preset", "batch", "precision")}
        raise ValueError(f"the document measured {settings}, the report counts {report['preset']} {report['batch']}")
    card = card_of(document)
    joined = {part: row["component"] for row in document["components"] for part in row["component"].split(JOINED)}
    found: dict[tuple[str, ...], Pair] = {}

    def add(key: tuple[str, ...], bound: str = "", **values) -> None:
        pair = found.get(key, Pair(*key))
        sums = {name: getattr(pair, name) + value for name, value in values.items()}
        found[key] = pair._replace(**sums, bound=pair.bound if bound in ("", pair.bound) else bound)
        if bound and pair.bound and bound != pair.bound:
            found[key] = found[key]._replace(bound=SEVERAL)

    rate = table(card)
    for graph in (*report["graphs"], predict.outside(report)):
        component = joined.get(graph["graph"], graph["graph"])
        for row in graph["rows"]:
            binds = predict.bounds(row, card, table)
            bound = max(binds, key=lambda name: binds[name])
            atomics = row["atomics"] / rate[rates.ATOMICS_PER_SECOND].value
            add(
                (component, predict.label(row), *_operator(row)),
                rates.ATOMICS_PER_SECOND if atomics > binds[bound] else bound,
                **{name: row[name] for name in ("flop", "bytes", "launches")},
                predicted=binds[bound] + atomics,
            )
            gaps = row["launches"] * rate[rates.LAUNCH_SECONDS].value
            key = (component, predict.LAUNCHES, "", "")
            add(key, rates.LAUNCH_SECONDS, launches=row["launches"], predicted=gaps)
    for row in document["components"]:
        summed = row["label"] in (counting.FUSED, predict.LAUNCHES)
        operator = ("", "") if summed else (row["what"], row["sizes"])
        add((row["component"], row["label"], *operator), measured=row["seconds"], kernels=row["kernels"])
    return list(found.values())


def _operator(row: dict) -> tuple[str, str]:
    if row["kind"] in (CONVOLUTION, PRODUCT, OURS):
        what, sizes = counting.identity(row["what"], counting.sizes_of(row))
        return what, written(sizes)
    return (row["what"], "") if row["kind"] == OTHER else ("", "")


def one_sided(both: list[Pair]) -> list[Pair]:
    """What was counted and not measured, or measured and not counted, and takes LISTED or more."""
    alone = [pair for pair in both if not (pair.predicted and pair.measured)]
    return sorted((pair for pair in alone if _time(pair) >= LISTED), key=_time, reverse=True)


def _time(pair: Pair) -> float:
    return max(pair.predicted, pair.measured)


# -------------------------------------------------------------------- the rates
def timed_step(document: dict) -> float | None:
    """Seconds of a step without a profiler; None where the document has none."""
    steps = [row["seconds"] for row in document["rows"] if (row["engine"], row["part"]) == (ENGINE, "step")]
    return steps[0] if steps else None


def corrected(document: dict, both: list[Pair], table: predict.Table = rates.assumed) -> dict[str, Correction]:
    """The rates that the measurement gives, by name; those that bind nothing are missing.

    Gaps are longer under a profiler, so the launch takes what a timed step has beyond its kernels, if that is less.
    """
    before = table(card_of(document))
    corrections: dict[str, Correction] = {}
    for name in before:
        bound = [pair for pair in both if pair.bound == name and pair.predicted and pair.measured]
        if bound:
            predicted, measured = (sum(getattr(pair, side) for pair in bound) for side in ("predicted", "measured"))
            corrections[name] = Correction(before[name].value * predicted / measured, len(bound), measured)
    if rates.SWEEPS_TWICE in corrections:  # it multiplies a time, of the rate of ours as it is now
        found = corrections[rates.SWEEPS_TWICE]
        times = before[rates.SWEEPS_TWICE].value ** 2 / found.value
        ours = corrections[rates.OURS].value / before[rates.OURS].value if rates.OURS in corrections else 1.0
        corrections[rates.SWEEPS_TWICE] = found._replace(value=times * ours)
    gaps = [pair for pair in both if pair.label == predict.LAUNCHES and pair.kernels]
    if gaps:
        seconds, kernels = sum(pair.measured for pair in gaps), sum(pair.kernels for pair in gaps)
        busy, step = sum(pair.measured for pair in both) - seconds, timed_step(document)
        seconds = seconds if step is None else min(seconds, step - busy)
        corrections.pop(rates.LAUNCH_SECONDS, None)
        if seconds > 0:
            corrections[rates.LAUNCH_SECONDS] = Correction(seconds / kernels, len(gaps), seconds)
    return corrections


def source_lines(document: dict, file: str, corrections: dict[str, Correction]) -> list[str]:
    """The card's entry of rates.MEASURED, as Python."""
    why = f"measured, {file}, {document['machine']['date']}"
    lines = [f'        "{name}": Rate({found.value:.3g}, "{why}"),' for name, found in corrections.items()]
    return [f'    "{card_of(document)}": {{', *lines, "    },"]


# ------------------------------------------------------------------- the tables
HEAD = (
    "component",
    "label",
    "GFLOP",
    "GB",
    "predicted ms",
    "measured ms",
    "measured / predicted",
    "TFLOP/s",
    "of the peak",
    "GB/s",
    "of the memory",
)


def table_rows(document: dict, both: list[Pair]) -> list[tuple[str, ...]]:
    """HEAD, a row per component and label, a sum per component, and that of the step."""
    card = rates.CARDS[card_of(document)]
    components = list(dict.fromkeys(pair.component for pair in both))
    rows = [HEAD]
    for component in components:
        inside = [pair for pair in both if pair.component == component]
        for label in sorted({pair.label for pair in inside}, key=text.place):
            rows.append(_row(card, component, label, [pair for pair in inside if pair.label == label]))
        rows.append(_row(card, component, "sum", inside))
    return [*rows, _row(card, "step", "sum", both)]


def _row(card: rates.Card, component: str, label: str, members: list[Pair]) -> tuple[str, ...]:
    kernels = [pair for pair in members if pair.label != predict.LAUNCHES]
    flop, moved = sum(pair.flop for pair in kernels), sum(pair.bytes for pair in kernels)
    predicted, measured = sum(pair.predicted for pair in members), sum(pair.measured for pair in members)
    peak = card.fp32_tflops if label.endswith("fp32") else card.bf16_tflops
    tflops = flop / measured / 1e12 if measured else 0.0
    gigabytes = moved / measured / 1e9 if measured else 0.0
    return (
        component,
        label,
        f"{flop / 1e9:,.1f}" if flop else "",
        f"{moved / 1e9:.3f}" if moved else "",
        f"{1e3 * predicted:.3f}",
        f"{1e3 * measured:.3f}",
        f"{measured / predicted:.2f}" if predicted else "",
        f"{tflops:.1f}" if tflops else "",
        f"{tflops / peak:.1%}" if tflops else "",
        f"{gigabytes:,.0f}" if gigabytes else "",
        f"{gigabytes / card.gigabytes_per_second:.1%}" if gigabytes else "",
    )


def rate_rows(document: dict, corrections: dict[str, Correction]) -> list[tuple[str, ...]]:
    """Head and one row per rate: as assumed, as it follows, and from how much."""
    before = rates.assumed(card_of(document))
    return [
        ("rate", "assumed", "measured", "rows", "ms per step"),
        *(
            (name, f"{before[name].value:g}", f"{c.value:.3g}", str(c.rows), f"{1e3 * c.seconds:.2f}")
            for name, c in corrections.items()
        ),
    ]


def slower_rows(both: list[Pair], count: int = 12) -> list[tuple[str, ...]]:
    """Head and the operators of known sizes that take most beyond what was predicted."""
    late = [pair for pair in both if pair.sizes and pair.predicted and pair.measured > pair.predicted]
    late.sort(key=lambda pair: pair.predicted - pair.measured)
    return [
        ("component", "label", "operator, sizes", "bound by", "predicted ms", "measured ms"),
        *((p.component, p.label, f"{p.what} {p.sizes}", p.bound, *_milliseconds(p)) for p in late[:count]),
    ]


def _milliseconds(pair: Pair) -> tuple[str, str]:
    return f"{1e3 * pair.predicted:.3f}", f"{1e3 * pair.measured:.3f}"


def one_sided_rows(both: list[Pair]) -> list[tuple[str, ...]]:
    """Head and one row per operator that only one side has."""
    return [
        ("component", "label", "operator, sizes", "predicted ms", "measured ms"),
        *((p.component, p.label, f"{p.what} {p.sizes}".strip(), *_milliseconds(p)) for p in one_sided(both)),
    ]
