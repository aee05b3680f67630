"""Loaders: the same Batch from each, from any step, and what happens when files or processes go missing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.data.data_folders import textured, write_image_folder
from tests.processes import ended
from tmgan.config import configfile
from tmgan.config.methods import BlurConfig, MethodConfig, RestoreConfig
from tmgan.config.runtime import Runtime, decide
from tmgan.config.settings import RuntimeConfig
from tmgan.data.originals import Originals
from tmgan.data.pack import ORIGINALS, Pack
from tmgan.data.prepare import prepare
from tmgan.training.editor_task import EditorTask
from tmgan.training.loaders import make_loader
from tmgan.training.loaders.batch import Batch, Columns, Loader
from tmgan.training.loaders.pillow import PillowLoader
from tmgan.training.loaders.resident import ResidentLoader
from tmgan.training.plan import CaptionTable, Planner

BIRDS_MINI = Path(os.environ.get("TMGAN_BIRDS_MINI", Path(__file__).parents[3] / "shared/data/birds-mini"))
CPU = torch.device("cpu")
BATCH = 6
METHOD = MethodConfig(
    mismatched_text_p=0.5, restore=RestoreConfig(p=0.3), keep_mask="dataset", blur=BlurConfig(sizes=(5, 7))
)
# Of DALI's images against Pillow's, in levels of 255: rounding in decoder and resize. Measured: 2 and 0.12.
LARGEST, MEAN = 3, 0.3
needs_dali = pytest.mark.skipif(sys.platform != "linux", reason="DALI is for Linux")
KINDS = ("pillow", pytest.param("dali", marks=needs_dali))


def planner_of(pack: Pack, seed: int = 1) -> tuple[Planner, Columns]:
    table = CaptionTable.from_pack(pack, words=18, subsets=2, swaps=2)
    items = torch.arange(len(pack))
    planner = Planner(seed, table, items, pack.tiles.shape[1], pack.image_size, BATCH, 3, 3, METHOD, 2)
    return planner, Columns(pack, table, CPU)


def loader_of(kind: str, pack: Pack, seed: int = 1, workers: int = 1) -> Loader:
    planner, columns = planner_of(pack, seed)
    if kind == "resident":
        return ResidentLoader(planner, columns, pack.tiles, pack.masks, pack.image_size)
    arguments = planner, columns, Originals.open(pack), pack.masks, pack.image_size, workers
    if kind == "pillow":
        return PillowLoader(*arguments)
    from tmgan.training.loaders.dali import DaliLoader

    return DaliLoader(*arguments)


@pytest.fixture(scope="module", params=KINDS)
def loader(request, packed) -> Iterator[tuple[str, Loader]]:
    """The drawn birds by a loader that reads files."""
    file_loader = loader_of(request.param, Pack.open(packed))
    yield request.param, file_loader
    file_loader.close()


def assert_same(kind: str, batch: Batch, expected: Batch) -> None:
    """Equal to the bit; DALI's images within their bounds."""
    for field in dataclasses.fields(Batch):
        got, right = getattr(batch, field.name), getattr(expected, field.name)
        if field.name == "images" and kind == "dali":
            assert got.dtype == torch.float32 and got.stride() == right.stride()
            levels = (got - right).abs() * 127.5
            assert levels.max() <= LARGEST + 1e-3 and levels.mean() <= MEAN, (levels.max(), levels.mean())
        else:
            assert right is None and got is None or torch.equal(got, right) and got.stride() == right.stride(), field


# --------------------------------------------------------------- the same batch
def test_every_loader_gives_the_same_batch(loader, packed):
    """Steps in order, one again, and further on and back: a loader has no state that a batch depends on."""
    kind, file_loader = loader
    resident = loader_of("resident", Pack.open(packed))
    for step in (0, 1, 2, 3, 4, 5, 5, 40, 2, 3):
        assert_same(kind, file_loader(step), resident(step))


def test_batches_are_kept_while_later_ones_are_read(loader):
    """Neither shared nor DALI's memory is handed out."""
    _, file_loader = loader
    first = file_loader(10)
    copy = first.images.clone(), first.keep.clone()
    for step in range(11, 18):
        file_loader(step)
    assert torch.equal(first.images, copy[0]) and torch.equal(first.keep, copy[1])


def test_a_resumed_run_sees_the_batches_it_would_have_seen(loader, packed):
    kind, file_loader = loader
    through = [file_loader(step) for step in range(20, 23)][-1]
    new_loader = loader_of(kind, Pack.open(packed))
    fresh = new_loader(22)
    new_loader.close()
    assert torch.equal(fresh.images, through.images) and torch.equal(fresh.noise, through.noise)


def test_masks_lie_on_their_birds(tmp_path):
    """A white square on black whose mask is the square: image and mask agree in every crop of every loader."""
    for number in range(8):
        pixels = np.zeros((90, 130, 3), np.uint8)
        pixels[20 + 3 * number : 55 + 3 * number, 30:80] = 255
        folder = tmp_path / "source"
        (folder / "m").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray(pixels[:, :, 0]).save(folder / "m" / f"{number}.png")
    write_image_folder(
        folder,
        [
            {
                "file_name": f"{n}.png",
                "text": "a square",
                "mask": f"m/{n}.png",
                "split": "train",
                "bbox": [10, 5, 80, 60],
            }
            for n in range(8)
        ],
        images=False,
    )
    prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False)
    for kind in ("resident", "pillow", "dali"):
        file_loader = loader_of(kind, Pack.open(tmp_path / "pack"))
        for step in range(3):
            batch = file_loader(step)
            assert 0.05 < batch.keep.mean() < 0.95
            torch.testing.assert_close((1 - batch.images[:, :1]) / 2, batch.keep, atol=2.5 / 255, rtol=0)
        file_loader.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("placement", ["centre", "topleft"])
def test_files_of_all_kinds(kind, placement, tmp_path):
    """Greyscale, palettes, transparency, CMYK, turned by EXIF; upright, wide, larger and smaller than a tile; boxes."""
    folder, rows = tmp_path / "source", []
    folder.mkdir()

    def add(name: str, image: Image.Image, box: list[int] | None = None, **options) -> None:
        image.save(folder / name, **options)
        rows.append({"file_name": name, "text": "a bird", "split": "train", **({"bbox": box} if box else {})})

    add("wide.jpg", textured((210, 90), 1), quality=95)
    add("high.png", textured((61, 140), 2))
    add("grey.jpg", textured((130, 120), 3, "L"), [20, 10, 60, 50], quality=95)
    add("palette.png", textured((100, 100), 4, "P"))
    add("clear.png", textured((100, 90), 5, "RGBA"), [60, 50, 38, 38])
    add("cmyk.jpg", textured((90, 100), 6, "CMYK"), quality=95)
    for orientation in (2, 3, 5, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(f"turned-{orientation}.jpg", textured((140, 90), 10 + orientation), [5, 30, 50, 60], exif=exif, quality=95)
    write_image_folder(folder, rows, images=False)
    prepare(folder, tmp_path / "pack", image_size=64, placement=placement, workers=1, progress=False)
    pack = Pack.open(tmp_path / "pack")
    resident, file_loader = loader_of("resident", pack), loader_of(kind, pack)
    for step in range(2 * len(rows) // BATCH + 1):
        assert_same(kind, file_loader(step), resident(step))
    file_loader.close()


@pytest.mark.skipif(not BIRDS_MINI.is_dir(), reason="birds-mini is not beside the checkout")
def test_real_photos(tmp_path):
    prepare(BIRDS_MINI, tmp_path / "pack", image_size=128, workers=1, progress=False)
    pack = Pack.open(tmp_path / "pack")
    resident = loader_of("resident", pack)
    for kind in ("pillow", "dali"):
        file_loader = loader_of(kind, pack)
        for step in range(6):
            assert_same(kind, file_loader(step), resident(step))
        file_loader.close()


def test_a_run_takes_the_loader_that_it_is_told(tiny, pack, encoders):
    batches = []
    for kind in ("resident", "pillow"):
        config = dataclasses.replace(tiny, runtime=RuntimeConfig(loader=kind))
        task = EditorTask(config, pack, encoders, decide(config.runtime))
        batches.append(task.loader(1))
        task.loader.close()
        assert type(task.loader).__name__.lower().startswith(kind) and kind in task.loader_reason
    assert_same("pillow", *batches)


# ------------------------------------------------------------ files that are not there
@pytest.fixture
def movable(birds, packed, tmp_path) -> Pack:
    """A pack of its own, from a source of its own."""
    shutil.copytree(birds, tmp_path / "birds")
    shutil.copytree(packed, tmp_path / "pack")
    prepare(tmp_path / "birds", tmp_path / "pack", image_size=64, workers=1, progress=False)
    return Pack.open(tmp_path / "pack")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_damaged_meanwhile_is_named(kind, movable):
    file_loader = loader_of(kind, movable)
    file_loader(0)
    wanted = file_loader.planner(9).index.tolist()
    path = Originals.open(movable).paths[wanted[3]]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    first = next(step for step in range(4, 20) if wanted[3] in file_loader.planner(step).index)
    with pytest.raises(ValueError, match=rf"{path} cannot be decoded.*get it again.*{kind} loader needs it for step"):
        for step in range(1, first + 1):
            file_loader(step)
    file_loader.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_vanishes_meanwhile_is_named(kind, movable):
    file_loader = loader_of(kind, movable)
    path = Originals.open(movable).paths[int(file_loader.planner(0).index[0])]
    path.unlink()
    with pytest.raises(ValueError, match=f"{path} is missing"):
        file_loader(0)
    file_loader.close()


@needs_dali
def test_a_format_that_dali_does_not_know_is_named(tmp_path):
    rows = [{"file_name": f"{n}.gif", "text": "a bird", "split": "train"} for n in range(6)]
    write_image_folder(tmp_path / "source", rows)
    prepare(tmp_path / "source", tmp_path / "pack", image_size=64, workers=1, progress=False)
    file_loader = loader_of("dali", Pack.open(tmp_path / "pack"))
    with pytest.raises(ValueError, match=r"\.gif is a GIF file, which DALI cannot decode.*--runtime.loader pillow"):
        file_loader(0)


def test_files_are_looked_at_before_training(movable):
    paths = Originals.open(movable).paths
    paths[3].unlink()
    paths[5].write_bytes(b"short")
    with pytest.raises(
        ValueError,
        match=rf"2 of the 40 files(.|\n)*{paths[3]} cannot be read(.|\n)*"
        rf"{paths[5]} has 5 bytes(.|\n)*--runtime.loader resident",
    ):
        Originals.open(movable)


def test_a_pack_of_an_earlier_version_is_mended_by_its_command(movable):
    """Such a pack goes on serving the resident loader; the others name the command, which adds what is missing."""
    (movable.path / ORIGINALS).unlink()
    header = json.loads((movable.path / "pack.json").read_text())
    del header["bytes"][ORIGINALS]
    (movable.path / "pack.json").write_text(json.dumps(header))
    old = Pack.open(movable.path)
    loader_of("resident", old)(0)
    source = movable.header["source"]
    with pytest.raises(ValueError, match=rf"tmgan data prepare {source} {movable.path} --image-size 64"):
        Originals.open(old)
    before = (movable.path / "tiles.u8").stat().st_mtime_ns
    prepare(Path(source), movable.path, image_size=64, progress=False)
    assert Originals.open(Pack.open(movable.path)).paths and (movable.path / "tiles.u8").stat().st_mtime_ns == before


def test_a_source_that_was_moved_is_found_again(movable, tmp_path):
    (tmp_path / "birds").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=rf"40 of the 40(.|\n)*tmgan data prepare SOURCE {movable.path}"):
        Originals.open(movable)
    prepare(tmp_path / "elsewhere", movable.path, image_size=64, progress=False)
    assert Originals.open(Pack.open(movable.path)).paths[0].is_relative_to(tmp_path / "elsewhere")


@pytest.mark.parametrize("damage", [lambda text: text.replace("[", "(", 1), lambda text: text[:100]])
def test_a_damaged_list_is_refused_and_made_again(movable, damage):
    path = movable.path / ORIGINALS
    right = path.read_text()
    path.write_text(damage(right))
    with pytest.raises(ValueError, match="originals.json is damaged"):
        Originals.open(movable)
    prepare(Path(movable.header["source"]), movable.path, image_size=64, progress=False)
    assert path.read_text() == right and Originals.open(Pack.open(movable.path)).paths


# ------------------------------------------------------------------- processes
# Imports below the guard: a spawned worker runs what stands above it.
SCRIPT = """
    if __name__ == "__main__":
        import signal, sys
        from pathlib import Path
        sys.path[:0] = {paths!r}
        from tests.training.test_loaders import Pack, loader_of
        file_loader = loader_of("pillow", Pack.open(Path({pack!r})), workers=2)
        file_loader(0)
        print(*file_loader._pool._processes, flush=True)
        {then}
"""


@pytest.mark.parametrize("end", ["exits", "killed", "interrupted"])
def test_workers_end_with_their_parent(end, packed, tmp_path):
    then = "pass" if end == "exits" else "signal.pause()"
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(paths=sys.path, pack=str(packed), then=then))
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        if end == "killed":
            parent.kill()
        elif end == "interrupted":
            os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        status, errors = parent.wait(), parent.stderr.read()
    assert all(map(ended, workers)), "workers outlived their parent"
    assert status == {"exits": 0, "killed": -signal.SIGKILL, "interrupted": -signal.SIGINT}[end], errors
    assert ("resource_tracker" in errors) <= (end == "killed"), errors  # Python's own note, after a SIGKILL only
    # The parent's, and no worker's. (Python 3.11 may add a traceback of its own: a pool that nobody has closed is woken
    # while it closes itself.)
    assert errors.count("KeyboardInterrupt") == (end == "interrupted"), errors


def test_all_workers_start_while_interrupts_are_held_back(pack, monkeypatch):
    """Also when the first one is ready before the second is asked for, as on a busy machine: a worker that started
    later would take a Ctrl-C while it imports."""
    submit = ProcessPoolExecutor.submit

    def slow(pool, *task):
        future = submit(pool, *task)
        wait([future], timeout=2)
        return future

    with monkeypatch.context() as patch:
        patch.setattr(ProcessPoolExecutor, "submit", slow)
        file_loader = loader_of("pillow", pack, workers=2)
    assert len(file_loader._pool._processes) == 2
    file_loader.close()


def test_a_worker_that_is_killed_ends_the_run_with_a_sentence(pack):
    file_loader = loader_of("pillow", pack)
    file_loader(0)
    for pid in list(file_loader._pool._processes):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(ValueError, match="worker process of the pillow loader ended from outside"):
        for step in range(1, 8):
            file_loader(step)
    file_loader.close()


# ------------------------------------------------------------------ the choice
GB = 10**9


@pytest.mark.parametrize(
    ("device", "free", "needed", "dali", "chosen"),
    [
        ("cuda", 80 * GB, 4 * GB, True, "resident"),
        ("cuda", 80 * GB, 21 * GB, True, "dali"),
        ("cuda", 80 * GB, 21 * GB, False, "pillow"),
        ("cpu", 16 * GB, 1 * GB, True, "resident"),
        ("cpu", 16 * GB, 5 * GB, True, "pillow"),
    ],
)
def test_auto_takes_what_fits(device, free, needed, dali, chosen, monkeypatch):
    memory(monkeypatch, free, dali)
    name, why = Runtime(torch.device(device), "fp32", "eager", 1, False, ()).choose_loader(needed)
    assert name == chosen and f"loader {chosen}" in why and f"{needed / GB:.2g} GB" in why and f"{free // GB} GB" in why


def memory(monkeypatch, free: int, dali: bool) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": free}[name])
    monkeypatch.setattr("tmgan.config.runtime._has_dali", lambda: dali)


@pytest.mark.parametrize(
    ("device", "asked", "dali", "remedy"),
    [
        ("cuda", "resident", True, "8 GB free. Use --runtime.loader dali"),
        ("cuda", "resident", False, "8 GB free. Use --runtime.loader pillow"),
        ("cpu", "dali", False, r"pip install 'tmgan\[dali\]'"),
    ],
)
def test_a_loader_that_cannot_run_is_refused_with_a_remedy(device, asked, dali, remedy, monkeypatch):
    memory(monkeypatch, 8 * GB, dali)
    with pytest.raises(ValueError, match=remedy):
        Runtime(torch.device(device), "fp32", "eager", 1, False, (), asked).choose_loader(9 * GB)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [("resident", "ResidentLoader"), ("pillow", "PillowLoader"), pytest.param("dali", "DaliLoader", marks=needs_dali)],
)
def test_what_was_asked_for_is_made(asked, kind, pack):
    loader, why = make_loader(decide(RuntimeConfig(loader=asked)), pack, *planner_of(pack), None)
    assert type(loader).__name__ == kind and why == f"loader {asked}: asked for"
    assert loader(0).keep is None
    loader.close()


def test_worker_processes_do_without_torch():
    code = "import sys, tmgan.training.loaders.crop_worker; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sigterm_to_all_processes_of_a_job_does_not_fail_the_run(tiny, tmp_path):
    """As `timeout` and schedulers send it: the workers live until their parent has saved."""
    config = tmp_path / "long.yaml"
    settings = {**configfile.to_dict(tiny), "images": 10**6, "preset": "quickstart"}
    settings["runtime"] |= {"loader": "pillow", "threads": 2}
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "tmgan", "train", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )
    began = next(line for line in process.stdout if "g_adv" in line)
    workers = [int(p.name) for p in Path("/proc").glob("[0-9]*") if parent_of(p) == process.pid]
    for worker in workers:  # first, so that the parent still needs them
        os.kill(worker, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    output = began + process.communicate()[0]
    assert len(workers) >= 2 and process.returncode == 143, output
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"


def parent_of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):  # it has ended
        return 0
