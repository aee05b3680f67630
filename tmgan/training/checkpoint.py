"""Checkpoints: one file of plain types each, never half-written, loadable with weights_only=True.

A file is written under a temporary name, fsynced and renamed, so a crash at any moment leaves the ones before intact.
No random or loader state is in it: both follow from (seed, step), see plan.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tmgan.common.files import remove_orphans, write_atomically, write_json
from tmgan.common.json_text import parse_json
from tmgan.common.torch_file import check_torch_file

FORMAT = 1
_KINDS = {"images": int, "step": int, "task": dict}
_NAME = re.compile(r"images-(\d+)\.pt")


class Checkpoints:
    """The checkpoints of a run: `images-000000040000.pt` and so on, the newest `keep` of them, and the best one, which
    best.json names."""

    def __init__(self, folder: Path, keep: int, log: Callable[[str], None]):
        self.folder, self.keep, self.log = folder, keep, log
        folder.mkdir(parents=True, exist_ok=True)
        remove_orphans(folder)

    def paths(self) -> list[Path]:
        """Newest first."""
        return checkpoints_in(self.folder)

    def save(self, images: int, state: dict, score: float | None = None) -> Path:
        """Write the state reached after `images` images; `score` (higher is better) decides which one is the best."""
        path = self.folder / f"images-{images:012d}.pt"
        content = {"format": FORMAT, "images": images, **state}
        write_atomically(path, lambda file: torch.save(content, file), _size(content))
        best = self.best()
        if score is not None and math.isfinite(score) and (best is None or score >= best["score"]):
            best = {"file": path.name, "images": images, "score": score}
            write_json(self.folder / "best.json", best)
        for old in self.paths()[self.keep :]:
            if best is None or old.name != best["file"]:
                old.unlink()
        return path

    def restore_best(self, scores: Mapping[int, float]) -> None:
        """Name the best of the checkpoints that are there: a kill may have come before best.json, or damaged it.

        Args:
            scores: by the images that the run had seen.
        """
        known = {images_of(path): path.name for path in self.paths()}
        found = [(score, images) for images, score in scores.items() if images in known]
        if found:
            score, images = max(found)
            best = {"file": known[images], "images": images, "score": score}
            if best != self.best():
                write_json(self.folder / "best.json", best)

    def best(self) -> dict | None:
        """File name, images and score of the best checkpoint; None when none was scored."""
        try:
            best = parse_json((self.folder / "best.json").read_text("utf-8"))
            return best if (self.folder / best["file"]).exists() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def load_latest(self) -> dict | None:
        """The newest readable checkpoint, on the CPU; None when there is none. A damaged one is skipped with a warning.

        Raises:
            ValueError: none of the checkpoints can be read, or another version of tmgan wrote the newest one.
        """
        state = newest_of(self.paths(), self.log)
        if state is None and self.paths():
            raise ValueError(
                f"None of the checkpoints in {self.folder} can be read. Move the folder away to start from scratch."
            )
        return state


def checkpoints_in(folder: Path) -> list[Path]:
    """The files of a folder of checkpoints, newest first. Nothing in it is touched."""
    return sorted((p for p in folder.glob("*.pt") if _NAME.fullmatch(p.name)), reverse=True)


def images_of(path: Path) -> int:
    """How many images the run had seen, by a checkpoint's name."""
    return int(path.stem.removeprefix("images-"))


def newest_of(paths: list[Path], log: Callable[[str], None]) -> dict | None:
    """The first checkpoint that can be read, on the CPU; None when none can. `log` is told of those that are damaged.

    Raises:
        ValueError: another version of tmgan wrote it.
    """
    for path in paths:
        try:
            state = _load(path)
        except FileNotFoundError:  # the run goes on, and keeps the newest ones only
            continue
        except MemoryError:
            raise
        except Exception as error:  # a damaged file raises nearly anything
            log(f"WARNING: {path} is damaged ({error}); falling back to the checkpoint before it.")
            continue
        if state.get("format") != FORMAT:
            raise ValueError(
                f"{path} has checkpoint format {state.get('format')}, this tmgan reads {FORMAT}. "
                "Use the version of tmgan that wrote it, or start another run."
            )
        return state
    return None


def _size(state: Any) -> int:
    """Bytes of all tensors in nested plain types."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(_size, parts))


def _load(path: Path) -> dict:
    check_torch_file(path)  # every checksum too, of which torch verifies only some
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}")
    if state.get("format") == FORMAT:
        wrong = [name for name, kind in _KINDS.items() if not isinstance(state.get(name), kind)]
        if wrong:
            raise ValueError(f"it holds no {' and no '.join(wrong)}")
    return state
