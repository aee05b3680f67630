"""`tmgan edit` over several photos: one that fails does not stop the rest, and what is lost is said."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from tests.editing.profiles import adobe_rgb, cmyk
from tmgan.cli import main
from tmgan.cli.edit import _KEEP_NAMES, Arguments
from tmgan.cli.edit import main as main_of_edit
from tmgan.config.methods import MASK_PROVIDERS

TEXT = ["--text", "a bird with a red head"]


@pytest.fixture
def edit(editor, monkeypatch, capsys):
    """The command with the untrained editor. Returns its exit status, standard output and standard error."""
    monkeypatch.setattr("tmgan.editing.editor.load", lambda run, runtime: editor)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        status = 0
        try:
            main(["edit", "RUN", *map(str, arguments), *TEXT])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8))
    for name in ("a.jpg", "b.png"):
        picture.save(folder / name)
    return folder


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_photos_that_fail_are_listed_and_the_others_done(edit, photos, tmp_path):
    (photos / "bad.png").write_bytes(b"rubbish")
    Image.new("RGB", (64, 8)).save(photos / "low.png")
    status, out, err = edit(photos, photos / "none.jpg", "--out", tmp_path / "out")
    assert status == 2 and "3 of 5 photos were not edited" in err
    for name in ("bad.png", "low.png", "none.jpg"):
        assert err.count(str(photos / name)) == 1
    assert written(tmp_path / "out") == ["a.png", "b.png"] and out.count("\n") == 2


def test_a_single_missing_photo_is_refused(edit, tmp_path):
    status, _, err = edit(tmp_path / "none.jpg", "--out", tmp_path / "x.png")
    assert status == 2 and f"There is no photo {tmp_path / 'none.jpg'}" in err


def test_a_photo_that_cannot_be_saved_does_not_stop_the_rest(edit, photos, tmp_path, monkeypatch):
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    status, out, err = edit(photos, "--out", tmp_path / "out")
    assert status == 2 and "1 of 2 photos were not edited" in err
    assert f"{photos / 'a.jpg'}: {tmp_path / 'out' / 'a.png'} cannot be written: Is a directory" in err
    assert out == f"{tmp_path / 'out' / 'b.png'}\n" and written(tmp_path / "out") == ["a.png", "b.png"]


def test_a_full_disk_is_said_for_each_photo(edit, photos, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("tmgan.common.picture_files.write_bytes", full)
    status, _, err = edit(photos, "--out", tmp_path / "out")
    assert status == 2 and f"{tmp_path / 'out' / 'b.png'} cannot be written: the disk is full" in err


def test_a_reader_that_goes_away_ends_the_batch(editor, photos, tmp_path, monkeypatch):
    def gone(*values, file=None):
        if file is not sys.stderr:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    for i in range(12):
        (photos / f"c{i}.png").write_bytes((photos / "b.png").read_bytes())
    monkeypatch.setattr("tmgan.editing.pipeline.THREADS", 1)
    monkeypatch.setattr("tmgan.cli.edit.print", gone, raising=False)
    monkeypatch.setattr("tmgan.editing.editor.load", lambda run, runtime: editor)
    with pytest.raises(BrokenPipeError):
        main_of_edit(["RUN", str(photos), "--out", str(tmp_path / "out"), *TEXT])
    assert len(written(tmp_path / "out")) <= 3  # those that were being written


def test_names_that_are_no_text_end_nothing(edit, photos, tmp_path, monkeypatch):
    """What a Windows zip and macOS leave in a folder, and a strict standard output."""
    os.rename(photos / "a.jpg", os.path.join(os.fsencode(photos), b"caf\xe9.jpg"))
    (photos / "._b.png").write_bytes(b"\0\5\26\7")
    (photos / "photo.heic").write_bytes(b"")
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", stdout)
    status, _, err = edit(photos, "--out", tmp_path / "out")
    stdout.flush()
    assert status == 0 and b"b.png" in stdout.buffer.getvalue()
    assert err.count("NOTE: ") == 1 and "2 files (._b.png, photo.heic)" in err
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == [b"b.png", b"caf\xe9.png"]


def test_photos_of_one_name_are_both_edited(edit, photos, tmp_path):
    (photos / "b.png").rename(photos / "a.png")
    status, _, _ = edit(photos, "--out", tmp_path / "out", "--keep", "histogram")
    assert status == 0
    assert written(tmp_path / "out") == [
        f"a.{kind}{extra}.png" for kind in ("jpg", "png") for extra in (".composited", ".keep", "")
    ]


def test_what_is_read_is_not_overwritten(edit, photos):
    before = (photos / "b.png").read_bytes()
    status, _, err = edit(photos / "a.jpg", photos / "b.png", "--out", photos)
    assert status == 2 and f"overwrite the photo {photos / 'b.png'}" in err
    assert (photos / "b.png").read_bytes() == before and written(photos) == ["a.jpg", "b.png"]


def test_what_a_file_cannot_keep_is_noted(edit, photos, tmp_path):
    rgba = Image.open(photos / "b.png").convert("RGBA")
    rgba.putpixel((0, 0), (1, 2, 3, 0))
    rgba.save(photos / "b.png", icc_profile=cmyk())
    status, out, err = edit(photos / "b.png", "--out", tmp_path / "new" / "b.jpg", "--keep", "histogram", "--attention")
    assert status == 0 and err.count("NOTE: ") == 2
    assert f"NOTE: {photos / 'b.png'}: its colour profile describes CMYK" in err
    assert f"NOTE: {tmp_path / 'new' / 'b.jpg'}: JPEG holds no transparency" in err
    assert sorted(map(os.path.basename, out.split())) == ["b.attention.png", "b.composited.jpg", "b.jpg", "b.keep.png"]


def test_an_edit_keeps_profile_exif_and_pixels(edit, photos, tmp_path):
    """The whole way, at the measured 0.0 levels outside the square (quality 95: 0.9)."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    soft = Image.open(photos / "b.png").resize((8, 6)).resize((160, 120), Image.Resampling.BICUBIC)
    soft.save(photos / "a.jpg", quality=80, subsampling=0, icc_profile=adobe_rgb(), exif=exif)
    box = ["--box", "120", "40", "20", "20", "--keep", "histogram"]
    assert edit(photos / "a.jpg", "--out", tmp_path / "a.jpg", *box)[0] == 0
    before = np.array(Image.open(photos / "a.jpg")).astype(int)[:, :96]
    for name in ("a.jpg", "a.composited.jpg"):
        after = Image.open(tmp_path / name)
        assert after.info["icc_profile"] == adobe_rgb() and after.getexif()[0x010F] == "Camera"
        assert np.abs(np.array(after)[:, :96] - before).mean() < 0.05


def test_every_provider_can_keep(edit, photos, tmp_path, monkeypatch):
    assert set(MASK_PROVIDERS) < set(_KEEP_NAMES)
    source = Path(sys.modules[Arguments.__module__].__file__).read_text()
    page = (Path(__file__).parents[2] / "docs" / "editing.md").read_text()
    for name in MASK_PROVIDERS:
        assert f"`{name}`" in source and f"--keep {name}" in page
        asked = []
        monkeypatch.setattr(
            "tmgan.methods.mask_providers.make_provider",
            lambda *about, asked=asked: (asked.append(about[0]), lambda images, texts: images[:, :1] * 0)[1],
        )
        assert edit(photos / "b.png", "--out", tmp_path / "b.png", "--keep", name)[0] == 0 and asked == [name]
    assert edit(photos / "b.png", "--out", tmp_path / "b.png", "--keep", "clpseg")[2].count("clipseg") == 1


class Corner:
    """A provider that finds the upper left corner, in photos that have the pixels for it."""

    name, about = "fcn", {"classes": ["bird"], "weights": "none"}

    def __call__(self, images, texts, span=1.0):
        masks = images[:, :1] * 0
        masks[:, :, 100:150, 0:50] = 1
        return masks


@pytest.fixture
def providers(monkeypatch) -> list[str]:
    """Names of the providers that are made; each is a Corner."""
    asked: list[str] = []
    monkeypatch.setattr(
        "tmgan.methods.mask_providers.make_provider", lambda name, *about: (asked.append(name), Corner())[1]
    )
    return asked


def test_what_finds_the_bird_is_said_for_each_photo(edit, photos, tmp_path, providers):
    status, out, err = edit(photos, "--out", tmp_path / "out", "--find", "fcn", "--keep", "fcn")
    assert status == 0 and out.count("\n") == 6 and providers == ["fcn"]  # one network for both
    for name in ("a.jpg", "b.png"):
        assert f"NOTE: {photos / name}: fcn finds the bird at 0 " in err
    before, after = (np.array(Image.open(path)).astype(int) for path in (photos / "b.png", tmp_path / "out" / "b.png"))
    assert (before != after)[:20, :9].any() and (before == after)[:, 40:].all()


def test_the_run_says_who_finds_the_bird(edit, editor, photos, tmp_path, providers, monkeypatch):
    """By itself: what the run was trained with, if it is here; else the centre, and a line about it."""
    monkeypatch.setattr("tmgan.models.weights.find", lambda key, folder="": None)
    _, _, err = edit(photos, "--out", tmp_path / "out")
    assert err == "" and providers == []  # trained with the drawn birds' own masks
    method = dataclasses.replace(editor.config.method, keep_mask="fcn")
    editor.config = dataclasses.replace(editor.config, method=method)
    _, _, err = edit(photos, "--out", tmp_path / "out")
    assert err.count("NOTE: ") == 1 and "the objects that fcn finds, and its weights are not here" in err
    monkeypatch.setattr("tmgan.models.weights.find", lambda key, folder="": tmp_path)
    for quiet in (["--find", "centre"], ["--weights", "random"]):
        assert "finds the bird at" not in edit(photos, "--out", tmp_path / "out", *quiet)[2] and providers == []
    assert edit(photos, "--out", tmp_path / "out")[2].count("fcn finds the bird at") == 2 and providers == ["fcn"]
    box = ["--box", "10", "10", "20", "20"]
    assert edit(photos / "b.png", "--out", tmp_path / "b.png", *box)[2] == "" and providers == ["fcn"]


def test_weights_that_are_missing_are_refused_before_anything_is_written(edit, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("tmgan.models.weights.folders", lambda weights_dir="": [tmp_path / "none"])
    status, _, err = edit(photos, "--out", tmp_path / "out", "--find", "fcn")
    assert status == 2 and "weights of the segmentation network" in err and not (tmp_path / "out").exists()


def test_every_provider_can_find():
    names = get_args(get_type_hints(Arguments)["find"])
    assert names == ("auto", "centre", *MASK_PROVIDERS)


def test_seeds_stand_side_by_side(edit, photos, tmp_path):
    status, out, _ = edit(photos, "--out", tmp_path / "out", "--seeds", "3", "--seed", "5")
    assert status == 0 and written(tmp_path / "out") == ["a.png", "a.seeds.png", "b.png", "b.seeds.png"]
    assert out.split()[1] == str(tmp_path / "out" / "a.seeds.png")
    assert Image.open(tmp_path / "out" / "b.seeds.png").width > 4 * 256
    edit(photos / "b.png", "--out", tmp_path / "b.png", "--seed", "5")
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "out" / "b.png").read_bytes()


def test_seeds_without_noise_are_refused(edit, editor, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(editor, "varies", lambda text: False)
    status, _, err = edit(photos, "--out", tmp_path / "out", "--seeds", "3")
    assert status == 2 and "--seeds 3: this generator has no noise" in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seeds", "0"], "--seeds is 0; use 2 to 16"),
        (["--seeds", "17"], "--seeds is 17"),
        (["--seeds", "2", "--seed", 2**63 - 1], "the last of --seeds is 9223372036854775808"),
        (["--seed", "-1"], "--seed is -1"),
        (["--batch", "0"], "--batch is 0"),
        (["--strength", "4.5"], "--strength is 4.5; use 0, the photo, to 4"),
        (["--strength", "nan"], "--strength is nan"),
        (["--box", 0, 0, 9, 9, "--find", "fcn"], "--find fcn has nothing to find"),
    ],
)
def test_flags_that_make_no_sense_are_refused_before_torch(edit, photos, tmp_path, flags, said):
    status, _, err = edit(photos / "b.png", "--out", tmp_path / "x.png", *flags)
    assert status == 2 and said in err and not (tmp_path / "x.png").exists()


def test_a_folder_is_needed_for_several(edit, photos, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert "is a file: give a folder for 2 photos" in edit(photos, "--out", tmp_path / "file")[2]
    assert "do not fit into one picture" in edit(photos, "--out", tmp_path / "x.png")[2]


def test_home_is_found(edit, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert edit("~/in/b.png", "--out", "~/new/b.png")[0] == 0 and (tmp_path / "new" / "b.png").exists()


def test_the_door_needs_no_torch():
    code = "import sys, tmgan.cli.edit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_folder_of_the_photos_is_no_place_for_their_edits(edit, photos):
    assert "the next time its edits would be edited" in edit(photos, "--out", photos)[2]
