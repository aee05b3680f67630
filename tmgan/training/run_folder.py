"""A run's folder: configuration, status, log, and the rule that the same command resumes it.

config.yaml  run.json (status)  log.txt  stats.jsonl  metrics.jsonl  tensorboard/  checkpoints/  samples/
"""

from __future__ import annotations

import fcntl
import os
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from tmgan.common.commands import command
from tmgan.common.errors import OUR_FAULT, REFUSED, exit_status, sentence
from tmgan.common.files import append_text, remove_orphans, require_writable, user_path, write_json, write_text
from tmgan.common.json_text import parse_json
from tmgan.common.progress import say
from tmgan.common.text import printable
from tmgan.common.version import __version__
from tmgan.config import configfile
from tmgan.models import bundle
from tmgan.training.checkpoint import Checkpoints, checkpoints_in

# What may change when a run is resumed: how long it goes, what it keeps in memory, what it writes, where things lie
# (what they hold is compared by the loop), and the remedy for a run that diverged.
MAY_CHANGE = {
    "run",
    "data",
    "encoders",
    "from",
    "allow_unfinished",
    "images",
    "memory",
    "pretrain.images",
    "weights_dir",
    "runtime.threads",
    "runtime.loader",
    "optim.lr_g",
    "optim.lr_d",
    "pretrain.lr",
    "output.tick_images",
    "output.sample_images",
    "output.checkpoint_images",
    "output.keep",
}


_RATES = ("optim.lr_g", "optim.lr_d", "pretrain.lr")  # that change nothing once the last step is done


class RunFolder:
    """Opens or creates the folder, takes its lock, and refuses a command that would mix two different runs.

    Attributes:
        path: of the folder.
        samples: folder of pictures.
        checkpoints: of the run.
        state: what `status` was called with last, "" before.

    Raises:
        ValueError: the folder is not a run, belongs to a run with other settings, or is in use.
    """

    def __init__(self, path: str | Path, config: Any, keep: int):
        self.path = user_path(path)
        require_no_import(self.path)
        self.samples = self.path / "samples"
        before = _record(self.path)
        self._images, self.state = before.get("images", 0), ""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file. Choose another --run.")
        require_writable(Path(os.path.realpath(self.path)))
        Path(os.path.realpath(self.path)).mkdir(parents=True, exist_ok=True)  # also where a link leads to
        strangers = (
            []
            if not self.path.exists() or (self.path / "config.yaml").exists()
            else [p.name for p in self.path.iterdir() if not p.name.startswith(".")]
        )
        if strangers and checkpoints_in(self.path / "checkpoints"):
            raise ValueError(
                f"{self.path} is a run whose config.yaml is missing, so nothing says which settings its checkpoints "
                "were trained with. Put it back, or choose another --run."
            )
        if strangers:
            raise ValueError(
                f"{self.path} is not a tmgan run and is not empty (it holds {strangers[0]}). Choose another --run."
            )
        self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 (held until close)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ValueError(
                f"Another process is training in {self.path}. Wait for it, or choose another --run."
            ) from None
        try:
            self._origin: dict[str, Any] | None = None
            if checkpoints_in(self.path / "checkpoints"):
                self._origin = before.get("from")
                self._check_config(config)
            remove_orphans(self.path)
            # Before anything else that has a name: also after a kill it says whose folder this is.
            write_text(self.path / "config.yaml", configfile.to_yaml(config))
            self.samples.mkdir(exist_ok=True)
            remove_orphans(self.samples)
            self.checkpoints = Checkpoints(self.path / "checkpoints", keep, self.log)
        except BaseException:
            self._lock.close()
            raise

    def _check_config(self, config: Any) -> None:
        """Refuse other settings than those that the run's checkpoints were trained with, or were before they ended."""
        defaults = configfile.to_dict(type(config)())  # settings that are newer than the run
        before = configfile.overlay(defaults, self._settings())
        now = configfile.to_dict(config)
        changes = configfile.differences(before, now)
        # The run of --from may have moved, but it is the same one, and a run began with one or with none.
        alone = set() if _may_be_same(before.get("from"), now.get("from")) else {"from"}
        names = [name for name in changes if name not in MAY_CHANGE - alone]
        if names:
            lines = "\n".join(f"  {n}: {_shown(before, n)} in the run, {_shown(now, n)} now" for n in names)
            raise ValueError(
                f"{self.path} was started with other settings:\n{lines}\nRepeat the settings of the run to "
                f"resume it (--config {self.path / 'config.yaml'} has them), or choose another --run."
            )
        images, batch = _size_of(config)
        late = [name for name in changes if name in _RATES and self._images >= images]
        if late or self._images >= images + batch:
            what = f"{', '.join(late)} would change nothing" if late else f"{images:,} are wanted"
            raise ValueError(
                f"{self.path} is complete: it has seen {self._images:,} images, and {what}. Train it further with more "
                "--images, or choose another --run."
            )

    def _settings(self) -> dict[str, Any]:
        """What config.yaml says. ValueError when it is damaged."""
        path = self.path / "config.yaml"
        try:
            settings = configfile.read_plain(path)
        except ValueError:
            settings = {}
        if not settings:
            raise ValueError(
                f"{path} is damaged, so nothing says which settings the checkpoints beside it were trained with. "
                "Restore it, or choose another --run."
            )
        return settings

    def log(self, line: str) -> None:
        """Append a line to log.txt and print it."""
        self._append(line)
        say(line)

    def _append(self, line: str) -> None:
        line = printable(line)
        append_text(self.path / "log.txt", f"{datetime.now().isoformat(timespec='seconds')} {line}\n")

    def begin_with(self, origin: dict[str, Any]) -> None:
        """Record in run.json, from now on, what the run of --from gave to this one."""
        self._origin = origin

    def status(self, status: str, images: int | None = None, **more: Any) -> None:
        """Record in run.json where the run stands.

        Args:
            status: "running", "done", "stopped" or "failed".
            images: seen so far; None: as before.
            more: further entries.
        """
        self._images = self._images if images is None else images
        self.state = status
        row = {
            "status": status,
            "images": self._images,
            "pid": os.getpid(),
            "tmgan": __version__,
            "torch": str(torch.__version__),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            **({} if self._origin is None else {"from": self._origin}),
            **more,
        }
        write_json(self.path / "run.json", row)

    def failed(self, error: Exception) -> None:
        """Record an error: in run.json and, when it is a fault of tmgan, with its traceback in traceback.txt.

        A command that was refused before it went on leaves the record of what the run has done.
        """
        refused = self.state == "" and exit_status(error) == REFUSED
        if not (refused and (self.path / "run.json").exists()):
            self.status("failed", reason=sentence(error))
        if exit_status(error) == OUR_FAULT:
            path = self.path / "traceback.txt"
            write_text(path, "".join(traceback.format_exception(error)))
            error.add_note(f"Saved in {path}.")
        self._append(f"FAILED: {sentence(error)}")  # the command prints it

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def _size_of(config: Any) -> tuple[int, int]:
    """Images in all and in a batch: the editor's, or the encoders'."""
    own = config if hasattr(config, "images") else config.pretrain
    return own.images, own.batch


def require_no_import(path: Path) -> None:
    """ValueError if this is the folder of an import, which training does not change."""
    unknown = not _record(path) and (path / bundle.GENERATOR).exists() and not (path / "checkpoints").exists()
    if unknown or _record(path).get("status") == bundle.IMPORTED:
        raise ValueError(
            f"{path} is an import; train on with `{command('train', '--from', path, '--run', 'NEW')}`, or choose "
            "another --run."
        )


def images_seen(path: Path) -> int:
    """How many images a run has seen, by its run.json; 0 without one."""
    return _record(path).get("images", 0)


def _may_be_same(before: str | None, now: str | None) -> bool:
    """Whether two places of --from may be of one run that has moved."""
    if not before or not now:
        return False
    there, here = user_path(before), user_path(now)
    return not there.is_dir() or there.resolve() == here.resolve()


def _shown(settings: dict, name: str) -> str:
    value = configfile.setting(settings, name)
    return "none" if value == "" else str(value)


def _record(path: Path) -> dict[str, Any]:
    """What run.json says of a run, of the right kind; {} without one."""
    try:
        record = parse_json((path / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    kinds = {"images": int, "status": str, "from": dict}
    return {
        key: record[key]
        for key, kind in kinds.items()
        if isinstance(record, dict) and isinstance(record.get(key), kind)
    }
