"""Predicted time of what was counted, on each card of rates.py. A prediction, never a measurement and never a test."""

from __future__ import annotations

from collections.abc import Callable

from . import rates
from .counting import CONVOLUTION, FUSED, OURS, PRODUCT

ADAM = "Adam and average"
LAUNCHES = "launches and gaps"
ATOMICS = "float atomics"
Table = Callable[[str], dict[str, rates.Rate]]  # of a card


def label(row: dict) -> str:
    """The kind of a row as the prediction tells them apart."""
    if row["kind"] == CONVOLUTION:
        return rates.width_name(rates.width_class(row["width"]))
    return f"{PRODUCT}, {'fp32' if row['dtype'] == 'float32' else 'bf16'}" if row["kind"] == PRODUCT else row["kind"]


def bounds(row: dict, card: str, table: Table) -> dict[str, float]:
    """Seconds of one kernel on a card, without its gap, as each rate that may bind it has it; the largest counts.

    Args:
        table: rates.known or rates.assumed.
    """
    sheet, rate = rates.CARDS[card], table(card)
    memory = row["bytes"] / (sheet.gigabytes_per_second * 1e9)
    if row["kind"] in (CONVOLUTION, PRODUCT):
        fp32 = row["dtype"] == "float32"
        name = label(row) if row["kind"] == CONVOLUTION else rates.PRODUCT_FP32 if fp32 else rates.PRODUCT_BF16
        arithmetic = row["flop"] / (1e12 * (sheet.fp32_tflops if fp32 else sheet.bf16_tflops))
        return {
            name: arithmetic / rate[name].value,
            rates.CONVOLUTION_MEMORY: memory / rate[rates.CONVOLUTION_MEMORY].value,
        }
    if row["kind"] == OURS and row["launches"] > 1:
        return {rates.SWEEPS_TWICE: rate[rates.SWEEPS_TWICE].value * memory / rate[rates.OURS].value}
    name = rates.OURS if row["kind"] == OURS else rates.FUSED
    return {name: memory / rate[name].value}


def seconds(row: dict, card: str, table: Table = rates.known) -> float:
    """Seconds of one kernel on a card, without its gap: the slower of its arithmetic and its memory."""
    return max(bounds(row, card, table).values())


def graph_seconds(graph: dict, card: str, table: Table = rates.known) -> dict[str, float]:
    """Seconds of one graph by label, launches and atomics apart."""
    rate = table(card)
    seconds_by_label: dict[str, float] = {}
    for row in graph["rows"]:
        seconds_by_label[label(row)] = seconds_by_label.get(label(row), 0.0) + seconds(row, card, table)
    seconds_by_label[ATOMICS] = sum(row["atomics"] for row in graph["rows"]) / rate[rates.ATOMICS_PER_SECOND].value
    seconds_by_label[LAUNCHES] = sum(row["launches"] for row in graph["rows"]) * rate[rates.LAUNCH_SECONDS].value
    return seconds_by_label


def outside(report: dict) -> dict:
    """What lies outside the graphs as a graph of its own: one kernel that moves all their bytes."""
    row = {"kind": FUSED, "bytes": 0, "flop": 0, "launches": 0, "atomics": 0}
    for part in report["outside"]:
        row["bytes"] += part["bytes"]
        row["launches"] += part["launches"]
    return {"graph": ADAM, "rows": [row]}


def predict(report: dict, table: Table = rates.known) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds by card, component ("generate forward", ..., "Adam and average") and label.

    Args:
        table: rates.known, or rates.assumed for the prediction as it was before anything was measured.
    """
    return {
        card: {graph["graph"]: graph_seconds(graph, card, table) for graph in (*report["graphs"], outside(report))}
        for card in rates.CARDS
    }
