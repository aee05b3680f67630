"""From a caption to words, and from words to noun-or-adjective labels.

Tokens follow AttnGAN's `load_captions`, whose ids published text encoders use. Labels are made from those tokens one
by one, never from a second tokenizer (the published code re-joins and re-splits the caption, so its labels can shift).
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from pathlib import Path

_WORD = re.compile(r"\w+")


def tokenize(text: str) -> list[str]:
    """Lower-case words of `text`: runs of letters, digits and _, of which only the ASCII characters are kept.

    As published: other characters are dropped from a word ("café" -> "caf"), and a pair of U+FFFD is a space.
    """
    words = _WORD.findall(text.replace("\ufffd\ufffd", " ").lower())
    if not text.isascii():
        words = [word.encode("ascii", "ignore").decode("ascii") for word in words]
    return [word for word in words if word]


def read_lines(path: Path) -> tuple[list[str], int]:
    """Captions of a text file (one per line) with at least one word, and how many other lines were dropped.

    The empty piece after the last line feed is not counted. Bytes that are not UTF-8 become U+FFFD: they split words.
    """
    lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    if not lines[-1].strip():
        lines.pop()
    captions = [line.strip() for line in lines if tokenize(line)]
    return captions, len(lines) - len(captions)


def word_labels(tokens: Sequence[str]) -> list[bool]:
    """True for each noun or adjective among `tokens` (the label of the published word-level discriminator).

    TextBlob tags them when the extra `pos` is installed, otherwise a small lexicon does: `label_backend` says which.
    """
    return _labeller()[1](tokens)


def label_backend() -> str:
    """What `word_labels` uses: "textblob 0.20.1" or "lexicon"."""
    return _labeller()[0]


@functools.cache
def _labeller() -> tuple[str, Callable[[Sequence[str]], list[bool]]]:
    try:
        from textblob.en import parser
    except ImportError:
        return "lexicon", _lexicon_labels

    def labels(tokens: Sequence[str]) -> list[bool]:
        tags = parser.find_tags(list(tokens))
        return [word in _NOUNS_TAGGERS_MISS or tag[:2] in ("NN", "JJ") for word, tag in tags]

    return f"textblob {importlib.metadata.version('textblob')}", labels


# Words of bird captions that general taggers mistake for verbs or adverbs.
_NOUNS_TAGGERS_MISS = frozenset(
    """
    back bellied billed breasted colored coloured crested eyebrow eyering feathered headed hooked nape pointed
    rounded sized speckled spotted spread streaked striped superciliary tailed throated tinted tipped webbed wingbar
    wingbars winged
    """.split()
)

# Closed-class words and the verbs and adverbs that captions use. Everything else counts as a noun or an adjective:
# in captions that is the better guess, since the open classes there are mostly nouns, colours and sizes.
_OTHER_WORDS = frozenset(
    """
    a about above across after again against all along also although an and any are around as at be because
    been before behind being below beneath beside between both but by can could cover covering covers did do
    does down during each eat eating either else even every everything find fly flying for from get going had
    has have having he hence her here him his how however i if in inside into is it its itself just like look
    looking looks made make makes may me more most mostly much my near nearly neither no nor not of off on
    once one only onto or other our out outside over perch perched perches perching rather really run running
    s see seem seems seen shall she should show showing shows sit sits sitting slightly so some somewhat stand
    standing stands such swim swimming t than that the their them then there these they this those though
    three through to too toward towards two under underneath until up upon very walk walking was we were what
    when where which while who whose why will with within without would you your
    """.split()
)


def _lexicon_labels(tokens: Sequence[str]) -> list[bool]:
    def is_other(word: str) -> bool:
        return word in _OTHER_WORDS or word.isdigit() or (word.endswith("ly") and not word.endswith("belly"))

    return [word in _NOUNS_TAGGERS_MISS or not is_other(word) for word in tokens]
