"""Kinds of attributes: words of which one is false where another is true. Colours by a table, others from captions.

Two words are alternatives if they are said of the same nouns, never of one thing at once ("short" and "pointed" are),
and captions of the same photo that say one hardly ever say the other. The last tells "small" from "little", which
are said of the same nouns and never together too: captions of a photo stand beside one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmgan.data.colour_words import are_apart
from tmgan.data.phrases import Flags, Ids, Phrases
from tmgan.data.vocabulary import Vocabulary

_NEIGHBOURS = 2  # captions before and after one that are likely to be of its photo, where it has five of them or more
_LIKE = 0.5  # Bhattacharyya coefficient of the nouns that two alternatives are said of
_TOGETHER = 0.02  # of the rarer word's occurrences, those said of a thing together with the other
_SELDOM = 0.7  # of what chance gives: how often neighbouring captions say one and the other of a noun
_AGAIN = 1.2  # of what chance gives: how often they repeat a word; if they don't, they tell nothing

Floats = NDArray[np.float64]


COLOUR = "colour"


@dataclass(frozen=True)
class Kind:
    """Attributes of one kind.

    Attributes:
        name: COLOUR, or what the words are said of most: "of bill".
        words: the most frequent first.
    """

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class FoundKind:
    """A kind of n words, for a vocabulary of V.

    Attributes:
        ids: (n,) of the words.
        apart: (n, n) pairs of which one is false where the other is true.
        usual: (V, n) whether a word may be said of a noun; all colours may.
    """

    kind: Kind
    ids: Ids
    apart: Flags
    usual: Flags


def find_kinds(vocabulary: Vocabulary, tokens: Ids, phrases: Phrases) -> list[FoundKind]:
    """All kinds in captions, colours first. Deterministic.

    Args:
        tokens: (M, L) ids, 0 = padding; captions of a photo one after another.
        phrases: made of the same captions.
    """
    often = phrases.counts >= max(5, len(tokens) / 10_000)
    found = []
    colours = _by_count(np.flatnonzero(phrases.colour & often), phrases)
    words = [vocabulary.words[index] for index in colours]
    apart = np.array([[are_apart(one, other) for other in words] for one in words], bool).reshape(
        len(words), len(words)
    )
    if apart.any():
        found.append(
            FoundKind(Kind(COLOUR, tuple(words)), colours, apart, np.ones((len(vocabulary), len(words)), bool))
        )
    return found + _kinds_of_captions(vocabulary, tokens, phrases, often)


def _by_count(ids: Ids, phrases: Phrases) -> Ids:
    return ids[np.lexsort((ids, -phrases.counts[ids]))]


def _kinds_of_captions(vocabulary: Vocabulary, tokens: Ids, phrases: Phrases, often: Flags) -> list[FoundKind]:
    candidates = _by_count(np.flatnonzero(often & phrases.content & ~phrases.noun & ~phrases.colour), phrases)
    order = np.full(len(vocabulary), -1)
    order[candidates] = np.arange(len(candidates))
    said_of = phrases.said_of(tokens)
    rows, columns = np.nonzero((order[tokens] >= 0) & (said_of > 0))
    if not len(rows):
        return []
    nouns, noun = np.unique(said_of[rows, columns], return_inverse=True)
    # One saying a caption, noun and word; by noun and caption, so that neighbours are near each other.
    sayings = np.unique(np.stack([noun, rows, order[tokens[rows, columns]]], 1), axis=0)
    counts = np.zeros((len(nouns), len(candidates)))
    np.add.at(counts, (sayings[:, 0], sayings[:, 2]), 1)
    deficit, may_share = _alternatives(counts, sayings)
    found = []
    for group in _groups(deficit, may_share):
        top = np.argsort(-counts[:, group].sum(1), kind="stable")[:2]
        share = counts[:, group].sum(1)[top] / counts[:, group].sum()
        named = [vocabulary.words[nouns[index]] for index, part in zip(top, share, strict=True) if part >= 0.2]
        words = tuple(vocabulary.words[candidates[index]] for index in group)
        name = f"of {' and '.join(named)}" if named else f"of {vocabulary.words[nouns[top[0]]]}"
        usual = np.zeros((len(vocabulary), len(group)), bool)
        usual[nouns] = counts[:, group] > 0
        usual[0] = True  # where the noun is not known
        found.append(FoundKind(Kind(name, words), candidates[group], deficit[np.ix_(group, group)] > 0, usual))
    return found


def _alternatives(counts: Floats, sayings: Ids) -> tuple[Floats, Flags]:
    """`deficit` and `may_share` of `_groups`, from counts (nouns, words) and sayings (n, 3) of noun, caption, word."""
    total = counts.sum(0)
    shares = np.sqrt(counts / total.clip(min=1))
    together, neighbours, by_chance = _pairs(counts.shape, sayings)
    may_share = (shares.T @ shares >= _LIKE) & (together <= _TOGETHER * np.minimum(total[:, None], total))
    seldom = neighbours + 2 * np.sqrt(neighbours + 1) <= _SELDOM * by_chance  # two standard deviations more would do
    again = neighbours.diagonal() >= _AGAIN * by_chance.diagonal()
    deficit = (by_chance - neighbours) / np.sqrt(by_chance.clip(min=1))
    return deficit * (may_share & seldom & again[:, None] & again), may_share


def _pairs(shape: tuple[int, ...], sayings: Ids) -> tuple[Floats, Floats, Floats]:
    """Pairs of words said of a noun: by one caption, by neighbouring ones, and by neighbours if there were only chance.

    Each (words, words), symmetric.
    """
    words = shape[1]
    together = np.zeros((words, words))
    neighbours = np.zeros((words, words))
    one, other = np.zeros(shape), np.zeros(shape)
    for step in range(1, len(sayings)):
        first, second = sayings[:-step], sayings[step:]
        distance = second[:, 1] - first[:, 1]
        near = (first[:, 0] == second[:, 0]) & (distance <= _NEIGHBOURS)
        if not near.any():
            break
        for target, where in ((together, near & (distance == 0)), (neighbours, near & (distance > 0))):
            pairs = first[where, 2] * words + second[where, 2]
            target += np.bincount(pairs, minlength=words * words).reshape(words, words)
        where = near & (distance > 0)
        for side, of in ((one, first), (other, second)):
            side += np.bincount(of[where, 0] * words + of[where, 2], minlength=side.size).reshape(shape)
    by_chance = (one / one.sum(1, keepdims=True).clip(min=1)).T @ other
    return together + together.T, neighbours + neighbours.T, by_chance + by_chance.T


def _groups(deficit: Floats, may_share: Flags) -> list[Ids]:
    """Clusters of two words or more, the surest alternatives first, in which all pairs may share a kind.

    Without that, "dark" and "short" would meet by "thick", of which neither is said, though bills are dark and short.

    Args:
        deficit: (words, words) how sure it is that they are alternatives, 0 where it is not.
        may_share: (words, words).
    """
    groups = {index: [index] for index in range(len(deficit))}
    label = np.arange(len(deficit))
    one, other = np.nonzero(np.triu(deficit) > 0)
    for index in np.lexsort((other, one, -deficit[one, other])):
        first, second = sorted((label[one[index]], label[other[index]]))
        if first != second and may_share[np.ix_(groups[first], groups[second])].all():
            groups[first] += groups.pop(second)
            label[groups[first]] = first
    return [np.sort(group) for group in groups.values() if len(group) > 1]
