"""`colour_words`: which basic colours a text names, which an object has, and how far edits get from photo to real."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from tmgan.common.progress import Progress
from tmgan.data.colour_words import COLOUR_WORDS
from tmgan.data.crops import centre_crops
from tmgan.data.masks import mask_path
from tmgan.data.vocabulary import Vocabulary
from tmgan.evaluation.evaluate import baselines, describe, evaluate, quick_protocol
from tmgan.evaluation.metrics.colour_words import (
    BASIC,
    BASIC_OF,
    LEAST_SHARE,
    ColourWords,
    _lab,
    colour_shares,
    named_colours,
)
from tmgan.evaluation.metrics.edits import Edits, make_pairs
from tmgan.evaluation.metrics.measure import Measure, compare
from tmgan.evaluation.protocol import Protocol

QUIET = Progress(visible=False)


def _plain(*names: str, size: int = 16) -> torch.Tensor:
    """(B, 3, S, S) images of one colour each."""
    rgb = torch.tensor([COLOUR_WORDS[name] for name in names]) / 127.5 - 1
    return rgb[:, :, None, None].expand(-1, -1, size, size).clone()


def _batch(photos, edits, own, texts, keep=None) -> Edits:
    keep = torch.zeros(len(photos), 1, *photos.shape[2:]) if keep is None else keep
    return Edits(photos, edits, {"dataset": keep}, own, texts)


def _measures(pack, *batches: Edits) -> dict[str, Measure]:
    metric = ColourWords(pack, ("dataset",))
    for batch in batches:
        metric.add(batch)
    return metric.measures(QUIET)


def test_every_colour_word_counts_as_a_basic_colour():
    assert set(COLOUR_WORDS) == set(BASIC_OF) and set(BASIC_OF.values()) == set(BASIC)
    named = named_colours(["a Red bird, grey and teal", "a reddish bird with a golden-yellow head", "a small bird"])
    assert [{BASIC[k] for k in row.nonzero().flatten().tolist()} for row in named] == [
        {"red", "gray", "blue"},
        {"red", "yellow"},
        set(),
    ]


def test_lab_is_that_of_littlecms():
    """Their Lab has white D50, to which sRGB's white is adapted: whites and greys agree, hues nearly."""
    levels = np.array([[v] * 3 for v in range(0, 256, 15)], np.uint8)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    theirs = np.asarray(ImageCms.applyTransform(Image.fromarray(levels[None]), to_lab))[0]
    ours = _lab(torch.tensor(levels) / 255)
    np.testing.assert_allclose(2 * ours[:, 0], theirs[:, 0] / 255 * 100, atol=0.6)
    assert ours[:, 1:].abs().max() < 0.02
    # CIELAB of sRGB's red, D65 (Lindbloom's calculator)
    assert _lab(torch.tensor([[1.0, 0, 0]]))[0].tolist() == pytest.approx([53.24 / 2, 80.09, 67.20], abs=0.02)


def test_shares_are_those_of_the_pixels_inside_the_object():
    images = _plain("red", "blue", "white")
    images[0, :, :, 8:] = _plain("green")[0, :, :, 8:]
    objects = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    objects[0, :, :, 4:10] = True  # four columns of six are red
    objects[1, :, 3, 3] = True
    shares = colour_shares(images, objects)
    wanted = torch.zeros(3, len(BASIC))
    wanted[0, BASIC.index("red")], wanted[0, BASIC.index("green")] = 4 / 6, 2 / 6
    wanted[1, BASIC.index("blue")] = 1
    torch.testing.assert_close(shares, wanted)  # the last has no object


def test_a_colour_in_shade_stays_what_it_is():
    """With all of the difference of lightness, this red would be brown."""
    images = (_plain("red", "green", "yellow") + 1) * torch.tensor([0.6, 0.5, 0.7])[:, None, None, None] - 1
    shares = colour_shares(images, torch.ones(3, 1, 16, 16, dtype=torch.bool))
    assert [BASIC[k] for k in shares.argmax(1).tolist()] == ["red", "green", "yellow"]


def test_a_photo_has_the_share_of_its_named_colours(pack):
    photos = _plain("black", "red", "white", "white")
    edits = _plain("red", "red", "blue", "white")
    edits[0, :, 0] = _plain("yellow")[0, :, 0]  # one row of 16: 6 %
    assert 1 / 32 < LEAST_SHARE < 1 / 16
    edits[2, :, 0, :8] = _plain("yellow")[0, :, 0, :8]  # half a row
    own = ["a black bird", "a red bird with a blue head", "a white bird", "a white bird"]
    texts = ["a red bird with a yellow head and a green bill", "a red bird", "blue and yellow", "a large bird"]
    found = _measures(pack, _batch(photos, edits, own, texts))
    assert found["colour_words"].values[:3] == pytest.approx([2 / 3, 1, 1 / 2])
    assert found["colour_words_photo"].values[:3] == (0, 1, 0)
    assert found["colour_words_real"].values[:3] == (1, 0.5, 1)
    assert all(math.isnan(measure.values[3]) and measure.n == 3 for measure in found.values())
    # (2/3 + 1/2) more than the photos have, of 2 - 1/2 more that real photos have
    assert found["colour_words_way"].value == pytest.approx((2 / 3 + 1 / 2) / 1.5)


def test_only_the_object_counts(pack):
    keep = torch.ones(2, 1, 16, 16)
    keep[0, :, :8] = 0
    edits = _plain("red", "red")
    edits[0, :, 8:] = _plain("blue")[0, :, 8:]
    found = _measures(pack, _batch(_plain("black", "black"), edits, ["black"] * 2, ["red and blue"] * 2, keep))
    assert found["colour_words"].values[0] == 0.5 and math.isnan(found["colour_words"].values[1])  # it has no object


def test_the_way_is_a_ratio_of_sums_over_photos(pack):
    random = np.random.default_rng(0)
    gain, room = random.normal(0.3, 0.4, 80), random.normal(0.5, 0.4, 80)
    measure = Measure.of(gain.tolist(), statistic="ratio", weights=room.tolist())
    assert measure.value == pytest.approx(gain.sum() / room.sum())
    draws = random.integers(80, size=(4000, 80))
    wanted = np.quantile(gain[draws].sum(1) / room[draws].sum(1), [0.025, 0.975])
    assert [measure.low, measure.high] == pytest.approx(wanted, abs=0.02)
    assert Measure.from_json(json.loads(json.dumps(measure.to_json()))) == measure
    better = Measure.of((gain + 0.1).tolist(), statistic="ratio", weights=room.tolist())
    assert compare(measure, better).value == pytest.approx(0.1 * 80 / room.sum())
    # Of a divisor that may be nothing there is no interval.
    assert Measure.of([0.5, 0.0, 0.5], statistic="ratio", weights=[1.0, 0.0, -0.5]).low is None


def test_between_the_copied_input_and_real_photos(editor, pack):
    protocol = Protocol(metrics=("colour_words",), count=8, batch=3, split="train")
    copier = baselines(editor)["input copied"]
    copied = evaluate(copier, pack, protocol)
    assert copied["colour_words"].values == copied["colour_words_photo"].values
    assert copied["colour_words_way"].value == 0
    assert copied["colour_words_real"].value > 0.95 > 0.7 > copied["colour_words_photo"].value
    pairs = make_pairs(pack, "train", 8, "other", 0)
    objects = centre_crops(pack.masks, pairs.image, 64, (0.0, 1.0)) > 0.5
    there = colour_shares(centre_crops(pack.tiles, pairs.image, 64), objects) >= LEAST_SHARE
    named = named_colours([pack.caption(int(row)) for row in pairs.target])
    assert copied["colour_words"].values == pytest.approx(((there & named).sum(1) / named.sum(1)).tolist())
    own = evaluate(copier, pack, dataclasses.replace(protocol, captions="own"))
    assert "colour_words" in own and "colour_words_way" not in own


def test_it_needs_a_mask_and_colours_and_says_so(editor, pack, own):
    unmasked = dataclasses.replace(own, masks=None)
    for of, masks in ((unmasked, ()), (own, ("histogram",))):
        with pytest.raises(ValueError, match=r"no mask of it[^\n]*\. Make masks with\n  tmgan data masks"):
            evaluate(editor, of, Protocol(metrics=("colour_words",), count=3, masks=masks))
    words = tuple(f"{word}x" if word in COLOUR_WORDS else word for word in pack.vocabulary.words)
    colourless = dataclasses.replace(pack, vocabulary=Vocabulary(words))
    with pytest.raises(ValueError, match="captions that name colours, such as red"):
        evaluate(editor, colourless, Protocol(metrics=("colour_words",), count=3))
    found = _measures(pack, _batch(_plain("red"), _plain("red"), ["a small bird"], ["a red bird"]))
    assert found["colour_words"].n == 0 and "two captions that name colours" in found["colour_words"].note
    # Stored masks do, and the reader is told.
    mask_path(own.path, "fcn").write_bytes(own.masks.numpy().tobytes())
    mask_path(own.path, "fcn").with_suffix(".json").write_text(json.dumps({"pack": own.hash, "about": {}}))
    protocol, copier = Protocol(metrics=("colour_words",), count=3), baselines(editor)["input copied"]
    stored = evaluate(copier, unmasked, protocol)
    assert stored["colour_words"].values == evaluate(copier, pack, protocol)["colour_words"].values
    assert "the object is what the fcn masks say" in describe(stored)


def test_it_is_measured_while_training_on_photographs_only(pack):
    photographs = dataclasses.replace(pack, parts=None, colours=None)
    assert "colour_words" in quick_protocol(photographs, 3).metrics
    assert "colour_words" not in quick_protocol(pack, 3).metrics  # colour accuracy says more
    assert "colour_words" not in quick_protocol(dataclasses.replace(photographs, masks=None), 3).metrics
    colourless = dataclasses.replace(photographs, vocabulary=Vocabulary(("<end>", "small", "bird")))
    assert "colour_words" not in quick_protocol(colourless, 3).metrics
