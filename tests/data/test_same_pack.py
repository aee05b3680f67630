"""A file is recognised by what it holds, and two commands never write one pack at once."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.data_folders import textured, write_image_folder
from tmgan.common.lock import only_one
from tmgan.data import stamps, tiles
from tmgan.data.decode import BadImage
from tmgan.data.doctor import examine
from tmgan.data.drawn.dataset import write_birds
from tmgan.data.mask_file import open_map
from tmgan.data.originals import Originals
from tmgan.data.pack import HEADER, Pack, pixels_hash, read_header
from tmgan.data.prepare import prepare


def make(source: Path, pack: Path, **options):
    return prepare(source, pack, image_size=64, workers=1, progress=False, **options)


@pytest.fixture
def source(tmp_path) -> Path:
    """Four photos with masks, BMP: another picture has the same size in bytes."""
    for number in range(4):
        textured((80, 60), number).save(tmp_path / f"{number}.bmp")
        draw_mask(tmp_path / f"m{number}.bmp", 0)
    names = range(4)
    rows = [{"file_name": f"{n}.bmp", "text": f"bird {n}", "mask": f"m{n}.bmp", "split": "train"} for n in names]
    return write_image_folder(tmp_path / "source", move_all(tmp_path, rows))


def move_all(folder: Path, rows: list[dict]) -> list[dict]:
    (folder / "source").mkdir()
    for file in folder.glob("*.bmp"):
        file.rename(folder / "source" / file.name)
    return rows


def draw_mask(path: Path, left: int) -> None:
    mask = Image.new("L", (80, 60))
    mask.paste(255, (left, 0, left + 40, 60))
    mask.save(path)


def mend(path: Path, left: int = 40, time_too: bool = True) -> None:
    """Another mask of the same size in bytes; `time_too`: and of the same modification time."""
    before, size = path.stat(), path.stat().st_size
    draw_mask(path, left)
    assert path.stat().st_size == size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns if time_too else before.st_mtime_ns + 10**9))


@pytest.fixture
def young(monkeypatch):
    """Files that were written just now, however slow the machine is: their time says nothing."""
    monkeypatch.setattr(stamps, "_YOUNG_NS", 10**18)


def grow_old(source: Path) -> None:
    """Files that were written long ago: their time can be trusted."""
    for file in source.iterdir():
        os.utime(file, ns=(10**18, 10**18))


@pytest.mark.parametrize("time_too", [False, True], ids=["later", "within one tick of the clock"])
def test_a_mask_that_was_mended_in_place_is_another_pack(source, tmp_path, time_too, young):
    make(source, tmp_path / "wrong")
    mend(source / "m2.bmp", time_too=time_too)
    with pytest.raises(ValueError, match=r"pictures of its source have changed since: 1\n  2.bmp: its mask looks diff"):
        make(source, tmp_path / "wrong")
    make(source, tmp_path / "right")
    wrong, right = Pack.open(tmp_path / "wrong"), Pack.open(tmp_path / "right")
    assert wrong.hash != right.hash and (wrong.masks[2] != right.masks[2]).any()


def test_what_follows_from_the_pixels_is_the_same_pack(source, tmp_path):
    """Touched, copied without times, or written again with other metadata: the same pixels, the same pack."""
    grow_old(source)
    make(source, tmp_path / "one")
    os.utime(source / "1.bmp")
    with Image.open(source / "2.bmp") as image:
        image.save(source / "2.bmp", dpi=(300, 300))
    assert make(source, tmp_path / "one").already_prepared
    grow_old(source)
    make(source, tmp_path / "two")
    assert Pack.open(tmp_path / "one").hash == Pack.open(tmp_path / "two").hash


def test_files_of_the_same_time_are_not_read_again(source, tmp_path, monkeypatch):
    grow_old(source)
    make(source, tmp_path / "pack")
    monkeypatch.setattr(stamps, "file_digest", lambda path: pytest.fail(f"{path} was read"))
    assert make(source, tmp_path / "pack").already_prepared


def test_a_run_that_goes_on_notices_what_was_mended(source, tmp_path, young):
    whole = (source / "3.bmp").read_bytes()
    (source / "3.bmp").write_bytes(whole[:100])
    with pytest.raises(ValueError, match="1 of 4 images cannot be used"):
        make(source, tmp_path / "pack")
    (source / "3.bmp").write_bytes(whole)
    mend(source / "m0.bmp")
    assert make(source, tmp_path / "pack").cut == 2  # the mended one and the one whose mask was
    assert Pack.open(tmp_path / "pack").masks[0, 38, :, 0].tolist()[0] == 0


def test_an_image_that_was_left_out_and_mended_since_is_said(source, tmp_path):
    whole = (source / "3.bmp").read_bytes()
    (source / "3.bmp").write_bytes(b"")
    make(source, tmp_path / "pack", skip_bad=True)
    os.utime(source / "3.bmp", ns=(10**18, 10**18))  # copied, say: still the same bad file
    assert make(source, tmp_path / "pack").already_prepared
    header = json.loads((tmp_path / "pack" / HEADER).read_text())
    assert list(header["skipped"]) == ["3.bmp"]
    (source / "3.bmp").write_bytes(whole)
    with pytest.raises(ValueError, match=r"images that were left out can be used now: 1\n  3.bmp"):
        make(source, tmp_path / "pack")


def test_a_pack_of_an_earlier_version_is_compared_picture_by_picture(source, tmp_path, young):
    """It has no stamps, and a hash that follows from the sizes of the files: that stays, runs were trained on it."""
    pack = tmp_path / "pack"
    make(source, pack)
    header = read_header(pack)
    pixels = header.pop("pixels_hash")
    assert pixels == pixels_hash(pack, header)
    header["pictures_hash"] = "of sizes"
    header["bytes"].pop(stamps.STAMPS)
    (pack / stamps.STAMPS).unlink()
    (pack / HEADER).write_text(json.dumps(header))
    before = Pack.open(pack)
    assert before.pixels_hash == pixels
    summary = make(source, pack)
    assert summary.already_prepared and any("compared with it once" in note for note in summary.notes)
    assert Pack.open(pack).hash == before.hash and read_header(pack)["bytes"][stamps.STAMPS] == 4 * stamps.COLUMNS * 8
    assert not any("compared" in note for note in make(source, pack).notes)
    mend(source / "m1.bmp")
    with pytest.raises(ValueError, match="1.bmp: its mask looks different now"):
        make(source, pack)


def test_files_that_would_be_read_otherwise_now_are_looked_at_again(source, tmp_path, monkeypatch):
    """A later version of the rules: once where they make no difference, by name where they do."""
    grow_old(source)
    pack = tmp_path / "pack"
    make(source, pack)
    monkeypatch.setattr(tiles, "READING", tiles.READING + 1)
    assert any("compared with it once" in note for note in make(source, pack).notes)
    assert not any("compared" in note for note in make(source, pack).notes)
    monkeypatch.setattr(tiles, "READING", tiles.READING + 1)
    monkeypatch.setattr(tiles, "open_map", refuse_three)
    with pytest.raises(ValueError, match=r"pictures of its source are read differently now: 1\n  3.bmp: .*no mask now"):
        make(source, pack)


def test_what_was_begun_with_other_rules_starts_over(source, tmp_path, monkeypatch):
    grow_old(source)
    whole = (source / "3.bmp").read_bytes()
    (source / "3.bmp").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of 4 images cannot be used"):
        make(source, tmp_path / "pack")
    (source / "3.bmp").write_bytes(whole)
    monkeypatch.setattr(tiles, "READING", tiles.READING + 1)
    summary = make(source, tmp_path / "pack")
    assert summary.cut == 4 and "starting over" in summary.notes[0] and "another reading (1, now 2)" in summary.notes[0]


def refuse_three(path, *arguments, **options):
    if path.name == "m3.bmp":
        raise BadImage(f"{path} is no mask now")
    return open_map(path, *arguments, **options)


def test_loaders_that_decode_the_originals_notice_too(source, tmp_path):
    grow_old(source)
    make(source, tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    mend(source / "m0.bmp", time_too=False)  # masks come from the tiles
    os.utime(source / "0.bmp")  # the same bytes
    Originals.open(pack)
    textured((80, 60), 9).save(source / "0.bmp")
    with pytest.raises(ValueError, match="1 of the 4 files .*missing or changed:\n.*0.bmp holds other bytes"):
        Originals.open(pack)


def test_a_picture_that_cannot_be_opened_is_one_of_the_bad_ones(source, tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        if str(path).endswith("2.bmp") and not str(path).endswith("m2.bmp"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, *arguments, **options)

    really = open
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(
        ValueError, match=r"1 of 4 images cannot be used:\n  2.bmp: .* cannot be opened \(Permission denied"
    ):
        make(source, tmp_path / "pack")
    assert make(source, tmp_path / "pack", skip_bad=True).images == 3


@pytest.mark.parametrize("whose", ["source", "pack"])
def test_a_file_that_cannot_be_opened_is_named(source, tmp_path, monkeypatch, whose):
    """Only what lies in the pack is a trouble of the disk it is written to."""
    broken = {"source": source / "2.bmp", "pack": tmp_path / "pack.partial" / "tiles.u8"}[whose]

    def fail(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(broken))

    monkeypatch.setattr("tmgan.data.prepare.run_jobs", fail)
    expected, words = {"source": (PermissionError, str(broken)), "pack": (ValueError, "pack.partial cannot be wr")}[
        whose
    ]
    with pytest.raises(expected, match=words):
        make(source, tmp_path / "pack")


def test_nobody_reads_is_no_full_disk(source, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tmgan.data.prepare.run_jobs", lambda *_: (_ for _ in ()).throw(BrokenPipeError(errno.EPIPE, ""))
    )
    with pytest.raises(BrokenPipeError):
        make(source, tmp_path / "pack")


def test_the_second_of_two_is_refused(source, tmp_path):
    with (
        only_one(tmp_path / ".pack.lock", "busy"),
        pytest.raises(ValueError, match="Another process is preparing .*pack. Wait for it"),
    ):
        make(source, tmp_path / "pack")
    assert not (tmp_path / "pack.partial").exists()
    make(source, tmp_path / "pack")
    assert not list(tmp_path.glob(".pack*"))


def test_links_are_followed(source, tmp_path):
    """To a folder, and to one that does not exist yet."""
    disk = tmp_path / "disk"
    (disk / "pack").mkdir(parents=True)
    (tmp_path / "birds").symlink_to(disk / "birds")
    write_birds(tmp_path / "birds", 20, image_size=64)
    assert (tmp_path / "birds").is_symlink() and (disk / "birds" / "text").is_dir()
    for name in ("pack", "nowhere"):
        (tmp_path / name).symlink_to(disk / name)
        assert make(source, tmp_path / name).pack == tmp_path / name
        assert (tmp_path / name).is_symlink() and (disk / name / HEADER).is_file()
        assert make(source, tmp_path / name).already_prepared
    assert {p.name for p in disk.iterdir()} == {"birds", "pack", "nowhere"}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_pack_that_can_only_be_read_is_still_found_prepared(source, tmp_path, monkeypatch, number):
    make(source, tmp_path / "pack")
    grow_old(source)  # its stamps would be brought up to date

    def refuse(*_):
        raise OSError(number, "it can only be read")

    monkeypatch.setattr("tmgan.data.same_pack.write_bytes", refuse)
    monkeypatch.setattr("tmgan.common.lock._acquire", refuse)
    assert make(source, tmp_path / "pack").already_prepared
    source.rename(tmp_path / "moved")
    monkeypatch.setattr("tmgan.data.same_pack.write_header", refuse)
    summary = make(tmp_path / "moved", tmp_path / "pack")
    assert summary.already_prepared and any(f"still says that its pictures are in {source}" in n for n in summary.notes)


def test_home_is_found(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make("~/source", "~/pack")
    assert np.array_equal(Pack.open("~/pack").tiles, Pack.open(tmp_path / "pack").tiles)
    shutil.rmtree(tmp_path / "pack")


def test_doctor_reads_every_pixel(source, tmp_path):
    make(source, tmp_path / "pack")
    assert ("ok", "all its pixels are as they were prepared") in [(f.level, f.text) for f in examine(tmp_path / "pack")]
    with open(tmp_path / "pack" / "masks.u8", "r+b") as file:
        file.write(b"\1")
    (finding,) = [f for f in examine(tmp_path / "pack") if f.level == "problem"]
    assert "not those that were prepared" in finding.text and "tmgan data prepare" in finding.remedy
