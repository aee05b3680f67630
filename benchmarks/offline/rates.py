"""What three cards can do, and what share of it a step reaches: assumed, or measured. One table for every prediction.

Vendor numbers are the data sheets' (dense, without sparsity, SXM cards). Assumptions are ours; what was measured on a
card stands beside them with its source, and predictions for that card then go by it.
"""

from __future__ import annotations

from typing import NamedTuple


class Card(NamedTuple):
    """TFLOP/s and GB/s of a data sheet, and its source."""

    bf16_tflops: float
    fp32_tflops: float
    gigabytes_per_second: float
    source: str


CARDS = {
    "A100": Card(
        312.0, 19.5, 2039.0, "NVIDIA A100 Tensor Core GPU data sheet, 80 GB SXM: BF16 312 TFLOPS, FP32 19.5, 2,039 GB/s"
    ),
    "H100": Card(
        989.4, 66.9, 3350.0, "NVIDIA H100 data sheet, SXM: BF16 1,979 TFLOPS with sparsity, so half; FP32 67; 3.35 TB/s"
    ),
    "H200": Card(
        989.4, 66.9, 4800.0, "NVIDIA H200 data sheet, SXM: BF16 1,979 TFLOPS with sparsity, so half; FP32 67; 4.8 TB/s"
    ),
}


class Rate(NamedTuple):
    """A share of a data sheet's number, or a number by itself; and where it is from."""

    value: float
    why: str


# Convolutions by the smaller of their channels in and out ("up to"). The larger cards need more work at a time to reach
# their peak, so the same layer reaches a smaller share of it.
WIDTHS = (4, 32, 64, 128, 1 << 30)


def width_class(width: int) -> int:
    """Place of a convolution's smaller number of channels in WIDTHS."""
    return next(place for place, most in enumerate(WIDTHS) if width <= most)


def width_name(place: int) -> str:
    if place == 0:
        return f"convolutions, up to {WIDTHS[0]} channels"
    if place == len(WIDTHS) - 1:
        return "convolutions, more"
    return f"convolutions, {WIDTHS[place - 1] + 1} to {WIDTHS[place]}"


FUSED, OURS, SWEEPS_TWICE, CONVOLUTION_MEMORY = "fused", "ours", "sweeps twice", "convolution memory"
PRODUCT_BF16, PRODUCT_FP32 = "product bf16", "product fp32"
ATOMICS_PER_SECOND, LAUNCH_SECONDS = "atomics per second", "launch seconds"

_WIDTHS_WHY = (
    "assumption: cuDNN's implicit products with few channels fill a small part of a tensor core's tile; "
    "+-25 %, the main uncertainty"
)
_WIDTHS_SHARES = {
    "A100": (0.06, 0.35, 0.50, 0.60, 0.65),
    "H100": (0.03, 0.16, 0.28, 0.38, 0.48),
    "H200": (0.03, 0.16, 0.28, 0.38, 0.48),
}
_ON_EVERY_CARD = {
    FUSED: Rate(0.75, "assumption: of the memory's peak, what generated elementwise and reduction kernels reach"),
    OURS: Rate(
        0.75,
        "assumption, as for generated kernels; instance_norm_glu of more than 32x32 pixels sweeps twice, so "
        "its bytes are counted 1.6 times",
    ),
    SWEEPS_TWICE: Rate(1.6, "4 / 2.5 and 2.5 / 1.5 units of memory moved against the floor, by its own docstring"),
    CONVOLUTION_MEMORY: Rate(0.75, "assumption: of the memory's peak, where a convolution or product is bound by it"),
    PRODUCT_BF16: Rate(0.30, "assumption: small and skinny products"),
    PRODUCT_FP32: Rate(0.30, "assumption: skinny fp32 products without TF32"),
    ATOMICS_PER_SECOND: Rate(
        100e9, "assumption: uncoalesced float atomics per second, on any card; 292 million cost 3 ms"
    ),
    LAUNCH_SECONDS: Rate(1.2e-6, "assumption: gap and tail of a kernel in a queue that the host keeps full"),
}

# By card and name. MEASURED takes the lines that `python -m benchmarks.offline.measured` prints, and nothing else.
ASSUMED: dict[str, dict[str, Rate]] = {
    card: {width_name(place): Rate(share, _WIDTHS_WHY) for place, share in enumerate(shares)} | _ON_EVERY_CARD
    for card, shares in _WIDTHS_SHARES.items()
}
MEASURED: dict[str, dict[str, Rate]] = {}


def assumed(card: str) -> dict[str, Rate]:
    """Every rate of a card as it was before anything was measured."""
    return ASSUMED[card]


def known(card: str) -> dict[str, Rate]:
    """Every rate of a card: measured where it was, else assumed."""
    return ASSUMED[card] | MEASURED.get(card, {})
