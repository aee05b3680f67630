"""What `tmgan tables` is asked for. No torch here: the command line parses straight into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tmgan.config.settings import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class Request:
    """Train the runs behind the paper's tables and ours, or reuse them, and write tables and figures as one page.

    Without --data: on drawn birds and reduced, for a CPU, with true masks in the place of FCN's. It says how long it
    takes. Interrupt it whenever you like: the same command goes on.
    """

    out: Path = Path("runs/tables")
    """Folder for runs and pages."""
    data: str = ""
    """Pack made by `tmgan data prepare`, with masks; empty: draw birds."""
    encoders: str = ""
    """Run folder of `tmgan damsm`, for all runs; empty: train them first, once for all runs, and more for table 4."""
    only: tuple[int, ...] = (1, 2, 3, 4)
    """Which tables: 1, 2 and 3 are the paper's; 4 is ours: does our editor obey, and what of it matters?"""
    as_published: bool = False
    """Also run the methods as their published code did, and show where every method's gradient goes."""
    reduced: bool = False
    """Small networks and encoders, for a pack of 64-pixel images; always so without --data."""
    images: int = 0
    """Training images per run; 0: 885,500 as in the paper, 3,200 when reduced."""
    count: int = 0
    """Held-out photos to measure on, at most; 0: 1,000 as in the paper, 200 when reduced."""
    seeds: tuple[int, ...] = (0, 1)
    """Each run is trained once per seed."""
    drawn_images: int = 1340
    """How many birds to draw without --data; 15 of 100 are held out."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        for table in self.only:
            if table not in (1, 2, 3, 4):
                raise ValueError(f"--only {table}: the paper has the tables 1, 2 and 3, and 4 is ours.")
        if not self.only or not self.seeds:
            raise ValueError("Give at least one table with --only and one seed with --seeds.")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("--seeds: give different numbers, 0 or more.")
        if self.images < 0 or self.count < 0 or self.drawn_images < 20:
            raise ValueError("--images and --count are 0 or more, --drawn-images 20 or more.")
        if self.count == 1:
            raise ValueError("--count 1: no interval and no distance follows from one photo; use 2 or more.")
        if self.as_published and not {1, 2} <= set(self.only):
            raise ValueError("--as-published compares runs of tables 1 and 2: leave out --only.")
