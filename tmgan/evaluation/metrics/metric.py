"""What a metric is: the interface that evaluate.py calls. Most inherit `PerImage` of per_image.py."""

from __future__ import annotations

from typing import Protocol

from tmgan.common.progress import Progress
from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.measure import Measure


class Metric(Protocol):
    """Collects what it needs from each batch of edits, and returns its numbers at the end.

    A metric that cannot be measured here (no weights, too few photos, nothing in the pack) raises ValueError when it
    is constructed, or, where that shows only at the end, from `measures`: it is then left out with that reason.

    Attributes:
        sees_edits: False for one that has a test of its own: nothing is edited on its behalf.
    """

    sees_edits: bool

    def add(self, batch: Edits) -> None:
        """Look at one more batch."""

    def measures(self, show: Progress) -> dict[str, Measure]:
        """By name, over everything seen."""
