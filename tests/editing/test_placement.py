"""Where the object is: from the mask that a network finds in the whole photo to the square that is edited."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from tmgan.config.methods import MethodConfig
from tmgan.editing.placement import LOOK_EDGE, box_of, provider_of_training, square, view_of
from tmgan.models import weights


class RedIsBird:
    """A provider that takes red for the object."""

    name, about = "red", {"classes": ["bird", "dog"], "weights": "none"}

    def __init__(self):
        self.asked = []

    def __call__(self, images, texts, span=1.0):
        self.asked.append((tuple(images.shape), texts, span))
        return ((images[:, :1] > 0.5) & (images[:, 1:2] < -0.5)).float()


def photo(size=(300, 200), *birds: tuple[int, int, int, int]) -> Image.Image:
    """Green, with a red rectangle (left, top, right, bottom) for each bird."""
    picture = Image.new("RGB", size, (90, 160, 90))
    for left, top, right, bottom in birds:
        picture.paste((230, 20, 20), (left, top, right, bottom))
    return picture


def found(picture: Image.Image):
    return box_of(RedIsBird()(view_of(picture), [""])[0, 0].numpy(), picture.size)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (448, 448), (3000, 500), (90, 60)])
def test_an_object_anywhere_in_a_photo_of_any_shape_is_boxed(size):
    w, h = size
    for left, top in ((0.1, 0.2), (0.6, 0.5)):
        box = (round(left * w), round(top * h), round((left + 0.3) * w), round((top + 0.4) * h))
        x, y, width, height = found(photo(size, box))
        pixel = max(1.0, max(size) / LOOK_EDGE)
        assert np.abs(np.subtract((x, y, x + width, y + height), box)).max() <= 1.5 * pixel


def test_specks_are_no_objects_and_do_not_widen_one():
    speck = (2, 190, 5, 193)
    assert found(photo((300, 200))) is None and found(photo((300, 200), speck)) is None
    assert found(photo((300, 200), (150, 50, 200, 90), speck)) == found(photo((300, 200), (150, 50, 200, 90)))


def test_of_two_objects_the_larger_is_taken_and_a_twig_does_not_cut_one():
    small, large = (10, 20, 50, 60), (150, 60, 220, 140)
    assert found(photo((300, 200), small, large)) == found(photo((300, 200), large))
    x, _, width, _ = found(photo((300, 200), (100, 50, 140, 90), (141, 50, 180, 90)))
    assert abs(x - 100) <= 1 and abs(width - 80) <= 2


def test_what_lies_outside_the_photo_counts_for_nothing():
    mask = np.ones((LOOK_EDGE, LOOK_EDGE), np.float32)
    assert box_of(mask, (400, 100)) == (0, 0, 400, 100)
    mask[150:300] = 0
    assert box_of(mask, (400, 100)) is None


def test_a_view_is_the_whole_photo_on_grey():
    view = view_of(photo((300, 150)))
    assert view.shape == (1, 3, LOOK_EDGE, LOOK_EDGE)
    assert (view[..., :112, :] == 0).all() and (view[..., 336:, :] == 0).all()
    assert torch.allclose(view[0, :, 200, 200], torch.tensor([90.0, 160, 90]) / 127.5 - 1)


def test_the_square_follows_from_what_is_found(editor):
    provider, bird = RedIsBird(), photo((300, 200), (200, 20, 240, 60))
    edited = editor.edit_in_full(bird, "a blue bird", find=provider)
    box = found(bird)
    assert edited.notes == (f"The picture: red finds the bird or dog at {' '.join(map(str, box))}",)
    assert edited.square == square((300, 200), box)
    assert provider.asked == [((1, 3, LOOK_EDGE, LOOK_EDGE), ["a blue bird"], 2.0)]
    alone = editor.edit(bird, "a blue bird", box)
    assert np.array_equal(np.array(edited.picture), np.array(alone))
    assert np.array_equal(np.array(editor.edit(bird, "a blue bird", find=provider)), np.array(alone))
    maps = editor.attention(bird, "a blue bird", find=provider)
    assert maps[0][1].size == (edited.square[2],) * 2


def test_nothing_found_is_said_and_the_centre_edited(editor):
    edited = editor.edit_in_full(photo(), "a blue bird", find=RedIsBird())
    assert edited.square == (50, 0, 200)
    assert edited.notes == ("The picture: red finds no bird or dog, the centred square is edited",)


def test_many_are_looked_at_in_batches_but_not_those_with_a_box(editor):
    provider = RedIsBird()
    photos = [photo((300, 200), (20 + 40 * i, 20, 60 + 40 * i, 60)) for i in range(4)]
    boxes, texts = [None, (1, 2, 30, 30), None, None], ["a bird", "a red bird", "a blue bird", "a bird"]
    outcomes = list(editor.edit_many(photos, texts, boxes, find=provider, batch=3))
    assert [asked[:2] for asked in provider.asked] == [
        ((2, 3, LOOK_EDGE, LOOK_EDGE), ["a bird", "a blue bird"]),
        ((1, 3, LOOK_EDGE, LOOK_EDGE), ["a bird"]),
    ]
    for i, outcome in enumerate(outcomes):
        assert outcome.edited.square == square((300, 200), boxes[i] or found(photos[i]))


def test_masks_are_found_in_srgb_over_white(editor):
    class Watch(RedIsBird):
        def __call__(self, images, texts, span=1.0):
            self.seen = images
            return super().__call__(images, texts, span)

    clear = photo((200, 200)).convert("RGBA")
    clear.putalpha(0)
    provider = Watch()
    editor.edit(clear, "a bird", find=provider)
    assert (provider.seen == 1).all()


def test_the_provider_of_training_is_known_and_whether_it_is_here(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "folders", lambda weights_dir="": [tmp_path / "none"])
    method = MethodConfig()
    for keep_mask in ("none", "dataset", "histogram"):
        assert provider_of_training(dataclasses.replace(method, keep_mask=keep_mask), "") == ("", False)
    fcn = dataclasses.replace(method, keep_mask="fcn")
    assert provider_of_training(fcn, "") == ("fcn", False)
    (tmp_path / weights.KNOWN["fcn"].name).write_bytes(b"")
    monkeypatch.setattr(weights, "folders", lambda weights_dir="": [tmp_path])
    assert provider_of_training(fcn, "") == ("fcn", True)
    assert provider_of_training(dataclasses.replace(method, keep_mask="clipseg"), str(tmp_path)) == ("clipseg", False)
