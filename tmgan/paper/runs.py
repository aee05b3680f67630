"""Trains the runs of the tables one after the other, reuses those that are finished, and says how long it takes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tmgan.common.json_text import parse_json
from tmgan.common.text import duration
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import DamsmConfig, TrainConfig
from tmgan.data.pack import Pack
from tmgan.models.bundle import ENCODERS, GENERATOR, Encoders
from tmgan.paper.variants import BASE, Pair
from tmgan.training.editor_task import EditorTask, check_fits
from tmgan.training.jobs import train_editor, train_encoders
from tmgan.training.run_folder import MAY_CHANGE

_PROBES = 3  # steps that are timed for the first estimate
# A run may be resumed with other learning rates, as a remedy; runs that are compared may not.
_NO_MATTER = MAY_CHANGE - {"optim.lr_g", "optim.lr_d", "pretrain.lr"}


@dataclass(frozen=True)
class Run:
    """One training run: a variant with a seed."""

    variant: str
    seed: int
    config: TrainConfig
    encoders: Pair = "shared"

    @property
    def path(self) -> Path:
        return Path(self.config.run)


def images_done(path: Path) -> int:
    """Images that a run has seen according to its folder; 0 when there is none."""
    try:
        return int(parse_json((path / "run.json").read_text("utf-8"))["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def is_finished(config: TrainConfig | DamsmConfig, images: int, result: str) -> bool:
    """Whether the folder holds this very run, complete: then it is reused.

    A folder with other settings is not finished; training in it is refused with the settings that differ.

    Raises:
        ValueError: when it was trained for longer.
    """
    path = Path(config.run)
    try:
        status = parse_json((path / "run.json").read_text("utf-8"))
        seen, state = int(status["images"]), status["status"]
        saved = configfile.read_plain(path / "config.yaml")
        before = configfile.overlay(configfile.to_dict(type(config)()), saved)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing or damaged
        return False
    differences = configfile.differences(before, configfile.to_dict(config))
    batch = config.batch if isinstance(config, TrainConfig) else config.pretrain.batch
    if seen >= images + batch:
        raise ValueError(
            f"{path} was trained on {seen:,} images and {images:,} are wanted now: they would "
            "not be comparable. Ask for as many images as before, or choose another --out."
        )
    return (
        state == "done"
        and seen >= images
        and (path / result).is_file()
        and not [name for name in differences if name not in _NO_MATTER]
    )


@dataclass
class Estimate:
    """How long the runs still take, from measured speeds: a variant's own once one of its runs has been trained,
    before that the mean of the others, before that the speed of a few steps of the baseline."""

    first: float  # seconds per image, of a few steps
    _spent: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # variant -> (images, seconds)

    def add(self, variant: str, images: int, seconds: float) -> None:
        """Record that a run, or a part of one, was trained."""
        if images > 0:
            self._spent.setdefault(variant, []).append((images, seconds))

    def seconds(self, variant: str, images: int) -> float:
        """For this many more images of a variant."""
        spent = self._spent.get(variant) or [pair for pairs in self._spent.values() for pair in pairs]
        if not spent:
            return images * self.first
        return images * sum(s for _, s in spent) / sum(i for i, _ in spent)

    def left(self, runs: Iterable[Run]) -> float:
        """For all images that the runs still lack."""
        return sum(self.seconds(run.variant, max(0, run.config.images - images_done(run.path))) for run in runs)


def shared_encoders(config: DamsmConfig) -> Path:
    """The folder of a pair of encoders that runs share, trained first if necessary."""
    if not is_finished(config, config.pretrain.images, ENCODERS):
        train_encoders(config)
    return Path(config.run)


def first_estimate(config: TrainConfig, pack: Pack, encoders: Encoders) -> Estimate:
    """Seconds per image, from a few steps of a run that are thrown away."""
    task = EditorTask(dataclasses.replace(config, run=""), pack, encoders, decide(config.runtime))
    with closing(task.loader):
        for _ in range(2):  # warm up
            _read(task.step(0))
        start = time.perf_counter()
        for step in range(_PROBES):
            losses = task.step(step)
        _read(losses)
    return Estimate((time.perf_counter() - start) / (_PROBES * config.batch))


def _read(losses: dict[str, torch.Tensor]) -> None:
    """Wait for the device."""
    torch.stack([loss.detach().float() for loss in losses.values()]).tolist()


def train_all(
    runs: list[Run], pack: Pack, encoders: Mapping[Pair, Encoders], say: Callable[[str], None]
) -> dict[str, str]:
    """Train what is not finished.

    Args:
        encoders: of all pairs that the runs have.

    Returns:
        Why runs failed, by their folder's name: the others are trained all the same.

    Raises:
        FloatingPointError: when a run of the baseline diverged, without which nothing can be compared.
        Interrupted: when a signal came.
        ValueError: when a folder holds another run.
    """
    open_runs = []
    for run in runs:
        check_fits(run.config, pack, encoders[run.encoders])
        if not is_finished(run.config, run.config.images, GENERATOR):
            open_runs.append(run)
    to_train = {run.path for run in open_runs}
    for run in open_runs:
        if run.config.from_ and Path(run.config.from_) in to_train and images_done(run.path) > 0:
            raise ValueError(
                f"{run.path} goes on from {run.config.from_}, which would be trained further. Ask for as many images "
                "as before, or choose another --out."
            )
    say(f"{len(runs)} runs: {len(runs) - len(open_runs)} are finished and reused, {len(open_runs)} to train.")
    failures: dict[str, str] = {}
    if not open_runs:
        return failures
    estimate = first_estimate(open_runs[0].config, pack, encoders[open_runs[0].encoders])
    say(
        f"About {duration(estimate.left(open_runs))} of training, by {_PROBES} steps of the first run. Interrupt it "
        "whenever you like: the same command goes on."
    )
    for k, run in enumerate(open_runs):
        say(
            f"[{k + 1}/{len(open_runs)}] {run.path.name}, about {duration(estimate.left([run]))}; "
            f"about {duration(estimate.left(open_runs[k:]))} left in all."
        )
        first = Path(run.config.from_).name
        if first in failures:
            failures[run.path.name] = f"It goes on from {first}, which failed."
            continue
        before, start = images_done(run.path), time.perf_counter()
        with unless_baseline(run, failures, say):
            train_editor(run.config, evaluated=False)
        estimate.add(run.variant, images_done(run.path) - before, time.perf_counter() - start)
    return failures


@contextmanager
def unless_baseline(run: Run, failures: dict[str, str], say: Callable[[str], None]) -> Iterator[None]:
    """A FloatingPointError inside is noted as the failure of this run, and raised if it is one of the baseline's."""
    try:
        yield
    except FloatingPointError as error:
        if run.variant == BASE:
            raise
        failures[run.path.name] = str(error)
        say(f"{run.path.name} failed, the others go on. {error}")
