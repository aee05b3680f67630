"""Editing: geometry, resolution, unknown words, and refusals that say what to do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from tmgan.config.methods import HistogramConfig, MethodConfig, RestoreConfig
from tmgan.editing.compositing import View, keep_file, keep_unchanged, keep_without, to_tensor
from tmgan.editing.editor import Editor
from tmgan.editing.photo_file import read_photo
from tmgan.editing.placement import BOX_TO_SQUARE, square
from tmgan.evaluation.metrics.colour_accuracy import colour_accuracy, make_test
from tmgan.models.bundle import load_encoders, load_generator, save_encoders, save_generator
from tmgan_kernels import change_mask


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 220, 3), dtype=np.uint8))


def test_only_the_square_changes_and_its_border_fades(editor, photo):
    edited = np.array(editor.edit(photo, "a bird with a red head")).astype(int)
    before = np.array(photo).astype(int)
    left, top, side = square(photo.size, None)
    assert (left, top, side) == (35, 0, 150) and edited.shape == before.shape
    assert np.array_equal(edited[:, :left], before[:, :left])
    assert np.array_equal(edited[:, left + side :], before[:, left + side :])
    change = np.abs(edited - before)[:, left : left + side].mean((0, 2))
    assert change[side // 2 - 20 : side // 2 + 20].mean() > 3 * max(change[0], change[-1])


def test_no_change_leaves_every_pixel(editor, photo, monkeypatch):
    class Copy(torch.nn.Module):
        def forward(self, noise, sentence, words, padding, eps, features, image):
            from tmgan.models.stages import GeneratorOutput

            return GeneratorOutput(image, torch.ones(1, words.shape[2], 16, 16), eps, eps, None)

    editor.generator = Copy()
    assert np.array_equal(np.array(editor.edit(photo, "a red bird")), np.array(photo))


def test_same_seed_same_edit_and_text_matters(editor, photo):
    one = np.array(editor.edit(photo, "a bird with a red head", seed=1))
    assert np.array_equal(one, np.array(editor.edit(photo, "a bird with a red head", seed=1)))
    assert not np.array_equal(one, np.array(editor.edit(photo, "a bird with a blue belly", seed=1)))


def test_attention_map_for_every_known_word(editor, photo):
    maps = editor.edit_in_full(photo, "a bird with a zebraish red head").attention
    assert [word for word, _ in maps] == ["a", "bird", "with", "a", "red", "head"]


def two_halves(view: View) -> torch.Tensor:
    """Keep the left half of the square."""
    return torch.tensor([[[[1.0, 0.0]]]]).repeat_interleave(4, 3)


@pytest.mark.parametrize("box", [None, (100, 60, 60, 40)])
def test_compositing_is_the_photo_where_kept_and_the_edit_elsewhere(editor, photo, box):
    whole = editor.edit_in_full(photo, "a bird with a red head", box, keep=two_halves)
    before, edited, composited, keep = (
        np.array(p).astype(int) for p in (photo, whole.picture, whole.composited, whole.keep)
    )
    assert np.array_equal(edited, np.array(editor.edit(photo, "a bird with a red head", box)))
    left, top, side = square(photo.size, box)
    assert keep.shape == before.shape[:2] and (keep[:, :left] == 255).all() and (keep[:, left + side :] == 255).all()
    kept, free = keep == 255, keep == 0
    assert kept[top : top + side, left : left + side].mean() > 0.3 and free.mean() > 0.05
    assert np.array_equal(composited[kept], before[kept]) and np.array_equal(composited[free], edited[free])
    assert (edited[kept] != before[kept]).any() and (edited[free] != before[free]).any()
    mixed = keep[..., None] / 255 * before + (1 - keep[..., None] / 255) * edited
    assert np.abs(composited - mixed).max() <= 1


def test_what_is_unchanged_is_kept_with_the_methods_threshold(editor, photo):
    small = photo.crop((0, 0, 64, 64))
    before = to_tensor(small)
    after = before.clone()
    after[..., 20:40, 20:40] = -after[..., 20:40, 20:40].sign()
    keep = keep_unchanged(editor.config.method)(View(small, (0, 0, 64), before, after, ""))
    assert torch.equal(keep, change_mask(before, after, eight_bit=True).float()) and 0.2 < keep.mean() < 0.95
    restore = MethodConfig(
        keep_mask="dataset", restore=RestoreConfig(p=0.5), histogram=HistogramConfig(threshold=254.0)
    )
    assert keep_unchanged(restore)(View(small, (0, 0, 64), before, after, "")).all()


def test_a_provider_sees_the_square_and_the_text(editor, photo):
    def provider(images, texts, span=1.0):
        assert images.shape == (1, 3, 256, 256) and texts == ["a red bird"] and span == 1.0
        return (images.mean(1, keepdim=True) > 0).float()

    square_ = (20, 10, 120)
    keep = keep_without(provider)(View(photo, square_, torch.zeros(0), torch.zeros(0), "a red bird"))
    area = photo.crop((20, 10, 140, 130)).resize((256, 256), Image.Resampling.BILINEAR)
    assert torch.equal(keep[0, 0] == 0, torch.from_numpy(np.array(area)).float().mean(2) > 127.5)


def test_mask_files_must_fit_the_photo(editor, photo, tmp_path):
    white = np.tile(np.arange(220) >= 100, (150, 1))
    Image.fromarray(255 * white.astype(np.uint8)).save(tmp_path / "m.png")
    view = View(photo, (35, 0, 150), torch.zeros(0), torch.zeros(0), "")
    assert torch.equal(keep_file(tmp_path / "m.png")(view)[0, 0], torch.from_numpy(white[:, 35:185]).float())
    with pytest.raises(ValueError, match="220x150 pixels, its image 100x100"):
        editor.edit_in_full(photo.crop((0, 0, 100, 100)), "a red bird", keep=keep_file(tmp_path / "m.png"))
    with pytest.raises(ValueError, match="none.png is missing"):
        editor.edit_in_full(photo, "a red bird", keep=keep_file(tmp_path / "none.png"))


@pytest.mark.parametrize("box", [(100, 60, 40, 20), (0, 0, 10, 10), (200, 140, 20, 10), (0, 0, 220, 150)])
def test_square_lies_inside_and_holds_the_scale_of_training(box):
    left, top, side = square((220, 150), box)
    assert left >= 0 and left + side <= 220 and top >= 0 and top + side <= 150
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
    with pytest.raises(ValueError, match="The text is empty"):
        editor.tokens([""])


def test_unreadable_photos_are_named(tmp_path):
    with pytest.raises(ValueError, match="none.jpg is missing"):
        read_photo(tmp_path / "none.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="bad.jpg cannot be decoded"):
        read_photo(tmp_path / "bad.jpg")


def test_photos_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (80, 40))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_photo(tmp_path / "turned.jpg").size == (40, 80)


def test_bundles_round_trip(editor, tiny, tmp_path):
    save_encoders(editor.encoders, tmp_path)
    save_generator(editor.generator, tiny, editor.encoders.vocabulary, tmp_path, 7)
    encoders = load_encoders(tmp_path)
    generator, config, images = load_generator(tmp_path, encoders)
    assert images == 7 and config == tiny and encoders.vocabulary == editor.encoders.vocabulary
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
    from tmgan.data.palette import PALETTE

    test = make_test(pack, 64, 6)

    def values(edit):
        return {name: measure.value for name, measure in colour_accuracy(test, edit).items()}

    copied = values(lambda images, texts: images)
    assert copied["colour_accuracy"] == 0 and copied["background_psnr"] == float("inf")
    assert copied["others_kept"] == 1
    palette = torch.tensor(list(PALETTE.values())) / 127.5 - 1

    def perfect(images, texts):
        rows = [test.texts.index(text) for text in texts]
        painted = images.clone()
        for i, row in enumerate(rows):
            part = test.part[row]
            painted[i] = torch.where(
                test.part_masks[row, part], palette[test.colours[row, part]][:, None, None], images[i]
            )
        return painted

    best = values(perfect)
    assert best["colour_accuracy"] == 1 and best["others_kept"] == 1 and best["background_psnr"] == float("inf")
    shifted = values(lambda images, texts: images + 2 * 0.1)
    assert shifted["background_psnr"] == pytest.approx(20.0, abs=1e-3)  # 0.1 of the full range


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


def test_strength_goes_further_where_the_network_paints_and_not_where_it_keeps(editor):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)) - 0.5
    texts = ["a bird with a red head", "a red bird"]
    once, none, twice = (editor.edit_tensors(images, texts, 0, strength) for strength in (1.0, 0.0, 2.0))
    assert torch.equal(editor.edit_tensors(images, texts).image, once.image)
    keep = torch.sigmoid(once.keep_logits)
    change = once.image - images
    torch.testing.assert_close(twice.image, (images + (2 - keep) * change).clamp(-1, 1))
    torch.testing.assert_close(none.image, images)
    with pytest.raises(ValueError, match=r"strength is -1; use 0, the photo, to 4"):
        editor.edit_tensors(images, texts, 0, -1.0)
