"""What `tmgan data doctor` finds, one observation after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One observation. A "problem" stops `prepare`, a "warning" is worth knowing; `remedy` is what to do, or empty."""

    level: Level
    text: str
    remedy: str = ""


def optional(there: bool, what: str, loss: str, remedy: str = "") -> Finding:
    """Something that a folder need not have: what is lost without it, and where to get it."""
    return Finding("ok", f"{what}: found") if there else Finding("warning", f"{what}: not found; {loss}", remedy)
