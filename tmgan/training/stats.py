"""Where the numbers of a run go: its speed, stats.jsonl and metrics.jsonl, TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tmgan.common.files import append_text, write_text
from tmgan.common.json_text import parse_json
from tmgan.common.text import duration


class Speed:
    """Images per second since the last tick, and the time left; pauses for pictures and checkpoints do not count."""

    def __init__(self, images: int):
        self._images, self._start = images, time.perf_counter()
        self._rate: float | None = None

    def tick(self, images: int, total: int) -> tuple[float, str]:
        """Images per second, and the time left as text."""
        now = time.perf_counter()
        rate = (images - self._images) / max(now - self._start, 1e-9)
        self._rate = rate if self._rate is None else 0.7 * self._rate + 0.3 * rate
        self._images, self._start = images, now
        return rate, duration(max(0, total - images) / max(self._rate, 1e-9))  # the last batch may go past the total

    def resume(self, images: int) -> None:
        """Restart the clock after a pause."""
        self._images, self._start = images, time.perf_counter()


class JsonLines:
    """An append-only .jsonl file. Opening it for a resumed run drops the rows after `images`, which will come again."""

    def __init__(self, path: Path, images: int):
        self.path = path
        self.rows: list[dict[str, Any]] = []  # those that were kept
        lines = []
        if path.exists():
            for line in path.read_text("utf-8", errors="replace").splitlines():
                try:
                    row = parse_json(line)
                    before = row["images"] <= images
                except (ValueError, KeyError, TypeError):  # a crash cut the last line, or it is damaged
                    continue
                if before:
                    lines.append(line)
                    self.rows.append(row)
            write_text(path, "".join(line + "\n" for line in lines))

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; a number that is not finite becomes null, which is all that JSON has for it."""
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        append_text(self.path, json.dumps(row, allow_nan=False) + "\n")


class TensorBoard:
    """What TensorBoard shows of a run, when it is installed (extra `tb`); else nothing is written.

    Scalars in the groups loss, sign, metric and speed; the pictures of `samples/`; and the settings, as text
    and as hyperparameters. HPARAMS shows these for all runs of a folder, with the last value of every scalar.
    """

    def __init__(self, folder: Path, images: int, settings: str):
        """Go on after `images` images; 0: begin.

        Args:
            settings: the run's config.yaml, its text.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams
        except ImportError:
            self._writer = None
            return
        self._folder = folder
        with self._errors():
            # On resuming, hide what comes after the checkpoint: those steps come again.
            self._writer = SummaryWriter(str(folder), purge_step=images + 1 if images else None)
            self._writer.add_text("settings", f"```yaml\n{settings}\n```", images)
            # Not add_hparams, which makes a run of its own in a folder below, without the curves.
            _, session, _ = hparams(_hyperparameters(yaml.safe_load(settings)), {})
            self._writer._get_file_writer().add_summary(session)
            self._writer.flush()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """A thread of TensorBoard writes, and its errors name no file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._folder)) from error

    def scalars(self, group: str, values: Mapping[str, float], images: int) -> None:
        """Numbers after so many images, each shown as GROUP/NAME."""
        if self._writer is None:
            return
        with self._errors():
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, images)
            self._writer.flush()

    def picture(self, path: Path, images: int) -> None:
        """A picture of `samples/`, drawn after so many images."""
        if self._writer is None:
            return
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB"))
        with self._errors():
            self._writer.add_image("samples", pixels, images, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        """End the thread that writes, and its file. All that matters was flushed, where an error is one of the run."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()


def _hyperparameters(settings: dict[str, Any], prefix: str = "") -> dict[str, float | str]:
    """Nested settings by their dotted names; what is no number as text."""
    values: dict[str, float | str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            values |= _hyperparameters(value, f"{prefix}{name}.")
        else:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            values[f"{prefix}{name}"] = value if number else str(value)
    return values
