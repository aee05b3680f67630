"""The smallest run there is, its command in a process that is cheap to kill, and what makes two runs the same.

Python, torch and tmgan take seconds to import, the smallest run takes less than one. So the processes come from
multiprocessing's fork server: one process imports everything once and does nothing else, and each command is a fork of
it. That is sound because the server runs one thread, no step and no product of matrices: there is no lock that another
thread could hold, no pool of threads that a fork would lack (`_one_thread` refuses to run otherwise). A kill -9 of the
fork is the kill of any process: its memory is gone at once, and what it had written stays.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from tmgan.cli import main
from tmgan.config import configfile
from tmgan.config.settings import TrainConfig
from tmgan.data.drawn.dataset import write_birds
from tmgan.data.prepare import prepare

# Lightweight GAN as small as it gets, and encoders that the same command trains; a status line after every step.
BATCH = 2
_SETTINGS: dict[str, Any] = {
    "batch": BATCH,
    "model": {
        "image_size": 64,
        "residual_blocks": 0,
        "g_width": 4,
        "top_width": 4,
        "d_width": 4,
        "affine_dim": 4,
        "condition_dim": 8,
        "noise_dim": 4,
    },
    "encoder": {"kind": "small", "dim": 16, "word_dim": 12, "width": 4},
    "pretrain": {"batch": BATCH, "lr": 5.0e-3},
    "runtime": {"threads": 1},
    "output": {"tick_images": BATCH, "keep": 3},
}
_PRELOAD = ("benchmarks.reliability.smallest", "tmgan.cli.train", "tmgan.training.jobs", "torch.utils.tensorboard")
_OF_THE_CLOCK = ("second", "time")  # in the names of what rows hold of the machine's speed


def write_pack(folder: Path, photos: int = 12, seed: int = 3) -> Path:
    """A pack of a few drawn birds of 64 pixels, in `folder`."""
    write_birds(folder / "birds", count=photos, seed=seed, image_size=64)
    prepare(folder / "birds", folder / "pack", image_size=64, workers=1, progress=False)
    return folder / "pack"


def settings(
    pack: Path, run: Path, images: int, pretrain_images: int, interval: int, device: str = "cpu"
) -> TrainConfig:
    """The smallest run.

    Args:
        images: of the editor, two a step.
        pretrain_images: of the encoders that the same command trains first.
        interval: images between checkpoints, each measured; pictures are drawn half as often.
    """
    config = configfile.merge(configfile.from_preset("lightweight"), _SETTINGS, "smallest")
    return configfile.merge(
        config,
        {
            "data": str(pack),
            "run": str(run),
            "runtime": {"device": device},
            "images": images,
            "pretrain": {"images": pretrain_images},
            "output": {"checkpoint_images": interval, "sample_images": 2 * interval},
        },
        "run",
    )


def write_settings(config: TrainConfig, path: Path) -> list[str]:
    """Write a file of settings.

    Returns:
        The arguments of `tmgan` that train with it.
    """
    path.write_text(yaml.safe_dump(configfile.to_dict(config)), "utf-8")
    return ["train", "--config", str(path)]


class Forks:
    """Starts processes as forks of one that has imported everything."""

    def __init__(self) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_PRELOAD))

    def start(self, function: Callable[..., None], *given: Any) -> ForkServerProcess:
        """Start a process that calls a function of a module, `command` for one, and ends."""
        process = self._context.Process(target=_one_thread, args=(function, given))
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # for the server, if this is the first one
        try:
            process.start()
        finally:
            os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)
        return process

    def run(self, function: Callable[..., None], *given: Any) -> int:
        """The same, to its end. Returns its exit status; that of a signal is negative."""
        return wait_for(self.start(function, *given))


def wait_for(process: ForkServerProcess) -> int:
    """The exit status of a process, when it has ended; that of a signal is negative."""
    process.join()
    status = process.exitcode
    process.close()
    assert status is not None, "it has been waited for"
    return status


def _one_thread(function: Callable[..., None], given: tuple) -> None:
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("the process that was forked had more than one thread")
    torch.set_num_threads(1)
    function(*given)


def command(arguments: list[str], output: Path) -> None:
    """`tmgan ARGUMENTS`, with what it prints, both streams, in a file."""
    number = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(number, stream)
    os.close(number)
    main(arguments)


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl file without what depends on the machine's speed; a last line that a kill cut is left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [{k: v for k, v in row.items() if not any(word in k for word in _OF_THE_CLOCK)} for row in found]


def newest(run: Path) -> Path:
    """The newest checkpoint, by its name."""
    return max((run / "checkpoints").glob("images-*.pt"))


def differences(one: Path, other: Path) -> list[str]:
    """What of the results of two runs, encoders of their own included, is not the same to the bit; [] if all is."""
    found = []
    for part in ("", "encoders"):
        here, there = one / part, other / part
        if part and not (here.exists() and there.exists()):
            continue  # one of them was given its encoders
        first, second = newest(here), newest(there)
        if first.name != second.name:
            found.append(f"{first}, but {second}")
            continue
        found += [f"{first}: {name}" for name in _unequal(_load(first), _load(second))]
        found += [
            f"{here / name}" for name in ("stats.jsonl", "metrics.jsonl") if rows(here / name) != rows(there / name)
        ]
        for file in (*here.glob("*.safetensors"), *here.glob("samples/*"), *here.glob("checkpoints/best.json")):
            twin = there / file.relative_to(here)
            if not twin.exists() or _content(twin) != _content(file):
                found.append(str(file))
        found += [f"{file} is left over" for folder in (here, there) for file in folder.rglob(".*.tmp-*")]
    return found


def _content(path: Path) -> Any:
    """What is in a file; of tensors without the settings beside them, which name the run's folder."""
    return path.read_bytes() if path.suffix != ".safetensors" else {k: v.tolist() for k, v in load_file(path).items()}


def _load(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def _unequal(one: Any, other: Any, name: str = "") -> list[str]:
    """Dotted names of the leaves that differ; NaN equals NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other}, key=str)
        return [n for key in keys for n in _unequal(one.get(key), other.get(key), f"{name}.{key}".lstrip("."))]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [n for i, (a, b) in enumerate(zip(one, other, strict=True)) for n in _unequal(a, b, f"{name}.{i}")]
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape and torch.equal(one.isnan(), other.isnan())
        return [] if same and torch.equal(one.nan_to_num(), other.nan_to_num()) else [name]
    return [] if one == other else [name]
