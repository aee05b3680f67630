"""Kills training at random moments, resumes it, and checks that nothing was lost.

    python -m benchmarks.reliability.kills [--count 200] [--seed 0] [--out FILE]

`tmgan train` trains encoders and an editor, the smallest there are, and saves after every second step. COUNT times it
gets a kill -9 after a random time (one time in four, when it writes a file next), and the same command goes on. A run
that ends before is compared with one that nobody disturbed, and another begins. After every kill every file of the run
must be readable and at most one interval may be lost; at the end of a run networks, optimisers, averages, rows of
losses and metrics, pictures and the choice of the best checkpoint are those of the undisturbed run, to the bit. The
first thing that is not so ends the script.

What is lost counts from the last checkpoint that was finished: the images after it, which the run trains again. While
a save is being written, training may go on: a kill then loses the interval before it too.
"""

from __future__ import annotations

import argparse
import functools
import json
import mmap
import random
import signal
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from benchmarks.machine import describe
from benchmarks.reliability.smallest import (
    BATCH,
    Forks,
    command,
    differences,
    newest,
    rows,
    settings,
    wait_for,
    write_pack,
    write_settings,
)
from tmgan.common.files import write_json
from tmgan.training.editor_task import EditorTask
from tmgan.training.encoder_task import EncoderTask

IMAGES, INTERVAL = 48, 4
# What a process is at. Before its first step it loads; between the steps it reports and saves, and after the last one
# it measures the finished editor.
PLACES = ("start", "between steps", "step", "draw", "measure", "export")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill(Path(folder), arguments.count, arguments.seed)
    document = {"schema": 1, "kind": "reliability-kills", "machine": describe("cpu"), "seed": arguments.seed, **found}
    print(json.dumps(document, indent=1))
    if arguments.out:
        write_json(arguments.out, document)


def kill(folder: Path, count: int, seed: int, images: int = IMAGES, forks: Forks | None = None) -> dict[str, Any]:
    """Train in `folder`, on `images` images and half as many for the encoders, until `count` processes were killed.

    Returns:
        What was counted, for the document.

    Raises:
        AssertionError: something was lost; the message says what.
    """
    start, chance, forks = time.perf_counter(), random.Random(seed), forks or Forks()
    pack, output, place = write_pack(folder), folder / "output.txt", folder / "place"

    def arguments(run: Path) -> list[str]:
        return write_settings(settings(pack, run, images, images // 2, INTERVAL), run.with_suffix(".yaml"))

    def train(run: Path, longest: float | None = None, aimed: bool = False) -> bool:
        """Whether it has ended within so many seconds; else it is killed, then or when it writes a file next."""
        place.write_bytes(bytes(1))
        process = forks.start(recorded_command, arguments(run), output, place)
        process.join(longest)
        while aimed and process.is_alive() and not any(run.glob("**/.*.tmp-*")):
            pass
        if process.is_alive():
            process.kill()
        status = wait_for(process)
        assert status in (0, -signal.SIGKILL), f"it ended by itself with status {status}:\n{output.read_text()}"
        return status == 0

    forks.run(command, ["--version"], output)  # starts the server
    whole, began = folder / "whole", time.perf_counter()
    train(whole)
    seconds = time.perf_counter() - began

    finished = kills = resumed = checkpoints = inside_checkpoint = inside_other = lost = lost_in_save = 0
    places: Counter[str] = Counter()
    while kills < count:
        run = folder / f"run-{finished}"
        done = False
        while not done:
            resumed += any(run.glob("**/checkpoints/images-*.pt"))
            # As long as there are kills left: from none of it to half of a whole training.
            aimed = chance.random() < 0.25
            done = train(run, chance.uniform(0, seconds / 2), aimed) if kills < count else train(run)
            if done:
                break
            kills += 1
            places[PLACES[place.read_bytes()[0]]] += 1
            left = {file.parent.name for file in run.rglob(".*.tmp-*")}
            inside_checkpoint += "checkpoints" in left
            inside_other += bool(left) and "checkpoints" not in left
            checkpoints += require_readable(run)
            for part in (run / "encoders", run):
                gone, in_save = images_lost(part)
                assert gone <= (2 * INTERVAL if in_save else INTERVAL + BATCH), f"{part}: {gone} images are lost"
                lost, lost_in_save = (lost, max(lost_in_save, gone)) if in_save else (max(lost, gone), lost_in_save)
        require_same(whole, run)
        finished += 1
    return {
        "kills": kills,
        "kills_by_place": {name: places[name] for name in PLACES},
        "kills_inside_save": inside_checkpoint,
        "kills_inside_other_file": inside_other,
        "commands_resumed": resumed,
        "runs_finished": finished,
        "checkpoints_checked": checkpoints,
        "interval_images": INTERVAL,
        "most_images_lost": lost,
        "most_images_lost_inside_save": lost_in_save,
        "seconds": round(time.perf_counter() - start, 1),
    }


def recorded_command(arguments: list[str], output: Path, place: Path) -> None:
    """`tmgan ARGUMENTS` in a process that says in the first byte of a file what it is at: an index of PLACES."""
    with open(place, "r+b") as opened:
        shared = mmap.mmap(opened.fileno(), 1)  # the byte outlives the process

    def recorded(name: str, method: Any) -> Any:
        @functools.wraps(method)
        def call(*arguments: Any) -> Any:
            shared[0] = PLACES.index(name)
            try:
                return method(*arguments)
            finally:
                shared[0] = PLACES.index("between steps")

        return call

    for task in (EncoderTask, EditorTask):
        for name in ("step", "draw", "measure", "export"):
            setattr(task, name, recorded(name, getattr(task, name)))
    command(arguments, output)


def require_readable(run: Path) -> int:
    """AssertionError if a file of a run cannot be read. Temporary files are none of it.

    Returns:
        How many checkpoints were read.
    """
    readers: dict[str, Callable[[Path], Any]] = {
        ".pt": _read_checkpoint,
        ".json": lambda path: json.loads(path.read_text("utf-8")),
        ".yaml": lambda path: yaml.safe_load(path.read_text("utf-8"))["output"],
        ".jsonl": rows,
        ".safetensors": load_file,
        ".png": lambda path: Image.open(path).load(),
        ".txt": lambda path: path.read_text("utf-8"),
    }
    files = [file for file in run.rglob("*") if file.is_file() and file.suffix in readers and ".tmp-" not in file.name]
    for file in files:
        try:
            readers[file.suffix](file)
        except Exception as error:
            raise AssertionError(f"{file} cannot be read: {error!r}") from error
    return sum(file.suffix == ".pt" for file in files)


def _read_checkpoint(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None, "a checksum is wrong"
    return torch.load(path, map_location="cpu", weights_only=True)


def images_lost(run: Path) -> tuple[int, bool]:
    """How many images the steps have seen that no finished checkpoint has, and whether one was being written."""
    saved = int(newest(run).stem.removeprefix("images-")) if any(run.glob("checkpoints/images-*.pt")) else 0
    seen = max((row["images"] for row in rows(run / "stats.jsonl")), default=0)
    return max(0, seen - saved), any(run.glob("checkpoints/.images-*"))


def require_same(whole: Path, run: Path) -> None:
    """AssertionError unless a run has the results of the undisturbed one, and says that it is done."""
    found = differences(whole, run)
    assert not found, f"not as without kills: {', '.join(found)}"
    status = json.loads((run / "run.json").read_text("utf-8"))["status"]
    assert status == "done", f"{run} says that it is {status}"


if __name__ == "__main__":
    main()
