"""How fast a training step runs here, and in how much memory: by engine and part, on random pictures and weights.

`tmgan bench` prints it; `pytest benchmarks/` records it.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tmgan.common.text import memory
from tmgan.config.runtime import Runtime
from tmgan.config.settings import TrainConfig
from tmgan.data.colour_words import COLOUR_WORDS
from tmgan.data.vocabulary import Vocabulary
from tmgan.methods.recolour import DRAWS
from tmgan.models.bundle import build_encoders
from tmgan.models.encoders import PhotoEncoder, TextEncoder
from tmgan.training.build import build_step, embed_captions
from tmgan.training.loaders.batch import Batch
from tmgan.training.memory import Bytes, by_part
from tmgan.training.plan import CaptionTable
from tmgan.training.profile import report as profile_report
from tmgan.training.step import TrainStep

_VOCABULARY = 200
_MATRIX = {"cuda": 8192, "cpu": 1024}  # edge of the matrices whose product shows what the machine can do


@dataclass(frozen=True)
class Spread:
    """How long a call takes.

    Attributes:
        median: in seconds.
        iqr: interquartile range in seconds.
        samples: number of calls that were timed.
    """

    median: float
    iqr: float
    samples: int


@dataclass(frozen=True)
class SyntheticStep:
    """A step, its batch, and the encoders it is built from, for comparing it with other steps."""

    step: TrainStep
    batch: Batch
    text: TextEncoder
    photo: PhotoEncoder


def synthetic_step(config: TrainConfig, runtime: Runtime, seed: int = 0, backend: str = "inductor") -> SyntheticStep:
    """A step of `config` on random numbers, on `runtime`'s device. Captions have from 4 to all words."""
    device, model, rows, width = runtime.device, config.model, config.batch, config.text.words
    numbers = torch.Generator().manual_seed(seed)
    colours = tuple(COLOUR_WORDS)
    vocabulary = Vocabulary(("<end>", *colours, *(f"word{i}" for i in range(_VOCABULARY - 1 - len(colours)))))
    encoders = build_encoders(config.encoder, model.image_size, vocabulary, seed)
    for network in (encoders.text, encoders.photo):
        network.eval().requires_grad_(False).to(device)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=numbers)

    lengths = integers(min(4, width), width + 1, rows)
    lengths[0] = width
    tokens = integers(1, _VOCABULARY, rows, width) * (torch.arange(width) < lengths[:, None])
    row = torch.arange(rows)
    labels = tokens % 2 == 1
    table = CaptionTable(
        tokens=tokens,
        lengths=lengths,
        labels=labels,
        first=row,
        variants=torch.ones_like(row),
        of_image=torch.arange(rows + 1),
        swaps=row[:, None][:, :0],
        recolours=row[:, None][:, :0],
    )
    sizes = torch.tensor(config.method.blur.sizes or (1,))
    size, method = model.image_size, config.method
    images = (integers(0, 256, rows, 3, size, size) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    keep = (torch.rand(rows, 1, size, size, generator=numbers) > 0.3).float() if method.stored_masks else None
    batch = Batch(
        images=images,
        keep=keep,
        class_ids=row // 2,
        captions=row,
        tokens=tokens,
        lengths=lengths,
        target_class_ids=row // 2,
        target_captions=row,
        target_tokens=tokens,
        target_lengths=lengths,
        mismatched=torch.rand(rows, generator=numbers) < method.mismatched_text_p,
        noise=torch.randn(rows, model.noise_dim, generator=numbers),
        eps=torch.randn(rows, model.condition_dim, generator=numbers),
        blur_sizes=sizes[row % len(sizes)],
        word_labels=labels,
    )
    if method.restore.p > 0:
        batch = dataclasses.replace(
            batch,
            restore=torch.rand(rows, generator=numbers) < method.restore.p,
            recolour=torch.rand(rows, DRAWS, generator=numbers),
        )
    batch = batch.map(lambda column: column.to(device))
    captions = embed_captions(encoders.text, table, row, runtime)
    step = build_step(dataclasses.replace(config, seed=seed), encoders, captions, runtime, backend)
    return SyntheticStep(step, batch, encoders.text, encoders.photo)


def components(step: TrainStep, batch: Batch) -> list[tuple[str, Callable[[], None]]]:
    """One step, cut into parts that must be called in this order, as the step itself takes its operations."""

    def in_dispatch(part: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            with step.dispatch():
                part()

        return call

    return [(name, in_dispatch(part)) for name, part in step.parts(batch, {})]


def gflop(step: TrainStep, batch: Batch) -> dict[str, float]:
    """10^9 floating point operations per image, by component: convolutions and matrix products, 2 per multiply-add."""
    work = {}
    for name, part in components(step, batch):
        with FlopCounterMode(display=False) as counter:
            part()
        work[name] = counter.get_total_flops() / len(batch.images) / 1e9
    return work


Clock = Callable[[], float]  # seconds; time.process_time where neighbours keep the processor busy


def time_step(
    step: TrainStep, batch: Batch, seconds: float, least: int = 5, clock: Clock = time.perf_counter
) -> Spread:
    """Time whole steps for about `seconds`, after two that do not count."""
    counter = iter(range(10**9))
    return time_calls(
        lambda: step(batch, next(counter) * len(batch.images)), batch.images.device, seconds, least, clock
    )


def time_components(
    step: TrainStep, batch: Batch, seconds: float, least: int = 5, clock: Clock = time.perf_counter
) -> dict[str, Spread]:
    """Time each component by itself, waiting for the device in between: together they take longer than a step."""
    parts, device = components(step, batch), batch.images.device
    times: dict[str, list[float]] = {name: [] for name, _ in parts}
    end = time.perf_counter() + seconds
    for i in range(10**9):
        for name, part in parts:
            start = clock()
            part()
            synchronise(device)
            if i >= 2:
                times[name].append(clock() - start)
        if time.perf_counter() > end and i >= least + 1:
            return {name: spread(samples) for name, samples in times.items()}
    raise AssertionError


def peak(device: torch.device, precision: str, seconds: float = 1.0, clock: Clock = time.perf_counter) -> float:
    """10^9 operations per second of one large matrix product: what to compare a step with."""
    edge, dtype = _MATRIX[device.type], torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(edge, edge, device=device, dtype=dtype)
    return 2 * edge**3 / time_calls(lambda: a @ a, device, seconds, 3, clock).median / 1e9


def spread(samples: list[float]) -> Spread:
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(statistics.median(samples), third - first, len(samples))


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_calls(
    call: Callable[[], object], device: torch.device, seconds: float, least: int, clock: Clock = time.perf_counter
) -> Spread:
    """Time calls for about `seconds`, at least `least` of them, after two that do not count."""
    for _ in range(2):
        call()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < least:
        synchronise(device)
        start = clock()
        call()
        synchronise(device)
        samples.append(clock() - start)
    return spread(samples)


def report(config: TrainConfig, runtime: Runtime, engines: tuple[str, ...], seconds: float) -> Iterator[str]:
    """The table of `tmgan bench`, line by line as it is measured; about `seconds` per line of an engine."""
    rows, most = config.batch, peak(runtime.device, runtime.precision)
    work: dict[str, float] | None = None
    yield f"{'':24}{'ms':>9}{'images/s':>10}{'GFLOP/s':>9}{'of peak':>9}{'left':>10}{'at most':>10}"
    for engine in engines:
        start = time.perf_counter()
        synthetic = synthetic_step(config, dataclasses.replace(runtime, engine=engine))
        synthetic.step(synthetic.batch, 0)
        synchronise(runtime.device)
        first = time.perf_counter() - start
        synthetic.step(synthetic.batch, rows)  # the first one looks at the peak part by part, and forgets it
        most_bytes = _memory(runtime.device)  # before others do; a graph's is that of its capture
        if work is None:
            work = gflop(synthetic_step(config, dataclasses.replace(runtime, engine="eager")).step, synthetic.batch)
        whole = time_step(synthetic.step, synthetic.batch, seconds)
        sizes: dict[str, Bytes] = {}
        if engine == "eager" or (engine == "compiled" and runtime.device.type == "cuda"):
            sizes = by_part(components(synthetic.step, synthetic.batch), runtime.device)
        yield _line(engine, whole, rows, sum(work.values()), most)
        yield f"  first step after {first:.1f} s" + most_bytes
        if engine != "graphed":  # one graph has no parts
            for name, part in time_components(synthetic.step, synthetic.batch, seconds).items():
                yield _line(f"  {name}", part, rows, work[name], most, sizes.get(name))
    yield (
        f"Peak: {most:,.0f} GFLOP/s, one large matrix product in {runtime.precision}. Medians; parts are timed one by "
        "one, waiting for the device in between, so they add up to more than a step. Memory: what a part leaves, and "
        "the most that there is in it, with weights and optimisers"
        + ("." if runtime.device.type == "cuda" else "; tensors are counted, of the eager engine only.")
    )


def profile(config: TrainConfig, runtime: Runtime, file: Path) -> Iterator[str]:
    """What `tmgan bench --profile FILE` prints; the trace is in `file` by then."""
    synthetic = synthetic_step(config, runtime)
    yield from profile_report(synthetic.step, synthetic.batch, file)


def _line(name: str, time: Spread, rows: int, gflop_per_image: float, most: float, size: Bytes | None = None) -> str:
    speed = rows * gflop_per_image / time.median
    work = f"{speed:9,.0f}{speed / most:9.0%}" if gflop_per_image else f"{'':18}"
    sizes = f"{memory(size.alive):>10}{memory(size.peak):>10}" if size is not None else ""
    return f"{name:24}{1e3 * time.median:9.1f}{rows / time.median:10.1f}{work}{sizes}".rstrip()


def _memory(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    return f", {memory(torch.cuda.max_memory_allocated(device))} at most"
