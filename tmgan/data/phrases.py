"""What a caption's words are said of: "a short red bill" and "the bill is short" say "short" of "bill".

No tagger is needed: which words are nouns is read from the captions themselves, from what stands beside them. Commas
are lost when captions become tokens, so a noun phrase ends at its noun, not at the next word of another class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmgan.data.captions import is_function_word
from tmgan.data.colour_words import COLOUR_WORDS
from tmgan.data.vocabulary import Vocabulary

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

_BEFORE_NOUNS = frozenset("a an the this these its his her their both with of in on".split())
_JOINTS = frozenset(("and", "or"))
_COPULAS = frozenset("is are was were looks look appears appear".split())
_NOT_NOUNS_ALONE = (
    0.3  # of the times that a noun ends a phrase or goes before another word, it ends one at least so often
)
_BOUND = 0.9  # "headed" follows an adjective or a colour this often at least


class Phrases:
    """Which words of a vocabulary are nouns, and what the others are said of.

    Args:
        vocabulary: of V words.
        tokens: (M, L) ids of the captions that tell which words are nouns, 0 = padding.

    Attributes:
        counts: (V,) how often each word occurs in `tokens`; 0 for padding.
        colour: (V,) words of COLOUR_WORDS.
        content: (V,) words that may be nouns or adjectives.
        noun: (V,) nouns, and what stands for one in a compound ("headed" in "red headed").
        identity: (V,) the noun that a noun counts as: "wing" and "winged" as "wings", whichever occurs most.
    """

    def __init__(self, vocabulary: Vocabulary, tokens: Ids):
        words = vocabulary.words
        size = len(words)

        def flags(rule) -> Flags:
            return np.array([index > 0 and rule(word) for index, word in enumerate(words)])

        self.counts = np.bincount(tokens.ravel(), minlength=size)
        self.counts[0] = 0
        self.colour = flags(COLOUR_WORDS.__contains__)
        self.content = flags(lambda word: word in COLOUR_WORDS or not is_function_word(word))
        self._joint = flags(_JOINTS.__contains__)
        self._copula = flags(_COPULAS.__contains__)
        self._with = flags("with".__eq__)  # "the bird is black with white": it has both
        self._adverb = flags(
            lambda word: word in ("very", "slightly") or (word.endswith("ly") and is_function_word(word))
        )
        self.noun, bound = self._find_nouns(words, tokens, flags(_BEFORE_NOUNS.__contains__))
        self.identity = np.arange(size)
        self._identify(words, bound)

    def _find_nouns(self, words: tuple[str, ...], tokens: Ids, opener: Flags) -> tuple[Flags, Flags]:
        """(V,) nouns, and (V,) words that follow an adjective and go before another word, like "headed"."""
        size = len(words)
        rows, columns = np.nonzero(tokens)
        padded = np.pad(tokens, ((0, 0), (1, 2)))
        now, before, after = tokens[rows, columns], padded[rows, columns], padded[rows, columns + 2]

        def count(where: Flags) -> Ids:
            return np.bincount(now[where], minlength=size)

        # "a belly and a bill" ends a phrase, "a small and black bird" does not.
        ends = ~self.content[after] & ~(self._joint[after] & self.content[padded[rows, columns + 3]])
        goes_on = count(self.content[after] & ~self.colour[after])
        opens = opener[before] | self.colour[before]
        plain = self.content & ~self.colour
        noun = np.zeros(size, bool)
        adjective = np.zeros(size, bool)
        for _ in range(2):  # the second time, adjectives tell more nouns: "a hooked beak"
            alone = count(ends & (opens | adjective[before]))
            noun |= plain & (alone >= 2) & (alone >= _NOT_NOUNS_ALONE * (alone + goes_on)) & (10 * alone >= self.counts)
            modifies = count((opens | self._joint[before] | self._copula[before]) & self.content[after])
            adjective = plain & ~noun & (modifies >= 2) & (modifies >= 0.3 * self.counts)
        compound = count(self.content[before] & ~noun[before] & self.content[after])
        return noun, plain & ~noun & (compound >= 2) & (compound >= _BOUND * self.counts)

    def _identify(self, words: tuple[str, ...], bound: Flags) -> None:
        """Set `identity`, and make nouns of the `bound` words that are made of one."""
        ids = {word: index for index, word in enumerate(words) if self.noun[index]}
        for index in np.flatnonzero(self.noun | bound).tolist():
            word = words[index]
            if bound[index]:  # headed, tailed; bellied, capped; striped
                stem = word.removesuffix("ed")
                forms = [stem, f"{stem[:-1]}y" if stem.endswith("i") else stem[:-1], f"{stem}e"]
                forms = [form for each in forms for form in (each, f"{each}s")] if stem != word else []
            else:
                forms = [word.removesuffix("s")]
            known = [ids[form] for form in forms if form in ids]
            if known:
                self.identity[index] = known[0]
                self.noun[index] = True
        for index in ids.values():  # the commoner of singular and plural stands for both
            plural = ids.get(f"{words[index]}s")
            if plural is not None and self.counts[plural] > self.counts[index]:
                self.identity[self.identity == index] = plural

    def said_of(self, tokens: Ids) -> Ids:
        """The noun of which each word is said, attributively or as a predicate.

        Args:
            tokens: (R, L) ids, 0 = padding.

        Returns:
            (R, L) ids of nouns, by `identity`; 0 for nouns and function words, and where no noun is found.
        """
        nouns = np.where(self.noun[tokens], self.identity[tokens], 0)
        modifier = self.content[tokens] & (nouns == 0)
        joint = self._joint[tokens]
        passes = self._adverb[tokens] & ~self.content[tokens]
        found = np.zeros_like(tokens)
        following = np.zeros(len(tokens), tokens.dtype)
        for column in reversed(range(tokens.shape[1])):
            joins = joint[:, column] & (modifier[:, column - 1] if column else False)
            found[:, column] = np.where(modifier[:, column], following, 0)
            stays = modifier[:, column] | joins | passes[:, column]
            following = np.where(nouns[:, column] > 0, nouns[:, column], np.where(stays, following, 0))
        latest = np.zeros_like(following)
        subject = np.zeros_like(following)
        for column in range(tokens.shape[1]):
            latest = np.where(nouns[:, column] > 0, nouns[:, column], latest)
            predicate = modifier[:, column] & (found[:, column] == 0)
            found[:, column] = np.where(predicate, subject, found[:, column])
            stays = predicate | joint[:, column] | passes[:, column] | self._with[tokens[:, column]]
            subject = np.where(self._copula[tokens[:, column]], latest, np.where(stays, subject, 0))
        return found
