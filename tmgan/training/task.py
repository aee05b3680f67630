"""What the loop trains: the encoders (encoder_task.py) or the editor (editor_task.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor

from tmgan.config.runtime import Runtime
from tmgan.training.loaders.batch import Loader


class Step(Protocol):
    """What a save needs of a training step, to copy its state while the next one runs."""

    before_update: Callable[[], None]  # the step calls it when it is about to change weights or Adam's moments

    def buffers(self) -> list[Tensor]:
        """Of the state, what the step changes before that."""


class Task(Protocol):
    """What the loop trains. A step is a pure function of the state and the step's number."""

    seed: int
    batch: int
    runtime: Runtime
    loader: Loader

    @property
    def train_step(self) -> Step:
        """The step of the networks."""

    def step(self, step: int) -> dict[str, Tensor]:
        """Train one step; return its numbers: scalars, still on the device, the same names in every step.

        A step whose gradients are not finite changes nothing, and one of its numbers tells.
        """

    def state_dict(self) -> dict:
        """Everything that training changes, as plain types."""

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""

    def notes(self) -> list[str]:
        """What to say about the state that was restored, as sentences."""

    def identity(self) -> dict[str, str]:
        """What a resumed run must find unchanged: name of a thing -> its hash."""

    def draw(self, path: Path) -> None:
        """Write a picture of the progress."""

    def measure(self, images: int) -> dict[str, float]:
        """Cheap metrics for metrics.jsonl; a "score", higher is better, picks the best checkpoint. May be empty.

        Args:
            images: seen so far.
        """

    def export(self, folder: Path, images: int, state: dict) -> None:
        """Write what users of the trained model need. Another thread calls it while the training goes on.

        Args:
            images: seen when `state` was copied.
            state: what state_dict returned then; the networks may have moved on.
        """
