"""5-training.sh: a real training, as a user's: drawn birds, their encoders, then the editor for a third of the time.

What a user's script calls: `tmgan.configure`, `tmgan.train`, `tmgan.load`; a SIGTERM ends the training with everything
saved, as it would end a user's. Beyond what the other scripts need that takes rich, as tmgan does, and not tyro. The
birds, the run and its checkpoints are in the script's temporary folder and go with it: OUT keeps the rows, the log and
a picture.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.gpu import supervisor
from benchmarks.gpu.idle import Trace
from benchmarks.gpu.journal import Journal
from benchmarks.gpu.supervisor import Options, Task, alone, seconds_left

PRESET, SEED = "editor", 1
BIRDS, OTHERS = 600, 2_000  # drawn to train on, and those of benchmarks/quality: 300 of them are held out
SECONDS = 8.0  # of timing the step by itself
RESERVE = 75  # seconds kept for measuring the trained editor
ROWS = ("encoders", "first step", "loop", "idle", "picture", "own birds", "other birds")


def tasks(options: Options) -> list[Task]:
    no_rich = "" if importlib.util.find_spec("rich") else "needs rich"
    dry = "left out of a dry run" if options.dry else ""
    return [
        Task("draw", draw, ("drawn", "others drawn"), background=True, impossible=dry or no_rich),
        Task("step", step_alone, ("step alone",)),
        Task("training", training, ROWS, impossible=no_rich),
    ]


# ------------------------------------------------------------------------- birds
def image_size(options: Options) -> int:
    return 64 if options.dry else 256


@contextlib.contextmanager
def _locked(name: str) -> Iterator[Path]:
    """A folder of the script's temporary one, for one of its processes at a time."""
    folder = Path(os.environ["TMGAN_RUN"]) / name
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def own_birds(options: Options):
    """The pack to train on; whoever comes first draws it."""
    from tmgan.data.drawn.drawn_pack import drawn_pack

    with _locked("own") as folder:
        return drawn_pack(folder, 20 if options.dry else BIRDS, SEED, image_size(options), print)


def other_birds(options: Options):
    """The set that README's colour accuracy is measured on, at our size."""
    from benchmarks.quality.budgets import SET_SEED
    from tmgan.data.drawn.drawn_pack import drawn_pack

    with _locked("others") as folder:
        return drawn_pack(folder, 20 if options.dry else OTHERS, SET_SEED, image_size(options), print)


def draw(journal: Journal, options: Options) -> None:
    """Both sets, on one core, while the step compiles and trains."""
    for row, birds in (("drawn", own_birds), ("others drawn", other_birds)):
        start = time.perf_counter()
        pack = birds(options)
        seconds = time.perf_counter() - start
        journal.row(row, birds=len(pack.train) + len(pack.test), seconds=seconds, shown=f"{seconds:.0f} s")


# ---------------------------------------------------------------------- settings
def settings(options: Options, data: str = "", run: str = ""):
    """Those of the preset on drawn birds, whose encoders are small; without data, as a step by itself needs them."""
    import tmgan

    if options.dry:
        toy: dict = {"images": 10**6, "batch": 4, "runtime": {"device": "cpu", "threads": 1}}
        toy |= {"pretrain": {"images": 64, "batch": 8}, "output": {"tick_images": 8}}
        return tmgan.configure("quickstart", data=data, run=run, seed=SEED, **toy)
    small = {"encoder": {"kind": "small", "dim": 64, "word_dim": 64}} if not data else {}
    return tmgan.configure(PRESET, data=data, run=run, seed=SEED, images=10**8, **small)


def describe(config) -> dict:
    """What a document says about the run."""
    from benchmarks.step import measure as measure_steps
    from tmgan.config.runtime import decide

    runtime = decide(config.runtime)
    return {
        "settings": measure_steps.settings_of(config, runtime) | {"engine": runtime.engine},
        "machine": machine.describe(runtime.device.type),
    }


# --------------------------------------------------------------- the step by itself
def step_alone(journal: Journal, options: Options) -> None:
    """What the loop is compared with: the same step on one batch that lies in memory. What it compiles, the loop
    finds in the caches, but for the graph that looks up captions, whose table has another size there."""
    from benchmarks.step import measure as measure_steps
    from tmgan.config.runtime import decide
    from tmgan.training import bench

    config = settings(options)
    runtime = decide(config.runtime)
    synthetic = bench.synthetic_step(config, runtime)
    start = time.perf_counter()
    synthetic.step(synthetic.batch, 0)
    bench.synchronise(runtime.device)
    first = time.perf_counter() - start
    clock = measure_steps.clock(runtime)
    with alone():
        measure_steps.forget_peak(runtime)
        seconds = 0.5 if options.dry else SECONDS
        spread = bench.time_step(synthetic.step, synthetic.batch, seconds, measure_steps.LEAST, clock)
    speed = config.batch / spread.median
    journal.add("settings", **describe(config))
    journal.row(
        "step alone",
        **measure_steps.times(spread),
        images_per_second=speed,
        **measure_steps.peak_bytes(runtime),
        first_seconds=first,
        shown=f"{speed:.1f} images/s, the first step after {first:.0f} s",
    )


# ------------------------------------------------------------------- the training
def training(journal: Journal, options: Options) -> None:
    import tmgan
    from tmgan.common.interrupt import Interrupted

    pack = own_birds(options)
    run = Path(os.environ["TMGAN_RUN"]) / "run"
    config = settings(options, str(pack.path), str(run))
    trace = Trace(journal, options, config.batch)
    journal.add("settings", **describe(config))
    watch = Watch(journal, options, run, trace)
    try:
        with watch, trace:
            tmgan.train(config)
        raise RuntimeError("the training ended before its time")
    except Interrupted:
        pass  # as planned; everything is saved
    finally:
        watch.conclude()
    editor = tmgan.load(run)
    for row, measure in (("picture", picture), ("own birds", own_accuracy), ("other birds", other_accuracy)):
        try:
            measure(journal, options, editor)
        except Exception as error:
            journal.error(row, error)


class Watch:
    """Copies what the run says of itself into the journal as it comes, and ends it when its time is over."""

    def __init__(self, journal: Journal, options: Options, run: Path, trace: Trace):
        self.journal, self.options, self.run, self.trace = journal, options, run, trace
        self.start = time.perf_counter()
        self.ticks: list[dict] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._read()

    def _watch(self) -> None:
        try:
            while not self._over.wait(0.2):
                self._read()
                if self._enough() or seconds_left() < min(RESERVE, self.options.seconds / 5):
                    break
        finally:  # a training that nobody watches would not end in time
            if not self._over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)  # as a user would: it saves and stops

    def _enough(self) -> bool:
        if self.options.dry:
            return len(self._steady()) > 2
        return bool(self.ticks) and time.perf_counter() - self.start > self.ticks[0]["after"] + self.options.seconds / 3

    def _read(self) -> None:
        """A row of stats.jsonl becomes a line of the journal."""
        from tmgan.common.json_text import parse_json

        path = self.run / "stats.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        for line in lines[len(self.ticks) :]:
            if not line.endswith("\n"):
                break
            tick = parse_json(line) | {"after": time.perf_counter() - self.start}
            if not self.ticks:
                self._first(tick["after"])
            self.ticks.append(tick)
            self.journal.add("tick", **tick)

    def _first(self, seconds: float) -> None:
        """The encoders are done, and the editor's first steps too."""
        shown = f"{seconds:.0f} s to the first status line, encoders included"
        self.journal.row("first step", seconds=seconds, shown=shown)
        if rates := _rates(self.run / "encoders" / "stats.jsonl"):
            speed = statistics.median(rates)
            self.journal.row("encoders", images_per_second=speed, shown=f"{speed:.0f} images/s")

    def _steady(self) -> list[tuple[dict, dict]]:
        """Each tick with the one before it: without the first one, which compiles, and those traced."""
        begin, end = self.trace.images
        return [
            (before, tick)
            for before, tick in zip(self.ticks, self.ticks[1:], strict=False)
            if before["images"] >= end or tick["images"] <= begin
        ]

    def conclude(self) -> None:
        """The row of the loop."""
        steady = self._steady()
        if len(steady) < 2:
            return
        first, last = self.ticks[0], self.ticks[-1]
        low, middle, high = statistics.quantiles(
            (tick["images_per_second"] for _, tick in steady), n=4, method="inclusive"
        )
        images, seconds = (sum(tick[what] - before[what] for before, tick in steady) for what in ("images", "after"))
        whole = images / seconds
        self.journal.row(
            "loop",
            images=last["images"],
            seconds=last["after"] - first["after"],
            images_per_second=middle,
            iqr_images_per_second=high - low,
            samples=len(steady),
            with_pauses_images_per_second=whole,
            shown=f"{middle:.1f} images/s, {whole:.1f} with pictures, measures and saves; {last['images']:,} images",
        )


def _rates(stats: Path) -> list[float]:
    """Images per second of a run's ticks, the first one left out."""
    from tmgan.common.json_text import parse_json

    lines = stats.read_text().splitlines() if stats.exists() else []
    return [parse_json(line)["images_per_second"] for line in lines[1:]]


# ------------------------------------------------------------------- what came out
def picture(journal: Journal, options: Options, editor) -> None:
    """Held-out birds edited by the sentences of README's picture."""
    from benchmarks.quality.__main__ import strip
    from tmgan.evaluation.metrics.colour_accuracy import make_test
    from tmgan.reports.pictures import save_picture

    path = options.out / "5-training.png"
    save_picture(strip(editor, make_test(own_birds(options), editor.image_size, 3)), path)
    journal.row("picture", shown=path.name)


def own_accuracy(journal: Journal, options: Options, editor) -> None:
    _accuracy(journal, options, editor, "own birds", own_birds(options))


def other_accuracy(journal: Journal, options: Options, editor) -> None:
    _accuracy(journal, options, editor, "other birds", other_birds(options))


def _accuracy(journal: Journal, options: Options, editor, row: str, pack) -> None:
    """As benchmarks/quality measures it, on up to 300 held-out birds."""
    from benchmarks.quality.__main__ import score
    from benchmarks.quality.budgets import EVALUATED
    from tmgan.evaluation.metrics.colour_accuracy import make_test

    test = make_test(pack, editor.image_size, EVALUATED)
    measures = score(editor, test)
    accuracy, kept, psnr = measures.values()
    shown = f"colour accuracy {accuracy:.2f}, other parts kept {kept:.2f}, background {psnr or float('inf'):.1f} dB"
    journal.row(row, birds=len(test.texts), **measures, shown=shown)


if __name__ == "__main__":
    supervisor.main("5-training", "benchmarks.gpu.training", tasks)
