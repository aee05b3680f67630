"""Preparing and opening packs: pixels as published, rows that belong together, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.data_folders import (
    SIZE,
    captions_of,
    colour_of,
    mask_of,
    name_of,
    number_of,
    textured,
    write_cub,
    write_image_folder,
)
from tests.processes import ended
from tmgan.common.progress import quiet
from tmgan.data import cut_jobs
from tmgan.data import prepare as prepare_module
from tmgan.data.doctor import examine
from tmgan.data.drawn.dataset import write_birds
from tmgan.data.originals import Originals
from tmgan.data.pack import Pack
from tmgan.data.palette import PALETTE, PARTS
from tmgan.data.prepare import prepare
from tmgan.data.tiles import tile_edge

ROOT = Path(__file__).resolve().parents[2]
BIRDS_MINI = Path(os.environ.get("TMGAN_BIRDS_MINI", ROOT.parent / "shared" / "data" / "birds-mini"))


def make(source: Path, pack: Path, image_size: int = 64, **options):
    return prepare(source, pack, image_size=image_size, progress=False, **{"workers": 1, **options})


def published_tile(
    image: Image.Image, box, tile: int, placement: str, resample=Image.Resampling.BILINEAR
) -> Image.Image:
    """Straight from the published data loader (box crop) and torchvision's Resize(int), written out."""
    if box is not None:
        width, height = image.size
        r = int(np.maximum(box[2], box[3]) * 0.75)
        centre_x, centre_y = int((2 * box[0] + box[2]) / 2), int((2 * box[1] + box[3]) / 2)
        y1, y2 = np.maximum(0, centre_y - r), np.minimum(height, centre_y + r)
        x1, x2 = np.maximum(0, centre_x - r), np.minimum(width, centre_x + r)
        image = image.crop([int(x1), int(y1), int(x2), int(y2)])
    w, h = image.size
    image = image.resize((tile, int(tile * h / w)) if w < h else (int(tile * w / h), tile), resample)
    x, y = ((image.width - tile) // 2, (image.height - tile) // 2) if placement == "centre" else (0, 0)
    return image.crop((x, y, x + tile, y + tile))


def test_tile_edges():
    assert [tile_edge(size) for size in (64, 128, 256)] == [76, 152, 304]


@pytest.mark.parametrize("placement", ["centre", "topleft"])
@pytest.mark.parametrize("image_size", [64, 128])
def test_pixels_equal_pillows(tmp_path, placement, image_size):
    """Photo and mask of landscape, portrait and square pictures, enlarged, reduced and as they are."""
    cases = [
        ((120, 90), None),
        ((90, 131), None),
        ((76, 76), None),
        ((33, 45), None),
        ((300, 200), (100, 50, 60, 40)),
        ((300, 200), (-7, 20, 90, 41)),  # over the rim: not square
        ((301, 199), (250, 150, 51, 60)),
        ((200, 300), (20, 30, 150, 220)),
        ((640, 480), (33.7, 44.2, 410.9, 277.5)),
    ]
    rows = []
    for number, (size, box) in enumerate(cases):
        row = {
            "file_name": f"{number}.jpg",
            "text": "a bird",
            "mask": f"{number}-mask.png",
            "bbox": box,
            "split": "train",
        }
        textured(size, number).save(tmp_path / row["file_name"], quality=90)
        textured(size, 50 + number, "L").point(lambda level: 255 * (level > 127)).save(tmp_path / row["mask"])
        rows.append(row)
    make(write_image_folder(tmp_path, rows), tmp_path / "pack", image_size, placement=placement)
    pack = Pack.open(tmp_path / "pack")
    tile = round(304 / 256 * image_size)
    assert pack.tiles.shape == (9, tile, tile, 3) and pack.masks.shape == (9, tile, tile, 1)
    for number, (_, box) in enumerate(cases):
        box = None if box is None else [int(side) for side in box]
        for stored, name in ((pack.tiles, f"{number}.jpg"), (pack.masks, f"{number}-mask.png")):
            wanted = np.asarray(published_tile(Image.open(tmp_path / name), box, tile, placement))
            assert np.array_equal(stored[number].numpy().squeeze(), wanted), (number, name)


def assert_aligned(pack: Pack, numbers: list[int], captions: int = 3) -> None:
    """Every row of every array belongs to the image whose number its colour tells."""
    assert list(pack.names) == [name_of(number) for number in numbers]
    assert [number_of(tile[40, 40]) for tile in pack.tiles] == numbers
    assert pack.class_ids.tolist() == [number // 5 + 1 for number in numbers]
    for row, number in enumerate(numbers):
        lines = range(pack.first[row], pack.first[row + 1])
        texts = [" ".join(pack.vocabulary.words[i] for i in pack.tokens[k, : pack.lengths[k]].tolist()) for k in lines]
        assert texts == [f"a bird called bird{number} caption {line}" for line in range(captions)]
        box = (10, number % 5, 40, 30)
        wanted = published_tile(mask_of(number), box, tile_edge(pack.image_size), pack.placement)
        assert pack.masks is None or np.array_equal(pack.masks[row, :, :, 0], np.asarray(wanted))


ORDER = [0, 1, 2, 3, 4, *range(10, 20), 5, 6, 7, 8, 9]  # of write_cub's lists: class 2 is the test split


def test_rows_belong_together(tmp_path):
    summary = make(write_cub(tmp_path / "birds", masks=True), tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack", 64, "centre")
    assert_aligned(pack, ORDER)
    assert pack.train.tolist() == list(range(15)) and pack.test.tolist() == list(range(15, 20))
    assert (summary.images, summary.train, summary.test, summary.captions, summary.cut) == (20, 15, 5, 60, 20)
    assert (
        summary.words
        == len(pack.vocabulary)
        == len({word for n in ORDER for word in f"a bird called bird{n} caption 0 1 2".split()}) + 1
    )
    assert (pack.tokens != 0).sum(1).tolist() == pack.lengths.tolist() and (
        pack.word_labels[pack.tokens == 0] == 0
    ).all()
    assert (
        pack.tokens.dtype == pack.lengths.dtype == torch.int32 and pack.first.dtype == pack.train.dtype == torch.int64
    )
    bird = pack.vocabulary.words.index("bird")
    assert (pack.word_labels[pack.tokens == bird] == 1).all()
    assert (pack.word_labels[pack.tokens == pack.vocabulary.words.index("a")] == 0).all()
    assert pack.parts is None and pack.colours is None and pack.class_names[1] == "001.Kind1"
    assert not (tmp_path / "pack.partial").exists()
    assert sorted(file.name for file in (tmp_path / "pack").iterdir()) == sorted([*pack.header["bytes"], "pack.json"])


def test_captions_may_differ_in_number(tmp_path):
    folder = write_cub(tmp_path / "birds", count=10)
    (folder / "text" / f"{name_of(1)}.txt").write_text("just one\n")
    (folder / "text" / f"{name_of(2)}.txt").write_text("one\n\ntwo two\nthree three three\nfour\n")
    summary = make(folder, tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    assert pack.first.diff().tolist() == [3, 1, 4, 3, 3, 3, 3, 3, 3, 3]
    assert pack.lengths[pack.first[2] : pack.first[3]].tolist() == [1, 2, 3, 1]
    assert "caption lines without a word in them, left out: 1" in summary.notes


def test_given_vocabulary_is_kept(tmp_path):
    from tests.data.test_sources import write_caption_pickle

    folder = write_cub(tmp_path / "birds")
    value = write_caption_pickle(folder)
    make(folder, tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    assert list(pack.vocabulary.words) == [value[2][index] for index in range(len(value[2]))]
    assert [row[row != 0].tolist() for row in pack.tokens] == value[0] + value[1]
    assert pack.header["vocabulary_given"] is True
    assert_aligned(pack, ORDER)


def test_processes_make_the_same_pack(tmp_path, monkeypatch):
    monkeypatch.setattr(cut_jobs, "CHUNK", 3)
    folder = write_cub(tmp_path / "birds", masks=True)
    make(folder, tmp_path / "one")
    make(folder, tmp_path / "two", workers=2)
    for name in Pack.open(tmp_path / "one").header["bytes"]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_workers_start_without_torch():
    code = "import sys, tmgan.data.tiles; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "YCbCr"])
def test_other_colour_modes_are_converted(tmp_path, mode):
    name = "x.jpg" if mode in ("CMYK", "YCbCr") else "x.png"
    image = textured((80, 60), 1, mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(255)
    image.save(tmp_path / name)
    make(write_image_folder(tmp_path, [{"file_name": name, "text": "a bird", "split": "train"}]), tmp_path / "pack")
    wanted = published_tile(Image.open(tmp_path / name).convert("RGB"), None, 76, "centre")
    assert np.array_equal(Pack.open(tmp_path / "pack").tiles[0].numpy(), np.asarray(wanted))


def turned(folder: Path, name: str) -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image = textured((120, 80), 3)
    image.save(folder / name, exif=exif, quality=90)
    return Image.open(folder / name)


def test_exif_orientation_is_obeyed_in_image_folders(tmp_path):
    image = turned(tmp_path, "x.jpg")
    row = {"file_name": "x.jpg", "text": "a bird", "bbox": [5, 60, 40, 30], "split": "train"}
    make(write_image_folder(tmp_path, [row]), tmp_path / "pack")
    wanted = published_tile(image.transpose(Image.Transpose.ROTATE_270), row["bbox"], 76, "centre")
    assert np.array_equal(Pack.open(tmp_path / "pack").tiles[0].numpy(), np.asarray(wanted))


def test_exif_orientation_is_ignored_in_cub(tmp_path):
    folder = write_cub(tmp_path / "birds", count=6, test=(5,))
    (folder / "CUB_200_2011" / "bounding_boxes.txt").unlink()
    image = turned(folder / "CUB_200_2011" / "images" / "001.Kind1", "Kind_0000.jpg")
    make(folder, tmp_path / "pack")
    wanted = published_tile(image, None, 76, "centre")
    assert np.array_equal(Pack.open(tmp_path / "pack").tiles[0].numpy(), np.asarray(wanted))


def test_masks_of_zeros_and_ones(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:] = 1
    Image.fromarray(mask).save(tmp_path / "0-mask.png")
    Image.fromarray(mask * 255).convert("1").save(tmp_path / "1-mask.png")
    rows = [{"file_name": f"{n}.png", "text": "a", "mask": f"{n}-mask.png", "split": "train"} for n in range(2)]
    for row in rows:
        textured((80, 60), 1).save(tmp_path / row["file_name"])
    make(write_image_folder(tmp_path, rows), tmp_path / "pack")
    masks = Pack.open(tmp_path / "pack").masks
    assert masks[0, 38, 10] == 0 and masks[0, 38, 70] == 255 and torch.equal(masks[0], masks[1])


def test_drawn_birds_keep_parts_and_colours(tmp_path):
    write_birds(tmp_path / "birds", count=12, seed=1, image_size=64)
    make(tmp_path / "birds", tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    truth = json.loads((tmp_path / "birds" / "colours.json").read_text())
    for name, colours in zip(pack.names, pack.colours.tolist(), strict=True):
        assert [list(PALETTE)[place] for place in colours] == [truth[name][part] for part in PARTS]
    for row, name in enumerate(pack.names):
        parts = Image.open(tmp_path / "birds" / "CUB_200_2011" / "parts_map" / f"{name}.png")
        assert set(pack.parts[row].unique().tolist()) <= set(
            np.unique(np.asarray(parts)).tolist()
        )  # nearest: no new labels
        assert ((pack.parts[row] > 0) & (pack.masks[row] == 0)).float().mean() < 0.02  # parts lie on the bird


def test_colours_of_another_palette_are_refused(tmp_path):
    write_birds(tmp_path / "birds", count=3, seed=1, image_size=64)
    file = tmp_path / "birds" / "colours.json"
    file.write_text(file.read_text().replace(next(iter(json.loads(file.read_text()).values()))["head"], "beige"))
    with pytest.raises(ValueError, match="colours.json.*beige"):
        make(tmp_path / "birds", tmp_path / "pack")


@pytest.mark.skipif(not BIRDS_MINI.is_dir(), reason=f"{BIRDS_MINI} is not there (set TMGAN_BIRDS_MINI)")
def test_birds_mini(tmp_path):
    summary = make(BIRDS_MINI, tmp_path / "pack", 128, placement="topleft")
    assert (summary.images, summary.train, summary.test, summary.captions) == (120, 100, 20, 1200)
    assert summary.skipped == {}
    pack = Pack.open(tmp_path / "pack", 128, "topleft")
    cub = BIRDS_MINI / "CUB_200_2011"
    ids = {line.split()[1][:-4]: line.split()[0] for line in (cub / "images.txt").read_text().splitlines()}
    boxes = {line.split()[0]: line.split()[1:] for line in (cub / "bounding_boxes.txt").read_text().splitlines()}
    for row in range(0, 120, 7):
        name = pack.names[row]
        box = [int(float(side)) for side in boxes[ids[name]]]
        photo = Image.open(cub / "images" / f"{name}.jpg").convert("RGB")
        assert np.array_equal(pack.tiles[row].numpy(), np.asarray(published_tile(photo, box, 152, "topleft")))
        mask = Image.open(cub / "segmentations" / f"{name}.png").convert("L")
        assert np.array_equal(pack.masks[row, :, :, 0].numpy(), np.asarray(published_tile(mask, box, 152, "topleft")))
        assert pack.class_names[int(pack.class_ids[row])] == name.split("/")[0]
        first = (BIRDS_MINI / "text" / f"{name}.txt").read_text().split("\n")[0].lower()
        line = int(pack.first[row])
        words = [pack.vocabulary.words[token] for token in pack.tokens[line, : pack.lengths[line]].tolist()]
        assert [word for word in first.replace(".", " ").replace(",", " ").replace("-", " ").split()] == words


BAD = {
    "missing": "is missing",
    "truncated": "cannot be decoded",
    "corrupt": "cannot be decoded",
    "empty": "cannot be decoded",
    "tiny": "31x80 pixels are too few",
    "deep": "more than 8 bits per channel",
    "box outside": "does not lie on the image",
    "box empty": "does not lie on the image",
    "box of a point": "only 2x2 pixels",
    "strip": "only 700x33 pixels",
    "mask of another size": "has 79x60 pixels, its image 80x60",
    "mask missing": "is missing",
    "mask not listed": "no mask in metadata.jsonl",
    "no caption": "no caption",
    "long caption": "a caption of 600 words",
}


def write_bad_folder(folder: Path) -> list[str]:
    """One bad image of each kind between good ones, in the order of BAD. Returns the names of the good."""
    rows, good = [], []
    for number, kind in enumerate(BAD):
        rows.append({"file_name": f"good{number}.png", "text": f"good{number}", "mask": "mask.png", "split": "train"})
        good.append(f"good{number}.png")
        name = f"{kind.replace(' ', '-')}.{'png' if kind == 'deep' else 'jpg'}"
        row = {"file_name": name, "text": "a bird", "mask": "mask.png", "split": "train"}
        row |= {"box outside": {"bbox": [200, 10, 20, 20]}, "box empty": {"bbox": [20, 10, 0, 20]}}.get(kind, {})
        row |= {"box of a point": {"bbox": [20, 10, 1.9, 2]}, "mask missing": {"mask": "none.png"}}.get(kind, {})
        row |= {"mask of another size": {"mask": "narrow.png"}, "mask not listed": {"mask": None}}.get(kind, {})
        row |= {"no caption": {"text": "..."}, "long caption": {"text": "very " * 600}}.get(kind, {})
        rows.append(row)
        folder.mkdir(exist_ok=True)
        textured({"tiny": (31, 80), "strip": (700, 33)}.get(kind, (80, 60)), number).save(folder / name, quality=90)
    for number in range(len(BAD)):
        Image.new("RGB", (80, 60), colour_of(number)).save(folder / f"good{number}.png")
    Image.new("L", (80, 60), 255).save(folder / "mask.png")
    Image.new("L", (79, 60), 255).save(folder / "narrow.png")
    (folder / "missing.jpg").unlink()
    whole = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    (folder / "corrupt.jpg").write_bytes(bytes(range(256)) * 20)
    (folder / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((60, 80), np.uint16)).save(folder / "deep.png")
    write_image_folder(folder, rows, images=False)
    return good


def test_bad_images_are_all_named_and_the_good_ones_kept(tmp_path):
    good = write_bad_folder(tmp_path / "photos")
    with pytest.raises(ValueError) as error:
        make(tmp_path / "photos", tmp_path / "pack")
    lines = str(error.value).split("\n")
    assert lines[0] == f"{len(BAD)} of {2 * len(BAD)} images cannot be used:" and "--skip-bad" in lines[-1]
    for line, (kind, message) in zip(lines[1:-1], BAD.items(), strict=True):
        assert line.startswith(f"  {kind.replace(' ', '-')}.") and message in line, line
    assert not (tmp_path / "pack").exists()

    summary = make(tmp_path / "photos", tmp_path / "pack", skip_bad=True)
    assert summary.cut == 0 and summary.images == len(good)  # nothing good was cut again
    assert list(summary.skipped) == [line.strip().split(":")[0] for line in lines[1:-1]]
    pack = Pack.open(tmp_path / "pack")
    assert list(pack.names) == good and pack.tiles.shape[0] == pack.masks.shape[0] == len(good)
    assert [number_of(tile[40, 40]) for tile in pack.tiles] == list(range(len(good)))
    assert pack.header["skipped"] == summary.skipped
    assert any("were left out" in finding.text for finding in examine(tmp_path / "pack"))


def test_only_the_mended_image_is_cut_again(tmp_path):
    folder = write_cub(tmp_path / "birds")
    image = folder / "CUB_200_2011" / "images" / f"{name_of(12)}.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[:-300])
    with pytest.raises(ValueError, match="1 of 20 images cannot be used:\n  003.Kind3/Kind_0012: .*cannot be decoded"):
        make(folder, tmp_path / "pack")
    image.write_bytes(whole)
    (folder / "text" / f"{name_of(0)}.txt").write_text("\n".join(captions_of(0)) + "\n\n")  # captions cost no tile
    assert make(folder, tmp_path / "pack").cut == 1
    assert_aligned(Pack.open(tmp_path / "pack"), ORDER)


def test_more_than_twenty_bad_images_are_counted(tmp_path):
    rows = [{"file_name": f"{number}.png", "text": "a bird", "split": "train"} for number in range(33)]
    with pytest.raises(ValueError) as error:
        make(write_image_folder(tmp_path / "photos", rows, images=False), tmp_path / "pack")
    lines = str(error.value).split("\n")
    assert len(lines) == 1 + 20 + 1 + 1 and lines[21] == "  ... and 13 more"


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_images(tmp_path, split):
    folder = write_image_folder(tmp_path / "photos", [{"file_name": "a.png", "text": "a bird", "split": split}])
    if split == "test":
        with pytest.raises(ValueError, match="training split"):
            make(folder, tmp_path / "pack")
    else:
        assert any("test split" in note for note in make(folder, tmp_path / "pack").notes)


KILLED = """
import os, signal, sys
from pathlib import Path
from tmgan.data import prepare as module
from tmgan.common.progress import Progress

def advance(self):
    self.seen = getattr(self, "seen", 0) + 1
    if self.seen == 13:
        import multiprocessing
        print(*[process.pid for process in multiprocessing.active_children()], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    Progress.advance = advance
    module.SYNC_SECONDS, module.CHUNK = 0.0, 2
    module.prepare(Path(sys.argv[1]), Path(sys.argv[2]), image_size=64, workers=2, progress=False)
"""


def test_a_killed_run_continues(tmp_path):
    folder = write_cub(tmp_path / "birds", masks=True)
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py"), str(folder), str(tmp_path / "pack")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(tmp_path / "output.txt", "w") as output:  # not a pipe: it would stay open with the workers
        killed = subprocess.run(command, env=environment, stdout=output, check=False)
    assert killed.returncode == -signal.SIGKILL
    workers = [int(process) for process in (tmp_path / "output.txt").read_text().split()]
    assert len(workers) == 2
    assert not (tmp_path / "pack").exists()
    with pytest.raises(ValueError, match="not finished: run"):
        Pack.open(tmp_path / "pack")
    assert "unfinished" in examine(tmp_path / "pack.partial")[0].text
    assert all(map(ended, workers)), "workers outlived the run"

    summary = make(folder, tmp_path / "pack")
    assert summary.cut == 20 - 12 and any("continuing: 12 of 20" in note for note in summary.notes)
    make(folder, tmp_path / "fresh")
    for name in ("tiles.u8", "masks.u8", "text.safetensors"):
        assert (tmp_path / "pack" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


class Stopped(Exception):
    pass


def stop_after(monkeypatch, images: int) -> None:
    """The next runs break off after so many images, as by Ctrl-C, until the patch is undone."""
    counted = []

    def advance(self) -> None:
        counted.append(1)
        if len(counted) == images:
            raise Stopped

    monkeypatch.setattr(prepare_module.Progress, "advance", advance)


def interrupt(folder: Path, pack: Path, images: int, **options) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(cut_jobs, "CHUNK", 1)
        stop_after(patch, images)
        make(folder, pack, **options)


def test_an_exchanged_picture_is_cut_again(tmp_path):
    folder = write_cub(tmp_path / "birds")
    interrupt(folder, tmp_path / "pack", 10)
    textured(SIZE, 0).save(folder / "CUB_200_2011" / "images" / f"{name_of(2)}.jpg", quality=95)
    boxes = folder / "CUB_200_2011" / "bounding_boxes.txt"
    boxes.write_text(boxes.read_text().replace("\n2 10.9 1.0 40.0 ", "\n2 10.9 1.0 50.0 "))  # of image 1
    assert make(folder, tmp_path / "pack").cut == 10 + 2
    make(folder, tmp_path / "fresh")
    assert (tmp_path / "pack" / "tiles.u8").read_bytes() == (tmp_path / "fresh" / "tiles.u8").read_bytes()


def cut_off_tiles(partial: Path) -> None:
    os.truncate(partial / "tiles.u8", 1000)


def no_state(partial: Path) -> None:
    (partial / "state.json").unlink()


def other_pillow(partial: Path) -> None:
    state = json.loads((partial / "state.json").read_text())
    (partial / "state.json").write_text(json.dumps({**state, "pillow": "1.0"}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut_off_tiles, "holds a damaged tiles.u8"),
        (no_state, "has no record of its state"),
        (other_pillow, "was begun with another pillow (1.0, now"),
    ],
)
def test_what_cannot_be_continued_is_started_over(tmp_path, spoil, reason):
    folder = write_cub(tmp_path / "birds", count=10)
    interrupt(folder, tmp_path / "pack", 5)
    spoil(tmp_path / "pack.partial")
    summary = make(folder, tmp_path / "pack")
    assert summary.cut == 10 and any("starting over" in note and reason in note for note in summary.notes)
    assert_aligned(Pack.open(tmp_path / "pack"), list(range(10)))


def test_other_settings_start_over(tmp_path):
    folder = write_cub(tmp_path / "birds", count=10)
    interrupt(folder, tmp_path / "pack", 5)
    summary = make(folder, tmp_path / "pack", 128)
    assert any("another image size (64, now 128)" in note for note in summary.notes)
    assert Pack.open(tmp_path / "pack", 128).tiles.shape == (10, 152, 152, 3)


def test_nobody_elses_files_are_deleted(tmp_path):
    folder = write_cub(tmp_path / "birds", count=10)
    (tmp_path / "pack.partial").mkdir()
    (tmp_path / "pack.partial" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="thesis.tex"):
        make(folder, tmp_path / "pack")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="is no pack and not empty"):
        make(folder, tmp_path / "other")
    (tmp_path / "empty").mkdir()
    make(folder, tmp_path / "empty")
    assert len(Pack.open(tmp_path / "empty")) == 10


def test_a_pack_is_never_overwritten(tmp_path):
    folder = write_cub(tmp_path / "birds", count=10)
    make(folder, tmp_path / "pack")
    before = (tmp_path / "pack" / "tiles.u8").stat().st_mtime_ns
    again = make(folder, tmp_path / "pack")
    assert again.already_prepared and again.cut == 0 and again.images == 10
    for options, message in (
        ({"image_size": 128}, "image_size is 64"),
        ({"placement": "topleft"}, "placement is centre"),
    ):
        with pytest.raises(ValueError, match=f"another pack .{message}"):
            make(folder, tmp_path / "pack", **options)
    caption = folder / "text" / f"{name_of(0)}.txt"
    text = caption.read_text()
    caption.write_text("another bird")
    with pytest.raises(ValueError, match="other lists or captions"):
        make(folder, tmp_path / "pack")
    caption.write_text(text)
    textured(SIZE, 0).save(folder / "CUB_200_2011" / "images" / f"{name_of(2)}.jpg")
    with pytest.raises(ValueError, match="have changed since"):
        make(folder, tmp_path / "pack")
    assert (tmp_path / "pack" / "tiles.u8").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100}, "multiple of 16"),
        ({"placement": "center"}, "centre, topleft"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, tmp_path / "pack", **options)


def test_a_disk_that_fills_up_is_a_sentence(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare_module, "write_bytes", full)
    with pytest.raises(ValueError, match=r"pack.partial cannot be written \(No space left on device\): fix that"):
        make(write_cub(tmp_path / "birds", count=10), tmp_path / "pack")
    monkeypatch.undo()
    make(tmp_path / "birds", tmp_path / "pack")


def test_too_small_a_disk(tmp_path, monkeypatch):
    folder = write_cub(tmp_path / "birds", count=10)
    monkeypatch.setattr(prepare_module.shutil, "disk_usage", lambda path: type("", (), {"free": 1000})())
    with pytest.raises(ValueError, match="takes 0.0 GB, only 0.0 are free"):
        make(folder, tmp_path / "pack")
    assert not (tmp_path / "pack.partial").exists()


@pytest.fixture(scope="module")
def good_pack(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    make(write_cub(folder / "birds", count=10, masks=True), folder / "pack")
    return folder / "pack"


@pytest.fixture
def pack_copy(good_pack, tmp_path) -> Path:
    (tmp_path / "copy").mkdir()
    for file in good_pack.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "copy"


def test_another_pack_than_needed_names_the_command(good_pack):
    assert len(Pack.open(good_pack, 64, "centre")) == 10
    with pytest.raises(ValueError) as error:
        Pack.open(good_pack, 128, "topleft")
    command = str(error.value).split("\n")[1].split()
    assert command[:3] == ["tmgan", "data", "prepare"] and command[5:] == [
        "--image-size",
        "128",
        "--placement",
        "topleft",
    ]
    make(Path(command[3]), Path(command[4]), int(command[6]), placement=command[8])
    assert len(Pack.open(Path(command[4]), 128, "topleft")) == 10


def test_there_is_no_pack(tmp_path):
    with pytest.raises(ValueError, match="is not a pack.*\n  tmgan data prepare SOURCE PACK"):
        Pack.open(tmp_path / "pack")


@pytest.mark.parametrize("name", ["tiles.u8", "masks.u8", "text.safetensors", "vocabulary.json", "names.json"])
def test_damaged_files_are_named(pack_copy, name):
    data = (pack_copy / name).read_bytes()
    (pack_copy / name).write_bytes(data[:-1])
    with pytest.raises(ValueError, match=f"{name} is damaged(.|\n)*tmgan data prepare"):
        Pack.open(pack_copy)
    (pack_copy / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing(.|\n)*tmgan data prepare"):
        Pack.open(pack_copy)
    assert examine(pack_copy)[0].level == "problem"


def test_other_words_of_the_same_size_are_noticed(pack_copy):
    text = (pack_copy / "vocabulary.json").read_text()
    (pack_copy / "vocabulary.json").write_text(text.replace('"bird"', '"dirb"'))
    with pytest.raises(ValueError, match="vocabulary.json is damaged"):
        Pack.open(pack_copy)


@pytest.mark.parametrize(("name", "value"), [("first", 1), ("tokens", 9999), ("lengths", 99), ("lengths", 0)])
def test_texts_that_do_not_fit_are_noticed(pack_copy, name, value):
    from safetensors.torch import load_file, save_file

    tensors = load_file(pack_copy / "text.safetensors")
    tensors[name].view(-1)[0] = value
    save_file(tensors, pack_copy / "text.safetensors")
    header = json.loads((pack_copy / "pack.json").read_text())
    header["bytes"]["text.safetensors"] = (pack_copy / "text.safetensors").stat().st_size
    (pack_copy / "pack.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match="text.safetensors is damaged"):
        Pack.open(pack_copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, but this tmgan reads format 1"),
        ({"count": 11}, "pack.json is damaged"),
        ({"tile": 77}, "pack.json is damaged"),
        ({"image_size": 128}, "pack.json is damaged"),
        ({"bytes": {}}, "pack.json is damaged"),
        ({"bytes": None}, "pack.json is damaged"),
    ],
)
def test_damaged_headers(pack_copy, change, message):
    header = json.loads((pack_copy / "pack.json").read_text())
    (pack_copy / "pack.json").write_text(json.dumps(header | change))
    with pytest.raises(ValueError, match=message):
        Pack.open(pack_copy)


def test_header_that_is_cut_off(pack_copy):
    (pack_copy / "pack.json").write_text((pack_copy / "pack.json").read_text()[:-5])
    with pytest.raises(ValueError, match="pack.json is damaged"):
        Pack.open(pack_copy)


def test_writing_into_an_opened_pack_leaves_the_disk_alone(pack_copy):
    before = (pack_copy / "tiles.u8").read_bytes()
    for file in pack_copy.iterdir():
        file.chmod(0o444)
    pack = Pack.open(pack_copy)
    pack.tiles.zero_()
    assert (pack_copy / "tiles.u8").read_bytes() == before and Pack.open(pack_copy).tiles.any()


def test_a_moved_pack_and_source_still_fit(tmp_path):
    folder = write_cub(tmp_path / "birds", count=10)
    make(folder, tmp_path / "pack")
    (tmp_path / "birds").rename(tmp_path / "vögel 2")
    (tmp_path / "pack").rename(tmp_path / "pack 2")
    assert make(tmp_path / "vögel 2", tmp_path / "pack 2").already_prepared


def test_progress_and_silence(tmp_path, capsys, monkeypatch):
    folder = write_cub(tmp_path / "birds", count=10)
    make(folder, tmp_path / "silent")
    assert capsys.readouterr() == ("", "")
    prepare(folder, tmp_path / "no terminal", image_size=64, workers=1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal
    monkeypatch.delenv("NO_COLOR", raising=False)
    prepare(folder, tmp_path / "shown", image_size=64, workers=1)
    assert "10/10" in capsys.readouterr().err
    monkeypatch.delenv("FORCE_COLOR")
    prepare(folder, tmp_path / "shown", image_size=64, workers=1)
    assert "already prepared" in capsys.readouterr().err
    with quiet():
        prepare(folder, tmp_path / "shown", image_size=64, workers=1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("names.json", "[]", "names.json is damaged: it is of another form"),
        ("names.json", '{"names": [1], "class_names": {}}', "holds no list of names"),
        ("names.json", '{"names": ["x"], "class_names": {"a": "b"}}', "other classes than numbers"),
        ("names.json", '{"names": ["x"], "class_names": {}}', "has 1 names, not"),
        ("names.json", "[" * 100_000, "nested too deeply"),
        ("vocabulary.json", "[" * 100_000, "nested too deeply"),
        ("pack.json", "[" * 100_000, "pack.json is damaged"),
        ("originals.json", "[" * 100_000, "nested too deeply"),
    ],
)
def test_files_of_another_form_are_refused(pack_copy, file, content, message):
    header = json.loads((pack_copy / "pack.json").read_text())
    (pack_copy / file).write_text(content)
    if file != "pack.json":
        header["bytes"][file] = len(content)
        (pack_copy / "pack.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match=message):
        Originals.open(Pack.open(pack_copy))


@pytest.mark.parametrize("change", [{"count": -1}, {"count": 12.0}, {"source": 1}, {"image_size": 1e300}, {"kind": []}])
def test_a_header_of_other_kinds_is_damaged(pack_copy, change):
    header = json.loads((pack_copy / "pack.json").read_text()) | change
    (pack_copy / "pack.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match="pack.json is damaged"):
        Pack.open(pack_copy)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "x\0.jpg", "", 1])
def test_originals_lie_inside_the_source(pack_copy, name):
    """A pack from anywhere names no file elsewhere."""
    rows = json.loads((pack_copy / "originals.json").read_text())
    rows["files"][0] = name
    (pack_copy / "originals.json").write_text(json.dumps(rows))
    header = json.loads((pack_copy / "pack.json").read_text())
    header["bytes"]["originals.json"] = (pack_copy / "originals.json").stat().st_size
    (pack_copy / "pack.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match="originals.json is damaged .*it does not name a file of the source"):
        Originals.open(Pack.open(pack_copy))


@pytest.mark.parametrize("name", ["word_labels", "split", "class_ids"])
def test_a_table_of_another_shape_is_noticed(pack_copy, name):
    from safetensors.torch import load_file, save_file

    tensors = load_file(pack_copy / "text.safetensors")
    tensors[name] = tensors[name][:1].clone()
    save_file(tensors, pack_copy / "text.safetensors")
    header = json.loads((pack_copy / "pack.json").read_text())
    header["bytes"]["text.safetensors"] = (pack_copy / "text.safetensors").stat().st_size
    (pack_copy / "pack.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match="text.safetensors is damaged"):
        Pack.open(pack_copy)
