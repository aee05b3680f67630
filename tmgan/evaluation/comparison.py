"""Compare trained runs on the same held-out photos: `tmgan.compare([RUN, RUN, ...]) -> RunComparison`.

    comparison = tmgan.compare(["runs/a", "runs/b"], protocol=tmgan.Protocol(count=200))
    comparison.differences["b"]["mask_score/dataset"].verdict   # b against a: "better", "worse", "cannot be told", ...
    comparison.differences["b"]["mask_score/dataset"].change    # .value, .low, .high of b - a, photo by photo
    comparison_page(comparison).write(folder, "compare")        # tmgan.reports.comparison

All runs edit the same photos by the same texts with the same noise. The first run is what the others are compared with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tmgan.common.files import user_path
from tmgan.common.progress import Progress
from tmgan.config import configfile
from tmgan.config.settings import RuntimeConfig
from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor, load
from tmgan.evaluation.evaluate import Evaluation, evaluate
from tmgan.evaluation.metrics.edits import Edits, first_edits
from tmgan.evaluation.metrics.measure import Comparison, Measure, compare
from tmgan.evaluation.protocol import Protocol

PICTURES = 6  # photos that are shown
# With fewer photos, chance alone gives all of them the same sign in more than one of twenty comparisons.
FEWEST = 6
# Measured with the run's own encoders.
_OWN_JUDGE = ("mp_damsm", "mp_similarity", "rmp_damsm", "mp_similarity_photo", "r_precision")
_UNDECIDED = "cannot be told"
_VERDICTS = ("better", "worse", "higher", "lower", _UNDECIDED, "the same")


@dataclass(frozen=True)
class Difference:
    """One measure of a run against that of the first run.

    Attributes:
        change: the run's number less the first run's, over the same photos; None where there is no such thing.
        verdict: "better" or "worse" when the interval leaves out 0; "higher" or "lower" then for a measure without a
            direction; "the same" when no photo differs; else "cannot be told".
        why: it cannot be told, a sentence; else "".
    """

    change: Comparison | None
    verdict: str
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "change": None if self.change is None else self.change.to_json(),
            "verdict": self.verdict,
            "why": self.why,
        }


@dataclass(frozen=True)
class RunResult:
    """A run with what was measured of it.

    Attributes:
        settings: its configuration as a plain nested dict.
        notes: what must be known of its edits, as sentences.
        edits: of the first photos of the evaluation.
    """

    path: Path
    settings: dict[str, Any]
    notes: tuple[str, ...]
    evaluation: Evaluation
    edits: Edits


@dataclass(frozen=True)
class RunComparison:
    """Runs that were measured on the same photos. The first one is what the others are compared with.

    Attributes:
        runs: by name, the end of each run's path that tells them apart.
        pack: what they were measured on.
        own_pack: all runs were trained on that pack.
        differences: of every other run, by its name and the measure's.
        notes: what must be known of the comparison, as sentences.
    """

    runs: dict[str, RunResult]
    pack: Path
    own_pack: bool
    differences: dict[str, dict[str, Difference]]
    notes: tuple[str, ...]

    @property
    def first(self) -> str:
        """Name of the run that the others are compared with."""
        return next(iter(self.runs))

    def measures(self) -> list[str]:
        """Names of all measures, also of those that only some runs have."""
        return list(dict.fromkeys(name for run in self.runs.values() for name in run.evaluation))

    def settings(self) -> dict[str, list[Any]]:
        """The settings in which the runs differ, by dotted name, with the value of each run."""
        settings = [run.settings for run in self.runs.values()]
        names = [name for other in settings[1:] for name in configfile.differences(settings[0], other)]
        return {n: [configfile.setting(s, n) for s in settings] for n in dict.fromkeys(names) if n != "run"}

    def by_verdict(self, name: str) -> dict[str, list[str]]:
        """Verdict -> the measures of the run `name` that have it; only verdicts that occur."""
        of = self.differences[name]
        return {v: names for v in _VERDICTS if (names := [n for n, each in of.items() if each.verdict == v])}

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "first": self.first,
            "pack": str(self.pack),
            "notes": list(self.notes),
            "settings": {n: dict(zip(self.runs, values, strict=True)) for n, values in self.settings().items()},
            "differences": {
                name: {measure: each.to_json() for measure, each in of.items()} for name, of in self.differences.items()
            },
            "runs": {
                name: {"path": str(run.path), "notes": list(run.notes), "evaluation": run.evaluation.to_json()}
                for name, run in self.runs.items()
            },
        }


def compare_runs(
    runs: Sequence[str | Path],
    data: str | Path | None = None,
    protocol: Protocol | None = None,
    runtime: RuntimeConfig | None = None,
    show: Progress | None = None,
) -> RunComparison:
    """Measure two or more runs of `tmgan train` on the same photos with the same texts.

    Args:
        data: pack to measure on; None: the one that all of them were trained on.
        protocol: what is measured and how; None: everything that can be measured here, 1,000 held-out photos.
        show: progress; None: a bar on a terminal.

    Raises:
        ValueError: the runs cannot be compared, or a metric that is requested by name is not available; before
            anything is measured.
        FloatingPointError: an edit is not finite.
    """
    paths = _require_distinct(runs)
    protocol, show = protocol or Protocol(), show or Progress()
    editors = dict(zip(_labels(paths), [load(path, runtime) for path in paths], strict=True))
    pack, notes = _common_pack(editors, paths, data)
    results: dict[str, RunResult] = {}
    for path, (name, editor) in zip(paths, editors.items(), strict=True):
        show.say(f"{name}, run {len(results) + 1} of {len(paths)}")
        results[name] = RunResult(
            path,
            configfile.to_dict(editor.config),
            tuple(editor.notes),
            evaluate(editor, pack, protocol, show),
            first_edits(editor, pack, protocol, (), min(PICTURES, protocol.count)),
        )
    judges = {name: editor.encoders.hash() for name, editor in editors.items()}
    first = next(iter(results))
    differences = {
        name: {
            measure: difference(
                results[first].evaluation[measure],
                run.evaluation[measure],
                same_judge=measure not in _OWN_JUDGE or judges[name] == judges[first],
            )
            for measure in results[first].evaluation
            if measure in run.evaluation
        }
        for name, run in results.items()
        if name != first
    }
    return RunComparison(results, pack.path, data is None, differences, tuple(notes))


def difference(first: Measure, second: Measure, same_judge: bool = True) -> Difference:
    """How the second number differs from the first, and whether the difference is more than chance of the photos.

    Args:
        same_judge: both were measured with the same networks.
    """
    if not same_judge:
        return Difference(None, _UNDECIDED, "each run's own encoders are the judge, and they differ")
    if not first.values:
        return Difference(None, _UNDECIDED, "it is one number for the whole set and has no interval")
    change = compare(first, second)
    if np.array_equal(first.values, second.values, equal_nan=True):
        return Difference(change, "the same")
    if change.n < FEWEST:
        return Difference(
            change, _UNDECIDED, f"it is defined for {change.n} photos, and fewer than {FEWEST} tell nothing"
        )
    if not change.distinct:
        return Difference(change, _UNDECIDED, "the interval holds 0")
    way = "higher" if change.low > 0 else "lower"
    return Difference(change, {"": way, way: "better"}.get(second.better, "worse"))


def _require_distinct(runs: Sequence[str | Path]) -> list[Path]:
    paths = [user_path(run) for run in runs]
    if len(paths) < 2:
        raise ValueError("Name two runs or more; the first is what the others are compared with.")
    for k, path in enumerate(paths):
        for before in paths[:k]:
            if os.path.realpath(before) == os.path.realpath(path):
                raise ValueError(f"{before} and {path} are the same run. Name each run once.")
    return paths


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of different paths that tell them apart."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    ends = (["/".join(each[-k:]) for each in parts] for k in range(1, max(map(len, parts)) + 1))
    return next(names for names in ends if len(set(names)) == len(names))


def _common_pack(editors: dict[str, Editor], paths: list[Path], data: str | Path | None) -> tuple[Pack, list[str]]:
    """The pack to measure on, and what to know about it.

    Raises:
        ValueError: the runs have no image size or no pack in common, or it is not there.
    """
    sizes = {name: editor.image_size for name, editor in editors.items()}
    first, *others = editors
    for name in others:
        if sizes[name] != sizes[first]:
            raise ValueError(
                f"{first} edits images of {sizes[first]} pixels and {name} of {sizes[name]}: they have no photos in "
                "common, since a pack has one size. Compare runs of the same size."
            )
    own = {
        name: Path(editor.config.data or path / "drawn" / "pack")
        for path, (name, editor) in zip(paths, editors.items(), strict=True)
    }
    if data is not None:
        pack = Pack.open(Path(data), sizes[first])
        return pack, _strangers(editors, own, pack)
    packs = {name: _open(name, path, sizes[first]) for name, path in own.items()}
    for name in others:
        if packs[name].hash != packs[first].hash:
            raise ValueError(
                f"{first} was trained on {own[first]} and {name} on {own[name]}, which has other photos, captions or "
                "words. Name the pack to compare them on with --data, best one that none of them was trained on."
            )
    for name, editor in editors.items():
        if editor.encoders.vocabulary.hash != packs[first].vocabulary.hash:
            raise ValueError(
                f"{name} was trained with other words than those of {own[first]}, which has changed since. Name the "
                "pack to compare on with --data."
            )
    return packs[first], []


def _open(name: str, path: Path, image_size: int) -> Pack:
    try:
        return Pack.open(path, image_size)
    except ValueError as error:
        raise ValueError(
            f"The pack that {name} was trained on is not known (of an import) or cannot be read, so it is not clear "
            f"whether it is that of the other runs. Name one with --data. {error}"
        ) from None


def _strangers(editors: dict[str, Editor], own: dict[str, Path], pack: Pack) -> list[str]:
    """Notes on runs that were, or may have been, trained on another pack than that of --data."""
    notes = []
    for name, editor in editors.items():
        try:
            same = Pack.open(own[name]).hash == pack.hash
        except ValueError:
            same = False
        if not same:
            notes.append(
                f"{name} was not trained on {pack.path}, as far as can be told: it may have seen the photos that are "
                "held out there."
            )
        words = set(pack.vocabulary.words)
        unknown = len(words - set(editor.encoders.vocabulary.words))
        if unknown:
            notes.append(
                f"{name} does not know {unknown} of the {len(words)} words of {pack.path}, and leaves them out."
            )
    return notes
