"""The words a model knows. A word's id is its place in `words`; id 0 is "<end>", used only as padding.

Ids must never be renumbered: they are the rows of a trained text encoder's embedding. `hash` guards that.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tmgan.common.json_text import parse_json
from tmgan.data.captions import tokenize

END = "<end>"


@dataclass(frozen=True)
class Vocabulary:
    """`words[id]` is a word; `words[0]` is "<end>" and never occurs in a caption.

    Raises:
        ValueError: the first word is not "<end>", or a word is repeated, empty or holds white space.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.words or self.words[0] != END:
            raise ValueError(f"a vocabulary starts with {END!r} (id 0, padding), this one with {self.words[:1]}")
        if any(word.split() != [word] for word in self.words):
            raise ValueError("a vocabulary's words are not empty and have no white space in them")
        if len(self._ids) != len(self.words):
            seen: set[str] = set()
            for word in self.words:
                if word in seen:
                    raise ValueError(f"the word {word!r} occurs twice in the vocabulary")
                seen.add(word)

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the words in order: equal hashes mean equal ids."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()

    def encode(self, text: str) -> tuple[list[int], list[str]]:
        """Ids of the known words of `text` in order, and its unknown words (in order, each once)."""
        ids: list[int] = []
        unknown: dict[str, None] = {}
        for token in tokenize(text):
            index = self._ids.get(token)
            if index is None:
                unknown[token] = None
            else:
                ids.append(index)
        return ids, list(unknown)

    def nearest(self, word: str, n: int = 3) -> list[str]:
        """Up to `n` known words that are spelt most like `word`, best first; may be empty."""
        return difflib.get_close_matches(word.lower(), self.words[1:], n=n, cutoff=0.6)

    @classmethod
    def from_captions(cls, captions: Iterable[str]) -> Vocabulary:
        """Every word of `captions`, ids from 1 in order of first appearance (AttnGAN's `build_dictionary`)."""
        words: dict[str, None] = {END: None}
        for caption in captions:
            words.update(dict.fromkeys(tokenize(caption)))
        return cls(tuple(words))

    def to_json(self) -> str:
        return json.dumps({"words": self.words}, indent=0)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Inverse of `to_json`. ValueError when `text` is something else."""
        try:
            words = parse_json(text)["words"]
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise TypeError("not a list of words")
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f'a vocabulary is {{"words": ["<end>", ...]}}: {error}') from error
        return cls(tuple(words))
