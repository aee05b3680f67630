"""The goals for a GPU that are numbers, beside what was measured: one line each, for every card with a document.

    python -m benchmarks.goals [--results DIR]

A goal that no document answers names the script of benchmarks/gpu that does. Documents of runs without a GPU say
nothing about a goal. Of several rows that answer the same question, the newest document's counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import schema
from benchmarks.kernels import cases, tables
from benchmarks.markdown import table
from benchmarks.step import schema as schema_step
from benchmarks.step.tables import CUB
from tmgan.config import configfile

RESULTS = Path(__file__).parent / "results"
STEP = {"H200": (800, 1200), "H100": (700, None)}  # images/s of the step by card: the goal, and what is aimed at
RATIO, PUBLISHED_BATCH, EQUAL_BATCH, MEMORY = 4.0, 10, 40, (40, 64, 128)
OURS = ("triton", "cuda")  # `auto` takes the faster one
STREAMING = (
    "laplace_sharpness",
    "sharpness_score",
    "scale_gradient",
    "sharp_gradient",
    "masked_mae",
    "mask_score",
    "gather_crop",
)  # one sweep; sharp_regions and match_histogram need several, and have no goal of this kind
BLURS = ("box_blur", "gaussian_blur")
NORM = "instance_norm_glu"
# Bytes of two sweeps over x in those of one, as its docstring counts them; smaller planes are read once.
TWO_SWEEPS = {"forward": 2.5 / 1.5, "backward": 4 / 2.5, "both": 6.5 / 4}
ONE_SWEEP = 32  # pixels of an edge up to which it does, channels last: WHOLE_NHWC of its module
SLOWER = 1.03  # than torch.compile, at most


@dataclass(frozen=True)
class Line:
    """A goal of one card.

    Attributes:
        goal: what is asked.
        measured: what was found, or where to measure it.
        met: None where it is not known yet, or nothing but a number was asked for.
    """

    card: str
    goal: str
    measured: str
    met: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "NOT MET", None: ""}[self.met]


def missing(*scripts: str) -> str:
    names = " and ".join(f"{script}.sh" for script in scripts)
    return f"not measured: {names} {'measures' if len(scripts) == 1 else 'measure'} it"


# ------------------------------------------------------------------------ the documents
def documents(results: Path) -> Iterator[dict]:
    """Those of GPUs, of kernels and steps, the oldest first."""
    found = []
    for kind, check in (("kernels", schema.check), ("steps", schema_step.check)):
        for path in sorted(results.glob(f"{kind}-*.json")):
            document = json.loads(path.read_text())
            if schema.on_gpu(document):
                check(document)
                found.append(document)
    yield from sorted(found, key=lambda document: document["machine"]["date"])


def lines(results: Path = RESULTS) -> list[Line]:
    """Every goal for every card that has a document, or for any GPU where none has."""
    by_card: dict[str, list[dict]] = {}
    for document in documents(results):
        by_card.setdefault(document["machine"]["gpu"], []).append(document)
    return [
        line
        for card, found in (by_card or {"no GPU yet": []}).items()
        for line in (*step_lines(card, found), *kernel_lines(card, found))
    ]


# ------------------------------------------------------------------------------ the step
def step_lines(card: str, found: Iterable[dict]) -> Iterator[Line]:
    combined = configfile.from_preset("combined")
    wanted = {"preset": "combined", "precision": "bf16", "image_size": 256}
    wanted |= {"g_width": combined.model.g_width, "d_width": combined.model.d_width}
    steps: dict[tuple[str, int], dict] = {}
    starts: dict[tuple[str, str], float] = {}
    for document in found:
        settings = document.get("settings", {})
        if "rows" not in document or any(settings.get(name) != value for name, value in wanted.items()):
            continue
        whole = [{**row, "batch": settings["batch"]} for row in document["rows"] if row.get("part") == "step"]
        for row in (*whole, *document.get("batches", [])):
            steps[row["engine"], row["batch"]] = row
        starts |= {(row["engine"], row["state"]): row["seconds"] for row in document["starts"]}
    ours = {key: row for key, row in steps.items() if key[0] != "published"}
    best = max(ours.values(), key=lambda row: row["images_per_second"], default=None)
    speed = missing("1-step")
    if best is not None:
        speed = f"{best['images_per_second']:,.0f} images/s ({best['engine']}, batch {best['batch']})"
    goals = next((numbers for name, numbers in STEP.items() if name in card), (None, None))
    for what, number in zip(("at least", "aimed at"), goals, strict=True):
        if number is not None:
            yield Line(card, f"step, images/s: {what} {number:,}", speed, best and best["images_per_second"] >= number)
    if goals[0] is None:
        yield Line(card, "step, images/s: 800 on an H200, 700 on an H100", speed)
    for batch, limit in ((EQUAL_BATCH, RATIO), (PUBLISHED_BATCH, None)):
        goal = f"step against published, both at batch {batch}" + (f": at least {limit:g}x" if limit else "")
        own = [row["images_per_second"] for (_, size), row in ours.items() if size == batch]
        if not own or ("published", batch) not in steps:
            scripts = [] if own else ["1-step" if batch == EQUAL_BATCH else "2-rewrites"]
            scripts += [] if ("published", batch) in steps else ["4-rest"]
            yield Line(card, goal, missing(*scripts))
        else:
            ratio = max(own) / steps["published", batch]["images_per_second"]
            yield Line(card, goal, f"{ratio:.2f}x", None if limit is None else ratio >= limit)
    minutes = speed if best is None else f"{CUB / best['images_per_second'] / 60:.0f}"
    yield Line(card, "minutes for 100 epochs of CUB, by the fastest step", minutes)
    for batch in MEMORY:
        row = steps.get(("compiled", batch))
        memory = missing("2-rewrites") if row is None else f"{row['peak_bytes'] / 2**30:.1f} GiB"
        yield Line(card, f"memory of the compiled step, batch {batch}", memory)
    for state in ("cold", "warm"):
        seconds = starts.get(("compiled", state))
        what = missing("4-rest") if seconds is None else f"{seconds:.0f}"
        yield Line(card, f"seconds to the first compiled step, {state} cache", what)


# --------------------------------------------------------------------------- the kernels
Measure = Callable[[cases.Case, dict[str, dict]], float | None]  # of a call's rows, by provider


def kernel_lines(card: str, found: Iterable[dict]) -> Iterator[Line]:
    merged: dict[tuple, dict[str, dict]] = {}
    for document in found:
        if "copy" in document:
            for identity, providers in tables.Rows(document).lines.items():
                merged.setdefault(identity, {}).update(providers)

    def line(goal: str, limit: float, wanted: Callable[[cases.Case, str], bool], of: Measure, script: str) -> Line:
        """All calls of the plan that are wanted must reach the limit."""
        values: dict[str, float | None] = {}
        for case, which in _planned():
            if wanted(case, which):
                row = {**case.key(), "pass": which, "provider": ""}
                values[f"{case} {which}"] = of(case, merged.get(schema.identity(row), {}))
        known = {name: value for name, value in values.items() if value is not None}
        if not known:
            return Line(card, goal, missing(script))
        least, reached = min(known, key=lambda name: known[name]), sum(value >= limit for value in known.values())
        text = f"{reached} of {len(values)} calls, least {known[least]:.2f}: {least}"
        if absent := len(values) - len(known):
            text += f"; {absent} {missing(script)}"
        return Line(card, goal, text, False if reached < len(known) else None if absent else True)

    def share(_: cases.Case, rows: dict[str, dict]) -> float | None:
        return _share(rows)

    for name, operations, limit in (("streaming and stencil", STREAMING, 0.87), ("blurs", BLURS, 0.80)):
        goal = f"{name}, {cases.GOAL_BATCH} images: at least {limit:g} of a copy"
        yield line(goal, limit, lambda c, _, names=operations: _large(c) and c.operation in names, share, "3-kernels")
    yield from (
        line(
            f"{NORM} NHWC, {which}: at least 0.8 of its floor, two-pass above {ONE_SWEEP}x{ONE_SWEEP}",
            0.80,
            lambda c, p, which=which: _norm(c, "nhwc") and p == which,
            lambda c, rows, factor=factor: _times(_share(rows), factor if c.shape[2] > ONE_SWEEP else 1.0),
            "3-kernels",
        )
        for which, factor in TWO_SWEEPS.items()
    )
    goal = f"{NORM} NCHW to 128x128: at least 0.85 of its one-pass floor"
    yield line(goal, 0.85, lambda c, _: _norm(c, "nchw") and c.shape[2] <= 128, share, "3-kernels")
    for operation, other, limit, script in (
        ("naive_sharpness_loss", "eager", 10.0, "3-kernels"),
        ("naive_sharpness_loss", "compile", 3.0, "4-rest"),
        ("change_mask", "eager", 20.0, "3-kernels"),
    ):
        yield line(
            f"{operation}, {cases.GOAL_BATCH} images: at least {limit:g}x {other}",
            limit,
            lambda c, _, operation=operation: _large(c) and c.operation == operation,
            lambda _, rows, other=other: _faster(rows, (other,)),
            script,
        )
    yield line(
        "none slower than torch.compile by more than 3 % (its time in ours)",
        1 / SLOWER,
        lambda c, _: cases.in_goals(c),
        lambda _, rows: _faster(rows, ("compile", "compile-max")),
        "4-rest",
    )


def _planned() -> Iterator[tuple[cases.Case, str]]:
    """The calls of the plan that have an implementation of ours and are asked for."""
    for case in dict.fromkeys(case for case, provider in cases.gpu_plan(built=True) if provider in OURS):
        if cases.in_goals(case):
            yield from ((case, which) for which in cases.OPERATIONS[case.operation].passes)


def _large(case: cases.Case) -> bool:
    return case.shape[0] == cases.GOAL_BATCH


def _norm(case: cases.Case, layout: str) -> bool:
    return case.operation == NORM and case.layout == layout and case.shape[0] == cases.NORM_BATCH


def _best(rows: dict[str, dict], names: Iterable[str]) -> dict | None:
    measured = [rows[name] for name in names if "microseconds" in rows.get(name, {})]
    return min(measured, key=lambda row: row["microseconds"], default=None)


def _share(rows: dict[str, dict]) -> float | None:
    best = _best(rows, OURS)
    return None if best is None else best["copy_fraction"]


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _faster(rows: dict[str, dict], others: tuple[str, ...]) -> float | None:
    ours, other = _best(rows, OURS), _best(rows, others)
    return None if ours is None or other is None else other["microseconds"] / ours["microseconds"]


# ---------------------------------------------------------------------------- the output
def section(results: Path = RESULTS) -> str:
    """For docs/performance.md; empty while no GPU was measured."""
    if not any(True for _ in documents(results)):
        return ""
    return table(("card", "goal", "measured", ""), [(x.card, x.goal, x.measured, x.verdict) for x in lines(results)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.goals", description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of documents")
    results = parser.parse_args().results
    if not results.is_dir():
        parser.error(f"{results} is no folder")
    for line in lines(results):
        print(f"{line.verdict or '-':8}{line.card}: {line.goal}: {line.measured}")


if __name__ == "__main__":
    main()
