"""What an edit does not change about a photo is as before: profile, EXIF, transparency, pixels outside the square."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.editing.profiles import adobe_as_srgb, adobe_rgb, seen, srgb
from tmgan.editing.change import feather
from tmgan.editing.compositing import to_tensor
from tmgan.editing.saving import save_photo
from tmgan.models.stages import GeneratorOutput

TEXT = "a bird with a red head"
BOX = (100, 40, 20, 20)  # a square of 25 pixels
OUTSIDE = np.ones((90, 140), bool)
OUTSIDE[36:64, 96:124] = False


def levels(picture) -> np.ndarray:
    return np.array(picture).astype(int)


@pytest.fixture
def photo() -> Image.Image:
    """Soft colours, as of a photo: no level is near 0 or 255."""
    noise = np.random.default_rng(0).integers(60, 190, (9, 14, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((140, 90), Image.Resampling.BICUBIC)


@pytest.fixture
def copying(editor):
    """An editor that changes nothing."""

    class Copy(torch.nn.Module):
        def forward(self, noise, sentence, words, padding, eps, features, image):
            return GeneratorOutput(image, torch.ones(1, words.shape[2], 16, 16), eps, eps, None)

    editor.generator = Copy()
    return editor


@pytest.fixture
def watched(editor, monkeypatch) -> list[torch.Tensor]:
    """What the network is shown."""
    shown, edit = [], editor.edit_tensors
    monkeypatch.setattr(editor, "edit_tensors", lambda images, *rest: (shown.append(images), edit(images, *rest))[1])
    return shown


def with_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    tagged = picture.copy()
    tagged.info["icc_profile"] = profile
    return tagged


@pytest.mark.parametrize("profile", [None, srgb()], ids=["untagged", "sRGB"])
def test_a_photo_in_srgb_is_edited_to_the_bit_as_ever(editor, photo, profile):
    """The change, enlarged and added: without profiles there was nothing else."""
    small = to_tensor(photo.crop((25, 0, 115, 90)).resize((64, 64), Image.Resampling.BILINEAR))
    change = editor.edit_tensors(small, [TEXT]).image - small
    change = F.interpolate(change, size=(90, 90), mode="bicubic")[0] * feather(90, 25, 0, photo.size)
    full = levels(photo).astype(np.float32)
    full[:, 25:115] += (change * 127.5).permute(1, 2, 0).numpy()
    edited = editor.edit(with_profile(photo, profile) if profile else photo, TEXT)
    assert np.array_equal(levels(edited), full.round().clip(0, 255).astype(int))
    assert edited.mode == "RGB" and edited.info.get("icc_profile") == profile


def test_the_network_sees_srgb(editor, watched):
    editor.edit(with_profile(Image.new("RGB", (64, 64), (150, 120, 90)), adobe_rgb()), TEXT)
    shown = (watched[0][0, :, 30, 30].numpy() + 1) * 127.5
    assert np.abs(shown - adobe_as_srgb((150, 120, 90))).max() < 0.75
    assert np.abs(shown - (150, 120, 90)).max() > 5  # which is not what the file stores


def test_an_edit_looks_the_same_in_every_space(editor, photo):
    """Where the network moves pixels by 25 levels, both edits are 1.1 levels apart."""
    from tmgan.editing.colour import in_rgb

    space = in_rgb(photo, adobe_rgb(), "")[1]
    wide = with_profile(space.from_srgb(photo), adobe_rgb())
    edited = editor.edit(wide, TEXT)
    assert edited.info["icc_profile"] == adobe_rgb()
    there, here = seen(edited), levels(editor.edit(photo, TEXT))
    moved = np.abs(here - levels(photo)).mean()
    assert moved > 10 and np.abs(there - here).mean() < moved / 10


def test_no_change_is_exactly_none_in_any_space(copying, photo):
    loud = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 140, 3), dtype=np.uint8))
    for picture in (photo, loud):
        assert np.array_equal(levels(copying.edit(with_profile(picture, adobe_rgb()), TEXT)), levels(picture))


def transparent(photo: Image.Image) -> Image.Image:
    """Magenta under a transparent strip on the left, half opaque on the right."""
    pixels = np.dstack([np.array(photo), np.full((90, 140), 255, np.uint8)])
    pixels[:, :50] = (255, 0, 255, 0)
    pixels[:, 110:, 3] = 128
    return Image.fromarray(pixels)


def test_transparency_stays_and_the_network_sees_white_there(editor, photo, watched):
    clear = transparent(photo)
    edited = editor.edit(clear, TEXT)
    assert edited.mode == "RGBA" and np.array_equal(levels(edited)[..., 3], levels(clear)[..., 3])
    assert np.array_equal(levels(edited)[:, :50], levels(clear)[:, :50])  # the square begins at 25
    assert (levels(edited)[20:70, 60:100] != levels(clear)[20:70, 60:100]).any()
    shown = watched[0][0]  # 64 pixels for the 90 from 25 on
    assert (shown[:, :, :16] == 1).all() and (shown[:, :, 19:] < 1).all()
    half = np.array(photo)[45, 112] / 2 + 127.5
    assert np.abs((shown[:, 32, 62].numpy() + 1) * 127.5 - half).max() < 12  # 0.7 of a pixel is mixed in


@pytest.mark.parametrize("ending", ["png", "webp", "tiff"])
def test_files_that_hold_transparency_are_exact(editor, photo, tmp_path, ending):
    clear = transparent(photo)
    clear.save(tmp_path / f"photo.{ending}", lossless=True, exact=True)
    edited = editor.edit(tmp_path / f"photo.{ending}", TEXT, BOX)
    assert save_photo(edited, tmp_path / f"edited.{ending}") == ()
    again = Image.open(tmp_path / f"edited.{ending}")
    assert again.mode == "RGBA" and np.array_equal(levels(again), levels(edited))
    assert np.array_equal(levels(again)[OUTSIDE], levels(clear)[OUTSIDE])


def test_the_composited_photo_keeps_as_much(editor, photo):
    clear = with_profile(transparent(photo), adobe_rgb())
    half = torch.tensor([[[[1.0, 0.0]]]]).repeat_interleave(4, 3)
    whole = editor.edit_in_full(clear, TEXT, keep=lambda view: half)
    assert whole.composited.mode == "RGBA" and whole.composited.info == whole.picture.info != {}
    composited, edited, kept = levels(whole.composited), levels(whole.picture), levels(whole.keep) == 255
    assert np.array_equal(composited[kept], levels(clear)[kept]) and (edited[kept] != levels(clear)[kept]).any()
    assert np.array_equal(composited[..., 3], levels(clear)[..., 3])


def test_masks_are_found_in_what_the_network_sees(editor, photo):
    views = []
    clear = with_profile(transparent(photo), adobe_rgb())
    editor.edit_in_full(clear, TEXT, keep=lambda view: (views.append(view), torch.ones(1, 1, 4, 4))[1])
    shown = levels(views[0].photo)
    assert (shown[:, :50] == 255).all()
    assert np.abs(shown[45, 80] - adobe_as_srgb(photo.getpixel((80, 45)))).max() < 1.5


def test_a_picture_of_the_users_stays_as_it_is(editor, photo):
    given = with_profile(transparent(photo), adobe_rgb())
    given.getexif()[0x0112] = 6
    before = given.tobytes(), dict(given.info), dict(given.getexif())
    assert editor.edit(given, TEXT).size == (90, 140)
    assert (given.tobytes(), dict(given.info), dict(given.getexif())) == before


def test_more_than_8_bits_are_refused(editor):
    with pytest.raises(ValueError, match=r"more than 8 bits per channel \(mode I;16\): convert"):
        editor.edit(Image.new("I;16", (64, 64)), TEXT)
