"""Many photos at once: each as if edited alone, in order, few in memory, and one that fails fails alone."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from tests.editing.profiles import adobe_rgb
from tmgan.editing import pipeline
from tmgan.editing.editor import Editor
from tmgan.editing.seeds import edits_of_seeds
from tmgan.models.bundle import build_generator
from tmgan.models.layers import init_weights

TEXTS = ["a bird with a red head", "a blue bird", "a bird with a red head and white wings", "a red bird", "a bird"]


def picture(seed: int, size: tuple[int, int] = (80, 64)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(60, 190, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
    """Five photos of several sizes and kinds."""
    for i, size in enumerate([(80, 64), (70, 90), (64, 64), (100, 70)]):
        picture(i, size).save(tmp_path / f"{i}.png", **({"icc_profile": adobe_rgb()} if i == 1 else {}))
    return [*(tmp_path / f"{i}.png" for i in range(4)), picture(4)]


def levels(image: Image.Image) -> np.ndarray:
    return np.array(image).astype(int)


def test_each_is_as_if_edited_alone(editor, photos):
    """Rounding may move a pixel by a level, where sums are added in another order."""
    boxes, seeds = [None, (10, 10, 20, 20), None, None, (5, 5, 30, 20)], [0, 0, 0, 7, 0]
    keep = [None, None, lambda view: torch.ones(1, 1, 2, 2) / 2, None, None]
    together = list(editor.edit_many(photos, TEXTS, boxes, seeds, 1.5, keep, batch=3))
    assert [outcome.photo for outcome in together] == photos
    for i, outcome in enumerate(together):
        alone = editor.edit_in_full(photos[i], TEXTS[i], boxes[i], seeds[i], keep[i], 1.5)
        edited = outcome.edited
        assert edited.square == alone.square and edited.picture.info == alone.picture.info
        assert np.abs(levels(edited.picture) - levels(alone.picture)).max() <= 1
        assert (levels(edited.picture) != levels(alone.picture)).mean() < 0.01
        assert [word for word, _ in edited.attention] == TEXTS[i].split()
        for (_, one), (_, other) in zip(edited.attention, alone.attention, strict=True):
            assert np.abs(levels(one) - levels(other)).max() <= 2
        assert (edited.composited is not None) == (edited.keep is not None) == (keep[i] is not None)


def test_with_published_attention_an_edit_is_what_it_is_alone(editor, tiny):
    """Also where a batch is edited at once, as evaluations do."""
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, attention="published"))
    generator = build_generator(config.model, editor.encoders)
    init_weights(generator, torch.Generator().manual_seed(0))
    published = Editor(generator, editor.encoders, config, editor.runtime)
    texts = ["a bird with a red head", "a red bird", "a bird with white wings", "a white bird"]
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    together = published.edit_tensors(images, texts)
    for i, text in enumerate(texts):
        alone = published.edit_tensors(images[i : i + 1], [text])
        for name in ("image", "mu", "logvar", "keep_logits"):
            assert torch.allclose(getattr(together, name)[i], getattr(alone, name)[0], atol=1e-5), name
        length = alone.attention.shape[1]
        assert torch.allclose(together.attention[i, :length], alone.attention[0], atol=1e-5)
        assert not together.attention[i, length:].any()


def test_published_attention_does_not_read_the_padding_of_others(editor, tiny, photos):
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, attention="published"))
    generator = build_generator(config.model, editor.encoders)
    init_weights(generator, torch.Generator().manual_seed(0))
    published = Editor(generator, editor.encoders, config, editor.runtime)
    for text, outcome in zip(TEXTS, published.edit_many(photos, TEXTS), strict=True):
        assert np.abs(levels(outcome.edited.picture) - levels(published.edit(outcome.photo, text))).max() <= 1


def test_the_network_works_on_batches_and_few_photos_are_held(editor, monkeypatch):
    monkeypatch.setattr(pipeline, "THREADS", 2)
    batches, edit, taken = [], editor.edit_tensors, []
    monkeypatch.setattr(
        editor, "edit_tensors", lambda images, *rest: (batches.append(len(images)), edit(images, *rest))[1]
    )

    def frames():
        for i in range(50):
            taken.append(i)
            yield picture(i)

    outcomes = editor.edit_many(frames(), "a red bird", batch=4)
    assert taken == []
    assert next(outcomes).error is None and len(taken) <= 4 + 3 * 2 + 2
    assert len([outcome for outcome in outcomes if outcome.edited]) == 49
    assert batches == 12 * [4] + [2]


def test_one_that_fails_fails_alone(editor, photos, tmp_path):
    (tmp_path / "1.png").write_bytes(b"rubbish")
    texts, boxes = ["a red bird", "a bird", "zzz", "a bird", "a bird"], [None, None, None, (500, 0, 9, 9), None]
    outcomes = list(editor.edit_many(photos, texts, boxes, batch=2))
    assert [outcome.error is None for outcome in outcomes] == [True, False, False, False, True]
    assert "1.png cannot be decoded" in str(outcomes[1].error) and "No word of 'zzz'" in str(outcomes[2].error)
    with pytest.raises(ValueError, match="lies outside the photo"):
        _ = outcomes[3].edited
    assert outcomes[4].edited.picture.size == (80, 64)


def test_a_fault_of_ours_is_raised(editor, photos, monkeypatch):
    def broken(view):
        raise TypeError("a fault")

    with pytest.raises(TypeError, match="a fault"):
        list(editor.edit_many(photos, "a red bird", keep=broken))


def test_who_stops_early_leaves_no_thread_behind(editor, photos):
    outcomes = editor.edit_many(photos, "a red bird")
    next(outcomes)
    outcomes.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tmgan-edit")]


def test_what_does_not_fit_is_refused_at_once(editor, photos):
    for wrong, said in (
        ({"texts": ["a bird"]}, "5 photos and 1 texts: give one for each"),
        ({"boxes": [None] * 6}, "5 photos and 6 boxes"),
        ({"seed": [1, 2]}, "5 photos and 2 seeds"),
        ({"seed": -1}, "seed is -1"),
        ({"batch": 0}, "batch is 0"),
        ({"strength": 5.0}, "strength is 5; use 0"),
        ({"texts": "zzz"}, "No word of 'zzz'"),
        ({"photos": photos[0]}, "is a single photo or folder"),
    ):
        with pytest.raises(ValueError, match=said):
            editor.edit_many(**({"photos": photos, "texts": "a red bird"} | wrong))


@pytest.mark.parametrize("count", [1, 3])
def test_numbers_that_only_the_last_photo_tells_are_refused_there(editor, photos, count):
    outcomes = editor.edit_many((photo for photo in photos[:2]), ["a bird"] * count)
    with pytest.raises(ValueError, match=f"photos and {count} texts"):
        list(outcomes)


def test_attention_is_that_of_the_edit(editor, photos):
    maps = editor.attention(photos[0], "a zebraish red head", (10, 10, 20, 20))
    whole = editor.edit_in_full(photos[0], "a zebraish red head", (10, 10, 20, 20))
    assert [word for word, _ in maps] == ["a", "red", "head"]
    for (_, one), (_, other) in zip(maps, whole.attention, strict=True):
        assert one.mode == "L" and one.size == (whole.square[2],) * 2 and np.array_equal(levels(one), levels(other))


def test_whether_seeds_differ_is_measured(editor, tiny_editor):
    assert editor.varies("a red bird")
    own = build_generator(tiny_editor.model, editor.encoders)
    init_weights(own, torch.Generator().manual_seed(0))
    assert not Editor(own, editor.encoders, tiny_editor, editor.runtime).varies("a red bird")


def test_edits_of_seeds_show_the_square_of_the_photo(editor, photos):
    photo, where = photos[3], (20, 10, 50)
    pictures = edits_of_seeds(editor, photo, where, "a red bird", [3, 4, 5])
    assert pictures.shape == (4, 3, 256, 256)
    area = Image.open(photo).crop((20, 10, 70, 60)).resize((256, 256), Image.Resampling.BILINEAR)
    shown = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(shown[0], np.array(area))
    assert np.array_equal(shown[2], np.array(editor.edit(area, "a red bird", seed=4)))
    assert (shown[1] != shown[2]).any()


def test_between_photo_and_edit_strength_mixes_both(editor):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)) - 0.5
    texts = ["a bird with a red head", "a red bird"]
    whole, half = (editor.edit_tensors(images, texts, 0, strength).image for strength in (1.0, 0.5))
    torch.testing.assert_close(half, (images + whole) / 2)
    photo = picture(1)
    assert np.array_equal(levels(editor.edit(photo, "a red bird", strength=0.0)), levels(photo))


def test_edits_before_a_wrong_number_of_seeds_are_not_lost(editor, tmp_path):
    """An iterator tells its number only in the end."""
    photos = [Image.new("RGB", (64, 64), (40 * k, 90, 120)) for k in range(3)]
    outcomes = editor.edit_many(iter(photos), "a red bird", seed=[0, 1, 2, 3], batch=2)
    for _ in photos:
        assert next(outcomes).error is None
    with pytest.raises(ValueError, match="3 photos and 4 seeds"):
        next(outcomes)


def test_seeds_of_numpy(editor):
    photo = Image.new("RGB", (64, 64), (40, 90, 120))
    (outcome,) = editor.edit_many([photo], "a red bird", seed=np.int64(3))
    assert np.array_equal(np.array(outcome.edited.picture), np.array(editor.edit(photo, "a red bird", seed=3)))
