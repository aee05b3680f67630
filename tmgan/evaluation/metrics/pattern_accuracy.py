"""Does the edit obey the text's patterns? As colour_accuracy.py, on held-out drawn birds with patterns.

Each bird gets a caption in which one part's pattern is swapped and all else is true. pattern_accuracy is the share of
edits in which the named part (inside its true mask) shows the named pattern; other_patterns_kept the share of the
other parts that show theirs. A copied input has next to
none of the first; an editor that wipes all patterns out has a third of both, so they are read together. The judge is
in pattern_judge.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmgan.common.progress import Progress
from tmgan.data.crops import centre_crops
from tmgan.data.drawn.patterns import describe_patterned
from tmgan.data.pack import Pack
from tmgan.data.palette import PALETTE, PARTS, PATTERNS
from tmgan.editing.editor import Editor
from tmgan.evaluation.metrics.colour_accuracy import drawn, part_masks
from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.pattern_judge import judge


@dataclass(frozen=True)
class PatternTest:
    """Held-out birds with captions in which one pattern is another; n rows."""

    images: Tensor  # (n, 3, S, S) in [-1, 1], centre crops
    texts: list[str]
    part: Tensor  # (n,) number of the named part
    patterns: Tensor  # (n, len(PARTS)) numbers of PATTERNS that the edit should show
    part_masks: Tensor  # (n, len(PARTS), S, S) bool


def patterned(pack: Pack) -> bool:
    """Whether the pack is made of drawn birds with patterns, some of them held out."""
    return drawn(pack) and pack.patterns is not None


def make_pattern_test(pack: Pack, size: int, count: int, seed: int = 0) -> PatternTest:
    """The first `count` held-out birds, each with one part's pattern swapped by the seed.

    Raises:
        ValueError: when the pack is not made of drawn birds with patterns, or none is held out.
    """
    if pack.patterns is None or pack.colours is None or pack.parts is None:
        raise ValueError(
            f"pattern_accuracy needs drawn birds with patterns; {pack.path} has none. Draw a set with "
            "`tmgan data synth DIR --patterns` and prepare it."
        )
    if len(pack.test) == 0:
        raise ValueError(f"pattern_accuracy is measured on held-out birds; {pack.path} has none. Draw more.")
    index = pack.test[:count]
    random = np.random.Generator(np.random.Philox(key=np.array([seed, 0x9A77E], dtype=np.uint64)))
    patterns = pack.patterns[index].to(torch.int64)
    names, texts, parts = list(PALETTE), [], []
    for row, colours in enumerate(pack.colours[index].tolist()):
        part = int(random.integers(len(PARTS)))
        shift = int(random.integers(1, len(PATTERNS)))
        patterns[row, part] = (patterns[row, part] + shift) % len(PATTERNS)
        texts.append(
            describe_patterned(
                {p: names[c] for p, c in zip(PARTS, colours, strict=True)},
                {p: PATTERNS[k] for p, k in zip(PARTS, patterns[row].tolist(), strict=True)},
                int(random.integers(4)),
            )
        )
        parts.append(part)
    images, masks = centre_crops(pack.tiles, index, size), part_masks(pack.parts, index, size)
    return PatternTest(images, texts, torch.tensor(parts), patterns, masks)


def pattern_accuracy(
    test: PatternTest, edit: Callable[[Tensor, list[str]], Tensor], batch: int = 32
) -> dict[str, Measure]:
    """Measure `edit(images, texts) -> images` on the test: pattern_accuracy and other_patterns_kept.

    Raises:
        FloatingPointError: when an edit is not finite.
    """
    hits, shares = [], []
    for start in range(0, len(test.images), batch):
        rows = slice(start, start + batch)
        edits = edit(test.images[rows], test.texts[rows]).float().cpu()
        if not torch.isfinite(edits).all():
            raise FloatingPointError(
                "The edits hold numbers that are not finite: the network diverged or its file is damaged."
            )
        right = judge(edits, test.part_masks[rows]) == test.patterns[rows]
        named = torch.nn.functional.one_hot(test.part[rows], len(PARTS)).bool()
        hits += right[named].double().tolist()
        shares += (right & ~named).double().sum(1).div(len(PARTS) - 1).tolist()
    return {
        "pattern_accuracy": Measure.of(hits, "of the named parts", "higher"),
        "other_patterns_kept": Measure.of(shares, "of the other parts", "higher"),
    }


class PatternAccuracy:
    """The metric, on a test of its own: it looks at no other edits.

    Raises:
        ValueError: when the pack is not made of drawn birds with patterns.
    """

    sees_edits = False

    def __init__(self, editor: Editor, pack: Pack, count: int, seed: int, batch: int):
        self.editor, self.batch = editor, batch
        self.test = make_pattern_test(pack, editor.image_size, count, seed)

    def add(self, batch: Edits) -> None:
        """Nothing: see the class."""

    def measures(self, show: Progress) -> dict[str, Measure]:
        """pattern_accuracy and other_patterns_kept."""
        return pattern_accuracy(
            self.test, lambda images, texts: self.editor.edit_tensors(images, texts).image, self.batch
        )
