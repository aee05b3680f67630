"""The offline report's section of docs/performance.md, as markdown, from benchmarks/results/offline-*.json.

STEPS lists the reports of one preset, in the order of the changes, OTHERS those of other presets: add a line for each,
with a title, and run `python -m benchmarks.report`.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import schema
from benchmarks.markdown import machine_line, table
from benchmarks.offline import comparison, rates, text
from benchmarks.offline.counting import KINDS

RESULTS = Path(__file__).parents[1] / "results"
STEPS = (
    ("offline-combined-batch40-before.json", "before the changes"),
    ("offline-combined-batch40-doubling.json", "nearest doubling as a gather, the average in three calls"),
    ("offline-combined-batch40-gathers.json", "pooling and resizing as gathers"),
    ("offline-combined-batch40-vgg.json", "VGG's bias and ReLU behind its pooling"),
    ("offline-combined-batch40-perceptual.json", "the perceptual loss's difference worked out again"),
    ("offline-combined-batch40-inception.json", "Inception's pooled ReLUs, and 1x1 convolutions of one input as one"),
    ("offline-combined-batch40-layout.json", "no kernel changes the memory layout"),
    ("offline-combined-batch40-recompute.json", "the discriminator's derivatives worked out again"),
    ("offline-combined-batch40-guard.json", "guard of the gradients and signs of a failing training, both new"),
)
OTHERS = (
    ("offline-manigan-batch32.json", "`manigan`, batch 32"),
    ("offline-manigan-dcm-batch32.json", "`manigan-dcm`, batch 32"),
    ("offline-editor-batch32.json", "`editor`, batch 32"),
)
PINNED = "2.14"  # the torch whose generated kernels the tests hold to the last of STEPS


class OfflineError(ValueError):
    """A report that cannot be one."""


def check(document: dict) -> None:
    """Raise OfflineError unless this is a whole report whose numbers agree with each other."""
    for key in ("schema", "kind", "preset", "batch", "torch", "triton", "commit", "date", "graphs", "outside"):
        if key not in document:
            raise OfflineError(f"lacks {key!r}")
    if document["kind"] != "offline" or document["schema"] != 1:
        raise OfflineError(f"is not an offline report of schema 1: {document['kind']!r}, {document['schema']}")
    for graph in document["graphs"]:
        where = graph["graph"]
        if not graph["rows"]:
            raise OfflineError(f"{where}: no kernel")
        for row in graph["rows"]:
            if row["kind"] not in KINDS or min(row["bytes"], row["flop"], row["launches"] - 1, row["atomics"]) < 0:
                raise OfflineError(f"{where}: {row}")
        flop = sum(row["flop"] for row in graph["rows"])
        if not 0.99 * graph["flop_of_graph"] <= flop <= graph["flop_of_graph"]:
            raise OfflineError(f"{where}: kernels do {flop:.4g} FLOP, the graph has {graph['flop_of_graph']:.4g}")
        if bool(graph["atomics_in_code"]) != any(row["atomics"] for row in graph["rows"]):
            raise OfflineError(f"{where}: {graph['atomics_in_code']} atomics in the code, its kernels say otherwise")


def violations(document: dict, most_bytes: float, most_launches: int) -> list[str]:
    """What a report shows that a step should not do: atomics, changes of layout, too many bytes or launches."""
    sums = text.whole(document)
    messages = [
        f"{graph['graph']}: {row['atomics']:,} float atomics in {text.describe(row)}"
        for graph in document["graphs"]
        for row in graph["rows"]
        if row["atomics"]
    ]
    messages += [
        f"{graph['graph']}: {change}"
        for graph in document["graphs"]
        for row in graph["rows"]
        for change in row["layout"]
    ]
    if sums["all_bytes"] > most_bytes:
        messages.append(f"{sums['all_bytes'] / 1e9:.1f} GB, at most {most_bytes / 1e9:.1f}")
    if sums["launches"] > most_launches:
        messages.append(f"{sums['launches']:,} launches, at most {most_launches:,}")
    return messages


def load(path: Path) -> dict:
    document = json.loads(path.read_text())
    check(document)
    return document


def newest(results: Path, document: dict) -> dict:
    """The last report of the step that a measured document is of. Raises ValueError where there is none."""
    for name, _ in reversed((*OTHERS, *STEPS)):
        if (results / name).exists() and comparison.fits(document, report := load(results / name)):
            return report
    settings = {name: document["settings"][name] for name in ("preset", "batch", "precision")}
    raise ValueError(f"no offline report is of {settings}: make one with `python -m benchmarks.offline`")


def measured_sections(results: Path) -> list[str]:
    """Of each document with a profile, newest first: the comparison with what was predicted, and its rates."""
    documents = [(path.name, json.loads(path.read_text())) for path in results.glob("steps-*.json")]
    documents = [(name, each) for name, each in documents if each.get("components") and schema.on_gpu(each)]
    parts = []
    for name, document in sorted(documents, key=lambda pair: pair[1]["machine"]["date"], reverse=True):
        comparison.check(document)
        both = comparison.pairs(document, newest(results, document))
        parts += [
            f"**Measured beside the prediction** as it was assumed: {machine_line(document, name)}",
            table(*_split(comparison.table_rows(document, both))),
            "The operators that take most beyond what was predicted:",
            table(*_split(comparison.slower_rows(both))),
            "The rates that follow, each over the rows that it binds, as a ratio of sums:",
            table(*_split(comparison.rate_rows(document, comparison.corrected(document, both)))),
        ]
        if comparison.one_sided(both):
            parts += ["Only counted, or only measured:", table(*_split(comparison.one_sided_rows(both)))]
    return parts


def section(results: Path) -> str:
    """What the reports of STEPS counted and predict, each beside the one before, and the last one in full."""
    steps = [(name, title, load(results / name)) for name, title in STEPS if (results / name).exists()]
    if not steps:
        return "No report has been committed."
    name, title, last = steps[-1]
    parts = [
        f"Preset `{last['preset']}`, batch {last['batch']}, compiled for an {last['compiled_for']} that was not "
        f"there: {_files(steps)}.",
        table(*_split(compare([(title, report) for _, title, report in steps]))),
        f"Counted, {title}:",
        table(*_split(text.count_rows(last))),
        "**Predicted, not measured**, from these counts and the rates below:",
    ]
    parts += [table(*_split(text.prediction_rows(last, card))) for card in rates.CARDS]
    parts += measured_sections(results)
    parts += ["The kernels that move most:", table(*_split(text.largest(last)))]
    for heading, rows in (
        ("Kernels with float atomics:", text.atomics(last)),
        ("Large tensors that change their layout:", text.changes(last)),
    ):
        if len(rows) > 1:
            parts += [heading, table(*_split(rows))]
    others = [(name, title, load(results / name)) for name, title in OTHERS]
    parts += [
        f"Other presets, counted and predicted in the same way: {_files(others)}.",
        table(*_split(compare([(title, report) for _, title, report in others]))),
    ]
    heading = f"The rates of the predictions, {'those in bold measured' if rates.MEASURED else 'none measured yet'}:"
    return "\n\n".join([*parts, heading, table(*_split(rate_rows()))])


def _files(reports: list[tuple[str, str, dict]]) -> str:
    return ", ".join(
        f"{title} ([`{name}`](../benchmarks/results/{name}), torch {report['torch']}, Triton "
        f"{report['triton']}, commit {report['commit']})"
        for name, title, report in reports
    )


def compare(steps: list[tuple[str, dict]]) -> list[text.Row]:
    """Head and one row per report: what was counted in a whole step, and the predicted time on each card."""
    head = (
        "",
        *(f"{kind}, GB" for kind in KINDS),
        "sum, GB",
        "TFLOP",
        "launches",
        "float atomics",
        "changes of layout",
        *(f"{card}, predicted {unit}" for unit in ("ms", "images/s") for card in rates.CARDS),
    )
    rows = []
    for title, report in steps:
        sums, times = text.whole(report), text.step_seconds(report)
        rows.append(
            (
                title,
                *(f"{sums['bytes'][kind] / 1e9:.2f}" for kind in KINDS),
                f"{sums['all_bytes'] / 1e9:.2f}",
                f"{sums['flop'] / 1e12:.3f}",
                f"{sums['launches']:,}",
                f"{sums['atomics'] / 1e6:.0f} M",
                str(sums["layout"]),
                *(f"{1e3 * times[card]:.1f}" for card in rates.CARDS),
                *(f"{report['batch'] / times[card]:.0f}" for card in rates.CARDS),
            )
        )
    return [head, *rows]


def rate_rows() -> list[text.Row]:
    """rates.py as a table."""
    rows = [("number", *rates.CARDS, "source")]
    rows += [
        (f"{label} of the data sheet", *(f"{getattr(card, field):,.1f}" for card in rates.CARDS.values()), "")
        for label, field in (
            ("bf16 TFLOP/s", "bf16_tflops"),
            ("fp32 TFLOP/s", "fp32_tflops"),
            ("memory GB/s", "gigabytes_per_second"),
        )
    ]
    rows += [(f"source of the {name}'s", *[""] * len(rates.CARDS), card.source) for name, card in rates.CARDS.items()]
    before = ""
    for name in rates.ASSUMED[next(iter(rates.CARDS))]:
        assumed = next(iter(rates.ASSUMED.values()))[name].why
        sources = ["as above" if assumed == before else assumed]
        sources += [f"{card}: {found[name].why}" for card, found in rates.MEASURED.items() if name in found]
        rows.append((name, *(_rate(card, name) for card in rates.CARDS), "; ".join(sources)))
        before = assumed
    return rows


def _rate(card: str, name: str) -> str:
    assumed = f"{rates.ASSUMED[card][name].value:g}"
    measured = rates.MEASURED.get(card, {}).get(name)
    return assumed if measured is None else f"**{measured.value:.3g}** (assumed {assumed})"


def _split(rows: list[text.Row]) -> tuple[text.Row, list[text.Row]]:
    return rows[0], rows[1:]
