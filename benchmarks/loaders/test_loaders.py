"""Speed of each loader alone: `pytest benchmarks/loaders/test_loaders.py --results benchmarks/results`.

Photo-like JPEGs of CUB's size (drawn birds with grain, 500x375, 4:2:0), cut to 256 pixels by random plans. On a GPU
batches of 128 and all cores; without one batches of 16, a reduced size. The clock stops when the last batch of a round
is on the device. Files come from the page cache: this measures decoding, not the disk.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import statistics
import time
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from benchmarks import machine, schema
from tmgan.config.runtime import decide
from tmgan.config.settings import RuntimeConfig
from tmgan.data.drawn.dataset import write_birds
from tmgan.data.originals import Originals
from tmgan.data.pack import Pack
from tmgan.data.prepare import prepare
from tmgan.training.loaders import make_loader
from tmgan.training.loaders.batch import Columns, Loader
from tmgan.training.plan import CaptionTable, Planner

GPU = torch.cuda.is_available()
BATCH, STEPS, ROUNDS = (128, 20, 7) if GPU else (16, 6, 7)
IMAGES, WIDTH, HEIGHT, SIZE = 64, 500, 375, 256
GRAIN, QUALITY = 5.0, 92  # so that a file has about the bytes of a photo of CUB


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Pack:
    return drawn_photos(tmp_path_factory.mktemp("loaders"))


def drawn_photos(folder: Path) -> Pack:
    """Draw them into a folder, and pack them."""
    source, pack = folder / "source", folder / "pack"
    write_birds(source, IMAGES, seed=0, image_size=WIDTH)
    random = np.random.default_rng(0)
    for kind, options in (("images", {"quality": QUALITY}), ("segmentations", {}), ("parts_map", {})):
        for path in sorted((source / "CUB_200_2011" / kind).glob("*/*")):
            with Image.open(path) as image:
                image = image.crop((0, (WIDTH - HEIGHT) // 2, WIDTH, (WIDTH + HEIGHT) // 2))
            if kind == "images":
                grainy = np.asarray(image) + random.normal(0, GRAIN, (HEIGHT, WIDTH, 3))
                image = Image.fromarray(grainy.clip(0, 255).astype(np.uint8))
            image.save(path, **options)
    boxes = source / "CUB_200_2011" / "bounding_boxes.txt"  # they move with the crop
    rows = [line.split() for line in boxes.read_text().splitlines()]
    boxes.write_text(
        "".join(f"{row[0]} {row[1]} {float(row[2]) - (WIDTH - HEIGHT) // 2} {row[3]} {row[4]}\n" for row in rows)
    )
    prepare(source, pack, SIZE, workers=1, progress=False)
    return Pack.open(pack)


@pytest.fixture(scope="session")
def measured(request, photos):
    """The document that the tests fill; written at the end where --results says."""
    start, description = time.monotonic(), machine.describe("cuda" if GPU else "cpu")
    extra, data = about(photos)
    document = {"schema": schema.SCHEMA, "kind": "loaders", "machine": description | extra, "rows": [], "data": data}
    yield document
    document["seconds"] = round(time.monotonic() - start, 1)
    path = request.config.getoption("--results")
    if path is None or not document["rows"]:
        return
    write(document, path)


def about(photos: Pack) -> tuple[dict, dict]:
    """What a document says about the machine in addition to machine.describe, and about the data."""
    files = Originals.open(photos).paths
    return (
        {"pillow": PIL.__version__, "dali": machine.version("nvidia-dali-cuda130"), "load": os.getloadavg()[0]},
        {
            "images": len(photos),
            "width": WIDTH,
            "height": HEIGHT,
            "size": SIZE,
            "bytes_per_file": statistics.fmean(file.stat().st_size for file in files),
        },
    )


def write(document: dict, path: Path) -> Path:
    """Write a document of loaders to `path`, or to a new file in it if it is a folder."""
    about = document["machine"]
    if path.suffix != ".json":
        name = re.sub(r"\W+", "-", "cpu" if about["gpu"] == "not used" else about["gpu"]).strip("-").lower()
        simd = "-simd" if ".post" in about["pillow"] else ""
        path = path / f"loaders-{name}{simd}-{about['date']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    schema.check_loaders(document)
    return path


@pytest.mark.parametrize("kind", ["resident", "dali", "pillow"])
def test_loader(kind, photos, measured, benchmark):
    if kind == "dali":
        pytest.importorskip("nvidia.dali")
    row = benchmark.pedantic(measure, (kind, photos), rounds=1, warmup_rounds=0)
    measured["rows"].append(row)
    benchmark.extra_info.update(row)
    print(
        f"\n{kind}: {row['images_per_second']:,.0f} images/s, {row['images_per_core_second']:,.0f} images per second "
        "of a core"
    )


def measure(kind: str, photos: Pack, seconds: float = 1e9) -> dict:
    """The row of a loader: ROUNDS rounds, or those (two at least) that `seconds` allow."""
    runtime = decide(RuntimeConfig(loader=kind))
    table = CaptionTable.from_pack(photos, words=18, subsets=8)
    planner = Planner(0, table, torch.arange(len(photos)), photos.tiles.shape[1], SIZE, BATCH, 100, 100)
    loader, _ = make_loader(runtime, photos, planner, Columns(photos, table, runtime.device), None)
    clock, end = Clock(loader), time.monotonic() + seconds
    clock.round()  # processes start, queues fill
    del clock.rates[:], clock.cores[:]
    while len(clock.rates) < ROUNDS and (time.monotonic() < end or len(clock.rates) < 2):
        clock.round()
    loader.close()
    low, middle, high = statistics.quantiles(clock.rates, n=4)
    return {
        "loader": kind,
        "batch": BATCH,
        "threads": runtime.threads,
        "images_per_second": middle,
        "iqr_images_per_second": high - low,
        "images_per_core_second": statistics.median(clock.cores),
        "samples": len(clock.rates),
        "images": STEPS * BATCH,
    }


class Clock:
    """Images per second of each round, and per second of a busy core, the threads of workers and DALI included."""

    def __init__(self, loader: Loader):
        self.loader, self.step = loader, 0
        self.rates: list[float] = []
        self.cores: list[float] = []

    def round(self) -> None:
        busy, start = _busy(), time.perf_counter()
        for _ in range(STEPS):
            batch = self.loader(self.step)
            self.step += 1
        if GPU:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        assert torch.isfinite(batch.images).all()
        self.rates.append(STEPS * BATCH / seconds)
        self.cores.append(STEPS * BATCH / (_busy() - busy))


def _busy() -> float:
    """Seconds that this process and its workers have computed so far."""
    tick = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / tick  # user and system time
    return total
