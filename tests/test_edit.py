"""Editing: geometry, resolution, unknown words, and refusals that say what to do."""
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from tmgan.bundle import build_generator, load_encoders, load_generator, save_encoders, save_generator
from tmgan.edit import BOX_TO_SQUARE, Editor, open_photo, square
from tmgan.metrics.colour_accuracy import colour_accuracy, make_test
from tmgan.models.layers import init_weights
from tmgan.runtime import decide


@pytest.fixture
def editor(tiny, encoders) -> Editor:
    generator = build_generator(tiny.model, encoders)
    init_weights(generator, torch.Generator().manual_seed(0))
    return Editor(generator, encoders, tiny, decide(tiny.runtime))


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 220, 3), dtype=np.uint8))


def test_only_the_square_changes_and_its_border_fades(editor, photo):
    edited = np.array(editor.edit(photo, "a bird with a red head")).astype(int)
    before = np.array(photo).astype(int)
    left, top, side = square(photo.size, None)
    assert (left, top, side) == (35, 0, 150) and edited.shape == before.shape
    assert np.array_equal(edited[:, :left], before[:, :left])
    assert np.array_equal(edited[:, left + side:], before[:, left + side:])
    change = np.abs(edited - before)[:, left:left + side].mean((0, 2))
    assert change[side // 2 - 20:side // 2 + 20].mean() > 3 * max(change[0], change[-1])


def test_no_change_leaves_every_pixel(editor, photo, monkeypatch):
    class Copy(torch.nn.Module):
        def forward(self, noise, sentence, words, padding, eps, features, image):
            from tmgan.models.lightweight import GeneratorOutput
            return GeneratorOutput(image, torch.ones(1, words.shape[2], 16, 16), eps, eps, None)

    editor.generator = Copy()
    assert np.array_equal(np.array(editor.edit(photo, "a red bird")), np.array(photo))


def test_same_seed_same_edit_and_text_matters(editor, photo):
    one = np.array(editor.edit(photo, "a bird with a red head", seed=1))
    assert np.array_equal(one, np.array(editor.edit(photo, "a bird with a red head", seed=1)))
    assert not np.array_equal(one, np.array(editor.edit(photo, "a bird with a blue belly", seed=1)))


def test_attention_map_for_every_known_word(editor, photo):
    _, maps = editor.edit_with_attention(photo, "a bird with a zebraish red head")
    assert [word for word, _ in maps] == ["a", "bird", "with", "a", "red", "head"]


@pytest.mark.parametrize("box", [(100, 60, 40, 20), (0, 0, 10, 10), (200, 140, 20, 10), (0, 0, 220, 150)])
def test_square_lies_inside_and_holds_the_scale_of_training(box):
    left, top, side = square((220, 150), box)
    assert 0 <= left and left + side <= 220 and 0 <= top and top + side <= 150
    assert side == min(150, max(8, round(BOX_TO_SQUARE * max(box[2:]))))


@pytest.mark.parametrize("box", [(300, 0, 10, 10), (0, 0, 0, 10), (-20, 0, 10, 10)])
def test_boxes_outside_are_refused(box):
    with pytest.raises(ValueError, match="lies outside"):
        square((220, 150), box)


def test_unknown_words_are_named_with_the_nearest(editor):
    assert editor.unknown_words("a bird with a red head") == ""
    assert "'whight' is unknown (nearest: white" in editor.unknown_words("whight wings")
    with pytest.raises(ValueError, match="No word of 'zzz qqq'"):
        editor.tokens(["zzz qqq"])
    with pytest.raises(ValueError, match="No word of ''"):
        editor.tokens([""])


def test_unreadable_photos_are_named(tmp_path):
    with pytest.raises(ValueError, match="none.jpg is missing"):
        open_photo(tmp_path / "none.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="bad.jpg cannot be decoded"):
        open_photo(tmp_path / "bad.jpg")


def test_photos_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (80, 40))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert open_photo(tmp_path / "turned.jpg").size == (40, 80)


def test_bundles_round_trip(editor, tiny, tmp_path):
    save_encoders(editor.encoders, tmp_path)
    save_generator(editor.generator, tiny, editor.encoders.vocabulary, tmp_path, 7)
    encoders = load_encoders(tmp_path)
    generator, config = load_generator(tmp_path, encoders)
    assert config == tiny and encoders.vocabulary == editor.encoders.vocabulary
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    texts = ["a red bird", "a bird with a blue head"]
    again = Editor(generator, encoders, config, editor.runtime).edit_tensors(images, texts).image
    assert torch.equal(again, editor.edit_tensors(images, texts).image)


def test_bundles_that_are_missing_or_damaged_say_so(tmp_path, editor):
    with pytest.raises(ValueError, match="tmgan damsm"):
        load_encoders(tmp_path)
    (tmp_path / "encoders.safetensors").write_bytes(b"12345678rubbish")
    with pytest.raises(ValueError, match="damaged"):
        load_encoders(tmp_path)
    with pytest.raises(ValueError, match="tmgan train"):
        load_generator(tmp_path, editor.encoders)


def test_colour_accuracy_of_known_answers(pack):
    """The input copied scores 0; painting the named part in the named colour scores 1; a changed background costs."""
    from tmgan.data.synthetic import PALETTE

    test = make_test(pack, 64, 6)
    copied = colour_accuracy(test, lambda images, texts: images)
    assert copied["colour_accuracy"] == 0 and copied["background_psnr"] == float("inf")
    assert copied["others_kept"] == 1
    palette = torch.tensor(list(PALETTE.values())) / 127.5 - 1

    def perfect(images, texts):
        rows = [test.texts.index(text) for text in texts]
        painted = images.clone()
        for i, row in enumerate(rows):
            part = test.part[row]
            painted[i] = torch.where(test.part_masks[row, part], palette[test.colours[row, part]][:, None, None], images[i])
        return painted

    best = colour_accuracy(test, perfect)
    assert best["colour_accuracy"] == 1 and best["others_kept"] == 1 and best["background_psnr"] == float("inf")
    shifted = colour_accuracy(test, lambda images, texts: images + 2 * 0.1)
    assert shifted["background_psnr"] == pytest.approx(20.0, abs=1e-3)       # 0.1 of the full range


def test_a_broken_model_or_an_empty_test_has_no_score(pack):
    test = make_test(pack, 64, 2)
    with pytest.raises(FloatingPointError, match="not finite"):
        colour_accuracy(test, lambda images, texts: images * float("nan"))
    with pytest.raises(ValueError, match="has none"):
        make_test(dataclasses.replace(pack, test=pack.test[:0]), 64, 2)


def test_colour_test_is_seeded_and_swaps_one_part(pack):
    one, other = make_test(pack, 64, 6, seed=1), make_test(pack, 64, 6, seed=1)
    assert one.texts == other.texts and one.texts != make_test(pack, 64, 6, seed=2).texts
    true = pack.colours[pack.test[:6]].long()
    assert ((one.colours != true).sum(1) == 1).all()
    assert torch.equal((one.colours != true).float().argmax(1), one.part)
