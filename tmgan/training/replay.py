"""`tmgan replay RUN --step N`: a step of a run once more, with the statistics of every tensor in it.

From the nearest checkpoint on, steps run as they did in the run; the one that is asked for runs operation by operation.
Every random number follows from the seed and the step, so on a CPU all bits are those of the run.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tmgan.common.files import require_writable, user_path, write_text
from tmgan.common.json_text import parse_json
from tmgan.common.progress import Progress, say
from tmgan.common.text import columns
from tmgan.config.settings import TrainConfig
from tmgan.training.diagnosis import lasting, table, verdict
from tmgan.training.editor_task import EditorTask
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.intermediates import Intermediates, WatchedLoader
from tmgan.training.recorder import FILE
from tmgan.training.reopen import NUMERICS, Reopened, reopen, settings_of, size_of
from tmgan.training.tensor_stats import Row

_FAR = 1000  # steps up to the one that is asked for, from which on a hint is worth its line


@dataclass(frozen=True)
class Replay:
    """A step, computed again.

    Attributes:
        run: its folder.
        step: number of the step, from 0.
        start: step before which the state was loaded; 0 for the beginning of the run.
        losses: of the step, by name, and its other numbers, such as the norms of its gradients.
        recorded: what the run's flight record says of the step, by name; None where it says nothing.
        tensors: statistics of all tensors, in the order in which they came about.
        notes: what is not as it was in the run, as sentences.
    """

    run: Path
    step: int
    start: int
    losses: dict[str, float]
    recorded: dict[str, float] | None
    tensors: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def first_bad(self) -> Row | None:
        """The first tensor that is not finite in a way that lasts, see diagnosis.py; None where all are sound."""
        return next(iter(lasting(self.tensors)), None)

    def __str__(self) -> str:
        lines = [f"NOTE: {note}" for note in self.notes]
        if self.recorded is not None:
            lines += ["What the run has recorded of the step, and what came out now:", self._compared()]
        lines += [table(self.tensors), *verdict(self.tensors, self.step, self.start)]
        if self.first_bad is None and self.recorded is not None and not _is_sound(self.recorded):
            lines.append(
                "The run has recorded this step as bad, and here it is not: another device, engine, version or number "
                "of threads than the run's, changed code, or a machine that makes mistakes."
            )
        return "\n".join(lines)

    def _compared(self) -> str:
        assert self.recorded is not None
        lines = [("", "recorded", "now", "difference")]
        for name, before in self.recorded.items():
            after = self.losses.get(name)
            shown = "-" if after is None else f"{after:.6g}"
            lines.append(
                (name, f"{before:.6g}", shown, "not computed" if after is None else _difference(before, after))
            )
        return columns(lines)

    def write(self, folder: Path) -> Path:
        """Write FOLDER/step-N.jsonl, a line per tensor, whole or not at all; return its path."""
        path = folder / f"step-{self.step}.jsonl"
        bad = {row.order for row in lasting(self.tensors)}
        rows = ({**row._asdict(), "bad": row.order in bad} for row in self.tensors)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
        return path


def replay(run: str | Path, step: int | None = None, data: str = "", out: str | Path | None = None) -> Replay:
    """Compute a step of a run once more. The run may be going on; nothing of it is changed.

    Args:
        run: folder of `tmgan train` or `tmgan damsm`; RUN/encoders of the encoders that a run has trained itself.
        step: number of the step, from 0. None: the first one that the run's flight record (flight.json) says was bad.
        data: the pack, where it was moved since; "": as in the run's settings.
        out: folder that will be written to, by `Replay.write`: refused before anything is computed. None: none.

    Raises:
        ValueError: there is no such run or step, or what the run was trained with is not there any more.
    """
    folder = user_path(run)
    config = settings_of(folder)
    numerics, record = _flight(folder)
    step = _first_bad_step(folder, record) if step is None else step
    steps, batch = size_of(config)
    if not 0 <= step < steps:
        raise ValueError(f"--step {step}: {folder} has steps 0 to {steps - 1}, of {batch} images each.")
    if out is not None:
        require_writable(user_path(out))
    reopened = reopen(folder, config, step, data, numerics)
    _say_where(reopened, step)
    rows, losses = _run(reopened, step)
    recorded = next((numbers for number, numbers in record if number == step), None)
    return Replay(folder, step, reopened.start, losses, recorded, tuple(rows), _notes(reopened, step))


def _say_where(reopened: Reopened, step: int) -> None:
    """What will run, before it does."""
    origin = f"the checkpoint of {reopened.images:,} images" if reopened.images else "the beginning"
    ahead = step - reopened.start
    steps = "no step" if ahead == 0 else "1 step" if ahead == 1 else f"{ahead:,} steps"
    say(f"Step {step} of {reopened.folder}: from {origin}, {steps} up to it, on {reopened.runtime.describe()}.")
    if ahead > _FAR:
        say("  Nearer checkpoints are kept by --output.checkpoint-images and --output.keep.")


def _notes(reopened: Reopened, step: int) -> tuple[str, ...]:
    engine = reopened.runtime.engine
    own = isinstance(reopened.config, TrainConfig) and engine != "eager"
    more = (
        [f"the run's engine is {engine}; step {step} ran operation by operation, whose last bits differ."]
        if own
        else []
    )
    return (*reopened.notes, *more)


def _run(reopened: Reopened, step: int) -> tuple[list[Row], dict[str, float]]:
    """The steps up to `step` as the run does them, and that one under observation."""
    eager = dataclasses.replace(reopened.runtime, engine="eager")
    ahead = step - reopened.start
    task = reopened.task(reopened.runtime if ahead else eager)
    with closing(task.loader):
        show = Progress()
        with show.bar("steps", ahead):
            for number in range(reopened.start, step):
                task.step(number)
                show.advance()
        if task.runtime.engine == "eager":
            return record_step(task, step)
        state = task.state_dict()
    del task
    gc.collect()  # of the other engine only the state is needed
    task = reopened.task(eager)
    with closing(task.loader):
        task.load_state_dict(state)
        del state
        return record_step(task, step)


def record_step(task: EditorTask | EncoderTask, step: int) -> tuple[list[Row], dict[str, float]]:
    """Train one step and look at every tensor in it.

    Args:
        task: of the eager engine; it ends in the state that any training step leaves.

    Returns:
        The tensors' statistics and the losses.
    """
    loader = task.loader
    with Intermediates(task.train_step) as seen:
        task.loader = WatchedLoader(loader, seen)
        try:
            losses = {name: loss.detach() for name, loss in task.step(step).items()}
        finally:
            task.loader = loader
    seen.add_losses(losses)
    return seen.rows(), {name: loss.item() for name, loss in losses.items()}


_Record = list[tuple[int, dict[str, float]]]


def _flight(folder: Path) -> tuple[dict[str, Any], _Record]:
    """What a run has left when it ended badly: what it was computed with, and (step, its numbers), oldest first.

    Both are empty where there is no record, or a damaged one.
    """
    try:
        record = parse_json((folder / FILE).read_text("utf-8"))
        rows = [
            (int(row["step"]), {name: float(x) for name, x in row.items() if name not in ("step", "images")})
            for row in record["rows"]
        ]
        return {name: record[name] for name in NUMERICS}, rows
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, []


def _first_bad_step(folder: Path, record: _Record) -> int:
    for step, numbers in record:
        if not _is_sound(numbers):
            return step
    none = "knows no bad step" if record else "is not there: a run writes it when it ends badly"
    inside = folder / "encoders" / FILE
    hint = f" One of its encoders is in {inside}." if inside.exists() else ""
    raise ValueError(f"{folder / FILE} {none}. Say which step to replay: --step N.{hint}")


def _is_sound(numbers: dict[str, float]) -> bool:
    return all(math.isfinite(value) for value in numbers.values())


def _difference(before: float, after: float) -> str:
    if before == after or (math.isnan(before) and math.isnan(after)):
        return "equal"
    if not (math.isfinite(before) and math.isfinite(after)):
        return "differs"
    return f"{abs(after - before) / max(abs(before), abs(after)):.1e}"
