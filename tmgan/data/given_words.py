"""Captions in the words of trained encoders, so that published ones fit a set of one's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from tmgan.data.captions import tokenize
from tmgan.data.sources.source import Source
from tmgan.data.vocabulary import Vocabulary

_EXAMPLES = 5


@dataclass(frozen=True)
class GivenWords:
    """A vocabulary that a pack takes in place of its own captions' words.

    Attributes:
        vocabulary: its ids are the rows of a text encoder.
        origin: the run or captions.pickle that it is from, as messages and commands name it.
    """

    vocabulary: Vocabulary
    origin: Path


def in_words(source: Source, given: GivenWords) -> Source:
    """The source with the given words' ids. What is not among them is left out of the captions, and counted in a note.

    A caption without a known word is left out; an image without any left cannot be used.

    Raises:
        ValueError: no caption has a known word.
    """
    known = given.vocabulary
    unknown: Counter[str] = Counter()
    items, token_ids, total, lost = [], [], 0, 0
    for item in source.items:
        ids, captions = [], []
        for caption in item.captions:
            words, missing = known.encode(caption)
            if missing:
                unknown.update(word for word in tokenize(caption) if word in missing)
            total += len(words)
            if words:
                ids.append(tuple(words))
                captions.append(caption)
        lost += len(item.captions) - len(captions)
        problem = "" if captions or not item.captions else f"no caption has a word that {given.origin} knows"
        items.append(replace(item, captions=tuple(captions), problem=item.problem or problem))
        token_ids.append(tuple(ids))
    if source.items and not total:
        raise ValueError(
            f"{source.path}: no caption has a word that {given.origin} knows (it has {len(known)}), which is for other "
            "captions. Without --vocabulary the captions' own words are taken"
        )
    notes = list(source.notes)
    if unknown:
        shown = ", ".join(f"{word!r} ({count})" for word, count in unknown.most_common(_EXAMPLES))
        notes.append(
            f"words that {given.origin} does not know, left out of the captions: {unknown.total()} of "
            f"{total + unknown.total()}, {len(unknown)} different ones, most often {shown}"
        )
    if lost:
        notes.append(f"captions without a word that {given.origin} knows, left out: {lost}")
    return replace(
        source,
        items=tuple(items),
        vocabulary=known.words,
        token_ids=tuple(token_ids),
        vocabulary_from=str(given.origin.resolve()),
        notes=tuple(notes),
    )
