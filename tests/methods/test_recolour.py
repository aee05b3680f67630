"""Recoloured photos: only the object, only where the caption names its colour, only in the colours of other objects."""

from __future__ import annotations

import pytest
import torch

from tmgan.config.methods import MethodConfig, RestoreConfig
from tmgan.data.colour_words import COLOUR_WORDS
from tmgan.data.vocabulary import Vocabulary
from tmgan.methods.recolour import DRAWS, HIDDEN, Recolour
from tmgan.training.build import colour_table

WORDS = Vocabulary(("<end>", "a", "and", "bird", "red", "blue", "green", "white", "black"))
CPU = torch.device("cpu")
SIZE = 16
TABLE = colour_table(WORDS, CPU)


def colour(name: str) -> torch.Tensor:
    return torch.tensor(COLOUR_WORDS[name]).view(3, 1, 1) / 127.5 - 1


def halves(left: str, right: str) -> torch.Tensor:
    """(3, S, S) on a grey background, an object of two halves in the middle."""
    picture = torch.zeros(3, SIZE, SIZE)
    picture[:, 4:12, 2:8], picture[:, 4:12, 8:14] = colour(left), colour(right)
    return picture


def objects(rows: int) -> torch.Tensor:
    mask = torch.zeros(rows, 1, SIZE, SIZE)
    mask[:, :, 4:12, 2:14] = 1.0
    return mask


def tokens(*texts: str) -> torch.Tensor:
    rows = [WORDS.encode(text)[0] for text in texts]
    return torch.tensor([row + [0] * (6 - len(row)) for row in rows])


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, masks, tokens and draws of three birds. The first one's caption names red only."""
    images = torch.stack([halves("red", "blue"), halves("green", "green"), halves("white", "white")])
    texts = tokens("a red bird", "a green bird", "a white bird")
    draws = torch.rand(3, DRAWS, generator=torch.Generator().manual_seed(1))
    return images, objects(3), texts, draws


EVERY = torch.ones(3, dtype=torch.bool)


def test_the_named_half_takes_colours_of_the_others_and_all_else_stays(batch):
    images, masks, texts, draws = batch
    output = Recolour(TABLE).hide(images, masks, texts, draws, EVERY)
    outside = (masks == 0).expand_as(images)
    assert torch.equal(output[outside], images[outside])
    red, blue = output[0, :, 6:10, 3:6], output[0, :, 6:10, 10:13]
    torch.testing.assert_close(blue, images[0, :, 6:10, 10:13], rtol=0, atol=1e-3)
    others = torch.stack([colour("green"), colour("white")])
    assert (red - others).abs().amax((1, 2, 3)).min() < 0.05  # one of them
    assert output.is_contiguous(memory_format=torch.channels_last) and output.abs().max() <= 1


def test_only_some_rows_change(batch):
    images, masks, texts, draws = batch
    output = Recolour(TABLE).hide(images, masks, texts, draws, torch.tensor([True, False, True]))
    assert not torch.equal(output[0], images[0]) and torch.equal(output[1], images[1])


def test_an_empty_mask_or_a_caption_without_colours_leaves_the_photo(batch):
    images, masks, _, draws = batch
    masks = masks.clone()
    masks[0] = 0.0
    texts = tokens("a red bird", "a bird", "a white bird")
    output = Recolour(TABLE).hide(images, masks, texts, draws, EVERY)
    assert torch.equal(output[:2], images[:2])


def test_recolouring_needs_nothing_but_its_arguments(batch):
    images, masks, texts, draws = batch
    recolour = Recolour(TABLE)
    once, twice = (recolour.hide(images, masks, texts, draws, EVERY) for _ in range(2))
    assert torch.equal(once, twice)


def test_captions_without_any_colour_word_are_refused():
    with pytest.raises(ValueError, match=r"No word of the captions is a colour.*--method.restore.p 0"):
        colour_table(Vocabulary(("<end>", "a", "dog")), CPU)


def swap(images, masks, *captions, draws=None, some=EVERY):
    """Recolour.swap of (caption, its swap) for each image, with colours as their names look, unless draws are given."""
    texts, others = (tokens(*each) for each in zip(*captions, strict=True))
    draws = torch.full((len(images), DRAWS), 0.5) if draws is None else draws
    return Recolour(TABLE).swap(images, masks, texts, others, draws, some)


def test_a_colour_becomes_another_in_the_photo_as_in_the_caption(batch):
    images, masks, _, _ = batch
    pairs = ("a red bird", "a green bird"), ("a green bird", "a black bird"), ("a white bird", "a white bird")
    output, true = swap(images, masks, *pairs)
    assert true.tolist() == [True, True, False]
    torch.testing.assert_close(output[0, :, 5:11, 3:7], colour("green").expand(3, 6, 4), rtol=0, atol=0.05)
    torch.testing.assert_close(output[0, :, 5:11, 9:13], colour("blue").expand(3, 6, 4), rtol=0, atol=0.05)
    torch.testing.assert_close(output[1, :, 5:11, 3:13], colour("black").expand(3, 6, 10), rtol=0, atol=0.05)
    assert torch.equal(output[2], images[2])  # nothing was to change
    outside = (masks == 0).expand_as(images)
    assert torch.equal(output[outside], images[outside])
    assert output.is_contiguous(memory_format=torch.channels_last)


def test_two_colours_change_places(batch):
    images, masks, _, _ = batch
    both = ("a red and blue bird", "a blue and red bird")
    output, true = swap(images, masks, both, ("a bird", "a bird"), ("a bird", "a bird"))
    assert true.tolist() == [True, False, False]
    torch.testing.assert_close(output[0, :, 5:11, 3:7], colour("blue").expand(3, 6, 4), rtol=0, atol=0.05)
    torch.testing.assert_close(output[0, :, 5:11, 9:13], colour("red").expand(3, 6, 4), rtol=0, atol=0.05)


def test_two_colours_change_places_where_one_is_named_first_and_last(batch):
    images, masks, _, _ = batch
    ends = ("a red and blue red bird", "a blue and red blue bird")
    output, true = swap(images, masks, ends, ("a bird", "a bird"), ("a bird", "a bird"))
    assert true[0]
    torch.testing.assert_close(output[0, :, 5:11, 3:7], colour("blue").expand(3, 6, 4), rtol=0, atol=0.05)
    torch.testing.assert_close(output[0, :, 5:11, 9:13], colour("red").expand(3, 6, 4), rtol=0, atol=0.05)


def test_colours_that_may_be_said_of_the_same_move_once():
    words = Vocabulary(("<end>", "brown", "tan", "gray", "bird"))
    recolour = Recolour(colour_table(words, CPU))
    images = torch.stack([colour("brown").expand(3, SIZE, SIZE), colour("gray").expand(3, SIZE, SIZE)])
    draws, masks = torch.full((2, DRAWS), 0.5), torch.ones(2, 1, SIZE, SIZE)
    for caption in ([1, 4], [1, 2], [2, 1]):
        texts = torch.tensor([caption, [4, 0]])
        hidden = recolour.hide(images, masks, texts, draws, torch.tensor([True, True]))
        torch.testing.assert_close(hidden[0], images[1], rtol=0, atol=0.05)


def test_of_many_named_colours_the_draws_choose():
    names = ("red", "blue", "green", "white", "black", "yellow")
    words = Vocabulary(("<end>", *names, "pink"))
    images = torch.stack([torch.cat([colour(name).expand(3, SIZE, 2) for name in names], 2), torch.zeros(3, SIZE, 12)])
    images[1] = colour("pink")
    texts, masks = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 0, 0, 0, 0, 0]]), torch.ones(2, 1, SIZE, 12)
    stay = set()
    for draw in torch.arange(0.05, 1, 0.1):
        draws = torch.full((2, DRAWS), float(draw))
        hidden = Recolour(colour_table(words, CPU)).hide(images, masks, texts, draws, torch.tensor([True, False]))
        same = (hidden - images)[0, :, 8].abs().amax(0)[::2] < 0.05
        assert same.sum() == len(names) - HIDDEN
        stay |= {name for name, kept in zip(names, same.tolist(), strict=True) if kept}
    assert stay == set(names)


def test_a_colour_that_is_named_twice_is_swapped_once(batch):
    images, masks, _, _ = batch
    once = swap(images, masks, ("a red bird", "a white bird"), ("a bird", "a bird"), ("a bird", "a bird"))
    twice = swap(images, masks, ("a red red bird", "a white white bird"), ("a bird", "a bird"), ("a bird", "a bird"))
    torch.testing.assert_close(once[0], twice[0])


@pytest.mark.parametrize(
    ("caption", "other", "why"),
    [
        ("a black bird", "a white bird", "the object has no black"),
        ("a red red bird", "a white red bird", "one of two stays"),
        ("a bird", "a red bird", "there was no colour"),
    ],
)
def test_a_photo_that_cannot_be_made_true_stays_as_it_is(batch, caption, other, why):
    images, masks, _, _ = batch
    output, true = swap(images, masks, (caption, other), ("a bird", "a bird"), ("a bird", "a bird"))
    assert not true.any() and torch.equal(output, images), why


def test_the_shade_of_a_swap_comes_from_the_plan_and_texture_stays(batch):
    images, masks, _, draws = batch
    textured = images.clone()
    textured[0, :, 5:11:2, 2:8] += 0.1
    pairs = (("a red bird", "a green bird"), ("a bird", "a bird"), ("a bird", "a bird"))
    plain, _ = swap(images, masks, *pairs, draws=draws)
    shaded, _ = swap(textured, masks, *pairs, draws=draws)
    assert (plain[0, :, 6, 4] - colour("green")[:, 0, 0]).abs().max() > 0.01
    stripes = shaded[0, :, 5, 4] - shaded[0, :, 6, 4]
    torch.testing.assert_close(stripes, torch.full((3,), 0.1), rtol=0, atol=0.04)


@pytest.mark.parametrize("keep_mask", ["none", "histogram"])
def test_restoring_needs_masks_that_are_known_beforehand(keep_mask):
    with pytest.raises(ValueError, match=r"method.restore.p recolours the object, and needs its mask: give"):
        MethodConfig(restore=RestoreConfig(p=0.5), keep_mask=keep_mask)


def test_a_photo_is_of_one_kind_only():
    with pytest.raises(ValueError, match=r"add up to 1.1; each photo is one of these"):
        MethodConfig(mismatched_text_p=0.6, restore=RestoreConfig(p=0.5), keep_mask="dataset")


def test_a_compiler_sees_through_both():
    """One graph each, and the numbers of the definition: no host reads, no shapes that depend on values."""
    random = torch.Generator().manual_seed(3)
    images = torch.stack([halves("red", "blue"), halves("green", "white")])
    texts, others = tokens("a red bird", "a green bird"), tokens("a white bird", "a white bird")
    arguments = images, objects(2), texts, torch.rand(2, DRAWS, generator=random), torch.tensor([True, True])
    recolour = Recolour(TABLE)
    compiled = torch.compile(recolour.hide, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), recolour.hide(*arguments))
    arguments = (*arguments[:3], others, *arguments[3:])
    compiled = torch.compile(recolour.swap, fullgraph=True, backend="aot_eager")
    for mine, theirs in zip(compiled(*arguments), recolour.swap(*arguments), strict=True):
        torch.testing.assert_close(mine, theirs)
