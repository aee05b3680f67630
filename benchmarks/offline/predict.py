"""Predicted time of what was counted, on each card of rates.py. A prediction, never a measurement and never a test."""

from __future__ import annotations

from . import rates
from .counting import CONVOLUTION, FUSED, OURS, PRODUCT

ADAM = "Adam and average"
LAUNCHES = "launches and gaps"
ATOMICS = "float atomics"


def width_class(width: int) -> int:
    """Place of a convolution's smaller number of channels in rates.WIDTHS."""
    return next(place for place, most in enumerate(rates.WIDTHS) if width <= most)


def width_name(place: int) -> str:
    if place == 0:
        return f"{CONVOLUTION}, up to {rates.WIDTHS[0]} channels"
    if place == len(rates.WIDTHS) - 1:
        return f"{CONVOLUTION}, more"
    return f"{CONVOLUTION}, {rates.WIDTHS[place - 1] + 1} to {rates.WIDTHS[place]}"


def label(row: dict) -> str:
    """The kind of a row as the prediction tells them apart."""
    if row["kind"] == CONVOLUTION:
        return width_name(width_class(row["width"]))
    return f"{PRODUCT}, {'fp32' if row['dtype'] == 'float32' else 'bf16'}" if row["kind"] == PRODUCT else row["kind"]


def seconds(row: dict, name: str) -> float:
    """Seconds of one kernel on a card, without its gap: the slower of its arithmetic and its memory."""
    card = rates.CARDS[name]
    memory = card.gigabytes_per_second * 1e9
    if row["kind"] == CONVOLUTION:
        peak = card.bf16_tflops if row["dtype"] != "float32" else card.fp32_tflops
        arithmetic = row["flop"] / (1e12 * peak * rates.CONVOLUTION[name][width_class(row["width"])])
        return max(arithmetic, row["bytes"] / (memory * rates.CONVOLUTION_MEMORY.value))
    if row["kind"] == PRODUCT:
        fp32 = row["dtype"] == "float32"
        peak = card.fp32_tflops * rates.PRODUCT_FP32.value if fp32 else card.bf16_tflops * rates.PRODUCT_BF16.value
        return max(row["flop"] / (1e12 * peak), row["bytes"] / (memory * rates.CONVOLUTION_MEMORY.value))
    if row["kind"] == OURS:
        again = rates.SWEEPS_TWICE.value if row["launches"] > 1 else 1.0
        return again * row["bytes"] / (memory * rates.OURS.value)
    return row["bytes"] / (memory * rates.FUSED.value)


def graph_seconds(graph: dict, card: str) -> dict[str, float]:
    """Seconds of one graph by label, launches and atomics apart."""
    seconds_by_label: dict[str, float] = {}
    for row in graph["rows"]:
        seconds_by_label[label(row)] = seconds_by_label.get(label(row), 0.0) + seconds(row, card)
    seconds_by_label[ATOMICS] = sum(row["atomics"] for row in graph["rows"]) / rates.ATOMICS_PER_SECOND.value
    seconds_by_label[LAUNCHES] = sum(row["launches"] for row in graph["rows"]) * rates.LAUNCH_SECONDS.value
    return seconds_by_label


def predict(report: dict) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds by card, component ("generate forward", ..., "Adam and average") and label."""
    seconds_by_card = {}
    for name, card in rates.CARDS.items():
        parts = {graph["graph"]: graph_seconds(graph, name) for graph in report["graphs"]}
        outside_bytes = sum(row["bytes"] for row in report["outside"])
        parts[ADAM] = {
            FUSED: outside_bytes / (card.gigabytes_per_second * 1e9 * rates.FUSED.value),
            LAUNCHES: sum(row["launches"] for row in report["outside"]) * rates.LAUNCH_SECONDS.value,
        }
        seconds_by_card[name] = parts
    return seconds_by_card
