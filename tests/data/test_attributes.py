"""Captions with one attribute changed: what counts as an attribute, and that no variant is true or betrays itself."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tmgan.data.attributes import Attributes
from tmgan.data.colour_words import COLOUR_WORDS, are_apart
from tmgan.data.drawn.dataset import CAPTIONS_PER_IMAGE, describe
from tmgan.data.drawn.patterns import describe_patterned
from tmgan.data.pack_doctor import examine_pack
from tmgan.data.palette import PALETTE, PARTS
from tmgan.data.palette import PATTERNS as DRAWN_PATTERNS
from tmgan.data.phrases import Phrases
from tmgan.data.vocabulary import Vocabulary

SIZES = {"small": ["small", "small", "little"], "large": ["large", "large", "big"], "medium": ["medium"]}
LENGTHS = {"short": ["short"], "long": ["long"]}
SHAPES = {"pointed": ["pointed", "pointed", "pointy"], "hooked": ["hooked"], "curved": ["curved"]}
PATTERNS = {"spotted": ["spotted", "speckled"], "striped": ["striped", "streaked"], "plain": ["plain", "solid"]}


class Corpus:
    def __init__(self, captions: Sequence[str]):
        self.vocabulary = Vocabulary.from_captions(captions)
        ids = [self.vocabulary.encode(caption)[0] for caption in captions]
        self.lengths = torch.tensor([len(row) for row in ids], dtype=torch.int32)
        self.tokens = torch.zeros(len(ids), int(self.lengths.max()), dtype=torch.int64)
        for row, words in zip(self.tokens, ids, strict=True):
            row[: len(words)] = torch.tensor(words)

    @property
    def attributes(self) -> Attributes:
        return Attributes.of_corpus(self.vocabulary, self.tokens.int(), self.lengths)

    def encode(self, *captions: str) -> Tensor:
        rows = [torch.tensor(self.vocabulary.encode(caption)[0]) for caption in captions]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def text(self, row: Tensor) -> str:
        return " ".join(self.vocabulary.words[word] for word in row.tolist() if word)

    def variants(self, caption: str, count: int = 400) -> set[str]:
        """Everything that `caption` may become."""
        draws = torch.rand(1, count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        variants, differs = self.attributes.variants(self.encode(caption), draws)
        assert differs.all() == differs.any() and differs.any() == (variants != self.encode(caption)).any()
        return {self.text(row) for row in variants[0]}


def drawn_captions(count: int) -> list[str]:
    choose = random.Random(0)
    birds = [{part: choose.choice(list(PALETTE)) for part in PARTS} for _ in range(count)]
    return [describe(colours, variant) for colours in birds for variant in range(CAPTIONS_PER_IMAGE)]


def patterned_captions(count: int) -> list[str]:
    choose = random.Random(0)
    birds = [[{part: choose.choice(list(names)) for part in PARTS} for names in (PALETTE, DRAWN_PATTERNS)]
             for _ in range(count)]  # fmt: skip
    return [describe_patterned(*bird, variant) for bird in birds for variant in range(CAPTIONS_PER_IMAGE)]


def test_patterns_of_drawn_birds_are_found():
    kinds = [set(kind.words) for kind in Corpus(patterned_captions(500)).attributes.kinds]
    assert kinds == [set(PALETTE), set(DRAWN_PATTERNS)]


def bird_captions(count: int, seed: int = 0, each: int = 10) -> list[str]:
    """As people write them: synonyms, one word in eight wrong, and no commas that a tokenizer keeps."""
    choose = random.Random(seed)

    def say(words: dict[str, list[str]], truth: str) -> str:
        return choose.choice(words[truth if choose.random() < 0.88 else choose.choice(list(words))])

    captions = []
    for _ in range(count):
        size, length, shape, pattern = (choose.choice(list(kind)) for kind in (SIZES, LENGTHS, SHAPES, PATTERNS))
        head, belly, wings = (choose.choice(["black", "white", "brown", "gray", "grey", "yellow"]) for _ in range(3))
        for _ in range(each):
            big, plain = say(SIZES, size), say(PATTERNS, pattern)
            bill = f"{say(LENGTHS, length)}, {say(SHAPES, shape)}"
            bill = choose.choice([bill, bill.split(", ")[0], bill.split(", ")[1]])
            bill = f"{bill} {choose.choice(['bill', 'beak'])}"
            templates = (
                f"This {big} bird has a {bill}, a {plain} {belly} breast and {wings} wings.",
                f"a {big} {head} bird with a {belly} belly and a {bill}",
                f"this bird has wings that are {plain} and has a very {bill}",
                f"the bird is {head} with {belly}, its breast is {plain}, its {bill} is {head}",
                f"a {head} headed bird with {plain} {wings} wings, {belly} belly, {bill}",
                f"the {big} bird has {wings} and {head} wings and a {bill}",
            )
            captions.append(choose.choice(templates))
    return captions


def flower_captions(count: int) -> list[str]:
    choose = random.Random(0)
    captions = []
    for _ in range(count):
        petals, stamen = choose.sample(["pink", "purple", "yellow", "white", "red"], 2)
        tips, edge = choose.choice([["pointed"], ["rounded", "round"]]), choose.choice([["smooth"], ["ruffled"]])
        for _ in range(10):
            tip, rim = choose.choice(tips), choose.choice(edge)
            templates = (
                f"this flower has petals that are {petals} with {tip} tips",
                f"the petals on this flower are {petals} and {tip}, and it has {stamen} stamen",
                f"a {petals} flower with {rim} {tip} petals and a {stamen} center",
                f"the petals are {rim} and {petals}, the stamen are {stamen}",
                f"this flower has {rim} petals with {tip} edges around its stamen",
            )
            captions.append(choose.choice(templates))
    return captions


@pytest.fixture(scope="module")
def drawn() -> Corpus:
    return Corpus(drawn_captions(60))


@pytest.fixture(scope="module")
def people() -> Corpus:
    return Corpus(bird_captions(600))


def words_of(corpus: Corpus) -> set[frozenset[str]]:
    return {frozenset(kind.words) for kind in corpus.attributes.kinds if kind.name != "colour"}


def every(kind: dict[str, list[str]]) -> frozenset[str]:
    return frozenset(word for words in kind.values() for word in words)


def test_drawn_birds_have_colours_only(drawn):
    (kind,) = drawn.attributes.kinds
    assert kind.name == "colour" and set(kind.words) == set(PALETTE)


@pytest.mark.parametrize("seed", range(3))
def test_kinds_of_real_captions_are_found(seed):
    corpus = Corpus(bird_captions(600, seed))
    assert words_of(corpus) == {every(SIZES), every(LENGTHS), every(SHAPES), every(PATTERNS)}
    names = {kind.name.replace("wings and breast", "breast and wings"): kind.words for kind in corpus.attributes.kinds}
    assert set(names["of bird"]) == every(SIZES) and set(names["of breast and wings"]) == every(PATTERNS)
    ids = torch.tensor([[corpus.vocabulary.words.index(word) for word in names["of bird"]]])
    counts = (corpus.tokens[..., None] == ids).sum((0, 1)).tolist()
    assert counts == sorted(counts, reverse=True)


def test_kinds_of_flowers_are_found():
    corpus = Corpus(flower_captions(200))
    assert words_of(corpus) == {frozenset(("pointed", "rounded", "round")), frozenset(("smooth", "ruffled"))}
    assert "this flower has petals that are pink with rounded tips" in corpus.variants(
        "this flower has petals that are pink with pointed tips"
    )


def test_without_other_captions_of_a_photo_nothing_is_claimed():
    """Nothing then tells an opposite from a synonym."""
    captions = bird_captions(600)
    random.Random(0).shuffle(captions)
    for texts in (captions, bird_captions(2000, each=1)):
        assert [kind.name for kind in Corpus(texts).attributes.kinds] == ["colour"]


def test_what_is_not_said_together_need_not_be_of_one_kind():
    """That petals are dull says nothing of stripes, though no caption says both."""
    choose = random.Random(0)
    captions = []
    for _ in range(400):
        pair = choose.choice(["shiny", "dull"]), choose.choice(["striped", "spotted", "plain"])
        captions += [f"a flower with {choose.choice(pair)} {choose.choice(['petals', 'leaves'])}" for _ in range(10)]
    assert words_of(Corpus(captions)) == {frozenset(("shiny", "dull")), frozenset(("striped", "spotted", "plain"))}


def test_a_kind_has_no_two_words_that_are_said_together():
    """No bill is dark and thick here, nor short and thick, but short ones are dark."""
    choose = random.Random(0)
    species = [choose.choice(["dark short", "pale short", "thick", "long"]) for _ in range(60)]
    captions = [f"a bird with a {bill} {choose.choice(['bill', 'beak'])}" for bill in species for _ in range(10)]
    assert words_of(Corpus(captions)) == {frozenset(("short", "thick", "long")), frozenset(("dark", "pale"))}


def test_words_that_neighbouring_captions_never_repeat_tell_nothing():
    """The first caption of a photo says "large" or "small", the sixth "big" or "little": always of the same photos."""
    choose = random.Random(0)
    captions = []
    for _ in range(400):
        large, age = choose.random() < 0.5, choose.choice(["young", "old"])
        first, sixth = ("large", "big") if large else ("small", "little")
        others = [f"a {age} bird is on a branch"] * 4
        captions += [f"a {first} bird", *others, f"this is a {sixth} bird", *others]
    assert words_of(Corpus(captions)) == {frozenset(("young", "old"))}


@pytest.mark.parametrize("kind", [SIZES, LENGTHS, SHAPES, PATTERNS])
def test_synonyms_do_not_replace_each_other(people, kind):
    noun = {"small": "bird", "short": "bill", "pointed": "bill", "spotted": "breast"}[next(iter(kind))]
    for words in kind.values():
        for word in words:
            become = {text.split()[1] for text in people.variants(f"a {word} {noun}")}
            assert become == every(kind) - set(words)


def test_words_stay_with_the_nouns_they_are_said_of():
    """No caption has a short tail: only a variant would, which tells it without a look at the photo."""
    corpus = Corpus([*bird_captions(600), *["a long tail"] * 3])
    assert corpus.variants("a long tail") == {"a long tail"}
    assert corpus.variants("a long bill") == {"a short bill"}


def test_colours_that_may_be_said_of_one_thing_are_not_apart():
    for words in (
        "gray grey silver",
        "gold golden yellow",
        "red reddish rufous",
        "tan beige buff brown",
        "violet purple",
    ):
        one, *others = words.split()
        assert not any(are_apart(one, other) or are_apart(other, one) for other in others)
    assert all(are_apart(one, other) for one in PALETTE for other in PALETTE if one != other)
    for word, rgb in COLOUR_WORDS.items():
        assert not are_apart(word, word) and all(0 <= level <= 255 for level in rgb)


def test_every_colour_is_apart_from_those_of_other_colours():
    """The table's words and what they look like agree."""
    for one, other in ((a, b) for a in COLOUR_WORDS for b in COLOUR_WORDS if "iridescent" not in (a, b)):
        distance = np.linalg.norm(np.subtract(COLOUR_WORDS[one], COLOUR_WORDS[other]))
        assert are_apart(one, other) or distance < 280
        assert not are_apart(one, other) or distance > 25, (one, other)


def test_exchange_and_replacement(drawn):
    become = drawn.variants("this bird has a red head and white wings")
    assert "this bird has a white head and red wings" in become
    assert "this bird has a purple head and white wings" in become
    colours = [(text.split()[4], text.split()[7]) for text in become]
    assert all(head != "red" or wings != "white" for head, wings in colours) and len(colours) == 7 + 7 + 1


def test_draws_say_what_is_changed(drawn):
    tokens = drawn.encode("this bird has a red head and white wings")

    def change(*draws: float) -> str:
        variants, differs = drawn.attributes.variants(tokens, torch.tensor(draws, dtype=torch.float64)[None, None])
        assert differs.all()
        return drawn.text(variants[0, 0])

    assert change(0.0, 0.9, 0.9, 0.49) == change(0.99, 0.1, 0.1, 0.0) == "this bird has a white head and red wings"
    assert change(0.49, 0.0, 0.0, 0.5).endswith("head and white wings")
    assert change(0.5, 0.0, 0.0, 0.99).startswith("this bird has a red head and ")
    assert change(0.0, 0.0, 0.0, 0.5) != change(0.0, 0.9999, 0.0, 0.5)


def test_articles_follow(drawn):
    assert "a bird with an orange body" in drawn.variants("a bird with a red body")
    assert "a bird with a red body" in drawn.variants("a bird with an orange body")
    exchanged = drawn.variants("this bird has an orange head and a red belly")
    assert "this bird has a red head and an orange belly" in exchanged
    for text in exchanged | drawn.variants("this bird has a white head and an orange belly"):
        assert "a orange" not in text and text.count("an ") == text.count("an orange")


def test_articles_as_the_captions_have_them():
    """Where they say "a orange", "an orange" would tell a variant from a caption."""
    corpus = Corpus([text.replace("an orange", "a orange") for text in drawn_captions(20)] + ["an owl"])
    assert "a bird with a orange body" in corpus.variants("a bird with a red body")


def test_no_exchange_within_one_thing(people):
    """Black and white wings are white and black, too, and a white part of a white and gray thing is white."""
    for caption, noun in (
        ("a bird with black and white wings", "wings"),
        ("the bird has wings that are black and white", "wings"),
        ("the bird is black with white and has a bill", "bird"),
    ):
        for text in people.variants(caption):
            words = [word for word in text.split() if word in COLOUR_WORDS]
            assert len(words) == 2 and set(words) != {"black", "white"}, f"{noun}: {text}"
            assert are_apart(*words)
    for text in people.variants("a bird with black and white wings and a white belly"):
        assert "black and black" not in text and "white and white" not in text


def test_what_words_are_said_of(people):
    phrases = Phrases(people.vocabulary, people.tokens.numpy())
    caption = (
        "a small black bird has a black and white belly and wings that are very spotted and gray its beak is pointed"
    )
    tokens = people.encode(caption)
    said_of = [people.vocabulary.words[noun] for noun in phrases.said_of(tokens.numpy())[0]]
    found = [pair for pair in zip(caption.split(), said_of, strict=True) if pair[1] != "<end>"]
    belly, wings = [("black", "belly"), ("white", "belly")], [("spotted", "wings"), ("gray", "wings")]
    assert found == [("small", "bird"), ("black", "bird"), *belly, *wings, ("pointed", "beak")]


def test_red_headed_says_it_of_the_head():
    captions = ["a red headed bird with black wings", "a head that is red", "its wing is white", "its wings are red"]
    corpus = Corpus(captions * 3)
    said_of = Phrases(corpus.vocabulary, corpus.tokens.numpy()).said_of(corpus.tokens[:4].numpy())
    names = [[corpus.vocabulary.words[noun] for noun in row if noun] for row in said_of]
    assert names == [["head", "wings"], ["head"], ["wings"], ["wings"]]


def test_rare_words_are_not_used():
    captions = drawn_captions(60)
    rare = "a bird with a teal head"
    for times, there in ((4, False), (5, True)):
        (colours,) = Corpus(captions + [rare] * times).attributes.kinds
        assert ("teal" in colours.words) == there


def test_a_caption_without_attributes_stays(drawn):
    tokens = drawn.encode("this bird has wings", "a bird with a red head")
    tokens[0, 4:] = 0
    variants, differs = drawn.attributes.variants(tokens, torch.rand(2, 5, 4, dtype=torch.float64))
    assert differs.tolist() == [[False] * 5, [True] * 5]
    assert torch.equal(variants[0], tokens[:1].expand(5, -1)) and (variants[1] != tokens[1]).any(1).all()


@pytest.mark.parametrize(
    "captions", [["a bird"], [""] * 3, ["a red bird"] * 9, ["a spotted bird", "the bird is plain"] * 9]
)
def test_nothing_to_find(captions):
    corpus = Corpus(captions)
    assert corpus.attributes.kinds == ()
    variants, differs = corpus.attributes.variants(corpus.tokens, torch.rand(len(captions), 2, 4, dtype=torch.float64))
    assert not differs.any() and torch.equal(variants[:, 1], corpus.tokens)


def test_every_variant_contradicts_its_caption(people):
    """Something is said of a noun that the caption does not say of it, the rest stays, and the draws decide alone."""
    attributes = people.attributes
    draws = torch.rand(len(people.tokens), 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    variants, differs = attributes.variants(people.tokens, draws)
    changed = (variants != people.tokens[:, None]).sum(2)
    assert torch.equal(changed > 0, differs) and changed.max() <= 2 and (changed == 2).any() and (changed == 1).any()
    again, _ = people.attributes.variants(people.tokens[5000:], draws[5000:])
    assert torch.equal(variants[5000:], again)
    said_of = Phrases(people.vocabulary, people.tokens.numpy()).said_of
    before, after = said_of(people.tokens.numpy()), said_of(variants[:, 0].numpy())

    def claims(words: Tensor, nouns: np.ndarray) -> set[tuple[int, int]]:
        return set(zip(words.tolist(), nouns.tolist(), strict=True))

    for row in range(0, len(before), 7):
        if differs[row, 0]:
            assert claims(variants[row, 0], after[row]) - claims(people.tokens[row], before[row])


def test_a_large_set_takes_seconds(people):
    """CUB's captions in 5 s, 800,000 variants in 10 s: here in processor time, with room for a slow machine."""
    start = time.process_time()
    attributes = Attributes.of_corpus(people.vocabulary, people.tokens.repeat(20, 1), people.lengths.repeat(20))
    middle = time.process_time()
    attributes.variants(people.tokens.repeat(2, 1), torch.rand(2 * len(people.tokens), 8, 4, dtype=torch.float64))
    assert middle - start < 5 and time.process_time() - middle < 4


def test_the_doctor_shows_them(pack):
    found = [finding for finding in examine_pack(pack.path) if finding.text.startswith("attributes: ")]
    (colours,) = found
    assert colours.level == "ok" and colours.text.startswith("attributes: colour (")
    shown = dict(pair.split() for pair in colours.text.split("(")[1].rstrip(")").split(", "))
    assert set(shown) == set(PALETTE) and list(shown.values()) == sorted(shown.values(), key=int, reverse=True)
    captions = [pack.caption(row) for image in pack.train for row in range(pack.first[image], pack.first[image + 1])]
    assert int(shown["red"]) == sum(caption.split().count("red") for caption in captions)


def test_the_doctor_says_when_there_are_none(pack, monkeypatch):
    grey = dataclasses.replace(pack, tokens=torch.ones_like(pack.tokens))
    monkeypatch.setattr("tmgan.data.pack_doctor.Pack.open", lambda path: grey)
    (finding,) = (finding for finding in examine_pack(pack.path) if finding.text.startswith("attributes: "))
    assert (
        finding.level == "warning" and "do not name two colours" in finding.text and "hard negatives" in finding.remedy
    )


def test_a_colour_swap_is_everywhere_or_an_exchange_and_keeps_all_other_words():
    captions = ["a red bird with red wings and a white belly", "a bird with an orange head", "this is a bird"] * 6
    vocabulary = Vocabulary.from_captions([*captions, "a blue bird", "a black bird", "a green bird", "a gray bird"] * 6)
    rows = [vocabulary.encode(text)[0] for text in captions]
    tokens = torch.zeros(len(rows), 12, dtype=torch.int64)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = torch.tensor(row)
    more = [vocabulary.encode(text)[0] for text in ["a blue bird", "a black bird", "a green bird", "a gray bird"] * 6]
    corpus = torch.cat([tokens, torch.tensor([row + [0] * (12 - len(row)) for row in more])])
    attributes = Attributes.of_corpus(vocabulary, corpus, (corpus > 0).sum(1))
    draws = torch.rand(len(rows), 16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    variants, differs = attributes.colour_swaps(tokens, draws)
    words = [[[vocabulary.words[i] for i in row if i] for row in each] for each in variants.tolist()]
    seen = set()
    for row, text in enumerate(captions):
        if text == "this is a bird":
            assert not differs[row].any() and (variants[row] == tokens[row]).all()
            continue
        assert differs[row].all()
        for changed in words[row]:
            if "red" in text:
                first, second, third = changed[1], changed[4], changed[8]
                assert first == second != third and (first, third) != ("red", "white")
                seen.add("exchange" if (first, third) == ("white", "red") else "replace")
                assert changed[2:4] == ["bird", "with"] and changed[9] == "belly"
            else:
                assert changed[4] != "orange" and changed[3] == "a"  # no longer "an"
    assert seen == {"exchange", "replace"}
