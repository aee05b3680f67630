"""The parts, colours and patterns that `Pack.colours` and `Pack.patterns` refer to: those of drawn birds."""

from __future__ import annotations

PARTS = ("head", "body", "wings")  # the parts that have a colour of their own; the tail belongs to the wings
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (212, 36, 38),
    "orange": (242, 122, 18),
    "yellow": (252, 228, 56),
    "green": (52, 158, 62),
    "blue": (44, 98, 212),
    "purple": (136, 56, 172),
    "white": (240, 240, 236),
    "black": (34, 34, 38),
}
PATTERNS = ("plain", "spotted", "striped")
