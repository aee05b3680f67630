"""From a caption to words, and from words to noun-or-adjective labels.

Tokens follow AttnGAN's `load_captions`, whose ids published text encoders use. Labels are made from those tokens one
by one, never from a second tokenizer (the published code re-joins and re-splits the caption, so its labels can shift).
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import unicodedata
from collections.abc import Callable, Sequence

_WORD = re.compile(r"\w+")
_RUN = re.compile(r"[\w\x80-\U0010ffff]+")  # of what may be words: no ASCII character but letters, digits and _
_PAIR = "\ufffd\ufffd"  # what is left of a character that was lost before the captions were published


def tokenize(text: str) -> list[str]:
    """Lower-case words of `text`: runs of letters, digits and _, of which only the ASCII characters are kept.

    As published: other characters are dropped from a word ("café" -> "caf"), and a pair of U+FFFD is a space.
    """
    words = _WORD.findall(text.replace(_PAIR, " ").lower())
    if not text.isascii():
        words = [word.encode("ascii", "ignore").decode("ascii") for word in words]
    return [word for word in words if word]


def lost_letters(text: str) -> list[tuple[str, str]]:
    """The words of `text` that `tokenize` takes letters from, each once, and what it leaves of them.

    [("café", "caf"), ("красных", "")]: only the letters of ASCII are read. What is left may be several words: "cafe s"
    where the accent of "cafés" is a character of its own.
    """
    if text.isascii():
        return []
    lost = {word: " ".join(tokenize(word)) for word in whole_words(text) if not word.isascii()}
    return list(lost.items())


def whole_words(text: str) -> list[str]:
    """The words of `text` in any script, as they are written: letters, digits, _ and the marks on letters."""
    if text.isascii():
        return _WORD.findall(text)
    words: list[str] = []
    for run in _RUN.findall(text.replace(_PAIR, " ")):
        if not run.isascii():
            run = "".join(character if _is_of_a_word(character) else " " for character in run)
        words += [word for word in run.split() if _WORD.search(word)]
    return words


def _is_of_a_word(character: str) -> bool:
    """Marks and invisible characters too: soft hyphens and the like split a word when it is read."""
    return character.isalnum() or character == "_" or unicodedata.category(character)[0] in "M" + "C"


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


def is_function_word(word: str) -> bool:
    """Neither noun nor adjective, as far as a small lexicon tells: a number, an adverb, a verb, of a closed class."""
    return word in _OTHER_WORDS or word.isdigit() or (word.endswith("ly") and not word.endswith("belly"))


def _lexicon_labels(tokens: Sequence[str]) -> list[bool]:
    return [word in _NOUNS_TAGGERS_MISS or not is_function_word(word) for word in tokens]
