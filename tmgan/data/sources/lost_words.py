"""Count what captions lose because only the letters of ASCII are read, so that it is never lost without a word."""

from __future__ import annotations

from pathlib import Path

from tmgan.data.captions import lost_letters, whole_words

_EXAMPLES = 3  # of each kind


class LostWords:
    """A count over all captions of a source: each is added before the ones without a word are dropped."""

    def __init__(self) -> None:
        self.shortened = self.vanished = self.total = 0
        self._examples: dict[bool, dict[str, str]] = {False: {}, True: {}}  # vanished: word -> what is left of it

    def add(self, caption: str) -> None:
        """Count one caption."""
        if caption.isascii():
            self.total += len(caption.split())  # about: quick, and nothing is lost here
            return
        lost, words = dict(lost_letters(caption)), whole_words(caption)
        self.total += len(words)
        for word in words:
            left = lost.get(word)
            if left is not None:
                self.shortened += left != ""
                self.vanished += left == ""
                examples = self._examples[left == ""]
                if len(examples) < _EXAMPLES:
                    examples[word] = left

    def check(self, path: Path) -> None:
        """Raise ValueError when more than half of the words vanish: what is left of the captions means nothing."""
        if 2 * self.vanished > self.total:
            words = ", ".join(map(repr, self._examples[True]))
            raise ValueError(
                f"{path}: its captions are in another script: of {self.vanished} of their {self.total} words, such as "
                f"{words}, nothing is left. Of captions the letters a to z, digits and _ are read, as published text "
                "encoders do: translate them, or write them in these letters"
            )

    def note(self) -> str:
        """What the captions lost, as a sentence; "" when nothing."""
        if not self.shortened + self.vanished:
            return ""
        shown = self._examples[False] | self._examples[True]
        examples = ", ".join(f"{word!r} -> {left!r}" for word, left in shown.items())
        counts = [f"{name}: {n}" for name, n in (("lose letters", self.shortened), ("vanish", self.vanished)) if n]
        return (
            f"words of the captions that {', that '.join(counts)}, since only the letters a to z, digits and _ are "
            f"read ({examples})"
        )
