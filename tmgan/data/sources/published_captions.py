"""The captions of published metadata: a text file for each image, captions.pickle, or both, which are then compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tmgan.data.captions import tokenize
from tmgan.data.sources.caption_pickle import TokenIds, check_same_captions, read_captions
from tmgan.data.sources.lines import read_lines
from tmgan.data.sources.lost_words import LostWords
from tmgan.data.sources.source import Split


@dataclass(frozen=True)
class PublishedCaptions:
    """The captions of a set's images, in the order of its lists.

    Attributes:
        texts: of each image, those with a word in them.
        problems: what is wrong with the captions of a name.
        vocabulary: words in order of their ids, from captions.pickle; None without it.
        token_ids: word ids of each caption, from captions.pickle; None without it.
        dropped: number of lines without a word.
        notes: what of the captions is not read.
    """

    texts: list[list[str]]
    problems: dict[str, str]
    vocabulary: tuple[str, ...] | None = None
    token_ids: TokenIds | None = None
    dropped: int = 0
    notes: tuple[str, ...] = ()


def read_published(
    path: Path, files: Mapping[str, Path | None], pickle: Path | None, counts: dict[Split, int]
) -> PublishedCaptions:
    """Read the captions of all images. Those of captions.pickle are used when there is one.

    Args:
        path: the source folder.
        files: the text file of each image; None: the set has no text files.
        pickle: captions.pickle, or None.
        counts: images of each split, in whose order `files` is.

    Raises:
        ValueError: captions.pickle is damaged or does not fit the lists or the text files, or the captions are in a
            script that is not read.
    """
    texts = _Texts.read(files)
    if pickle is None:
        texts.lost.check(path)
        return PublishedCaptions(
            texts.captions, texts.problems, dropped=texts.dropped, notes=tuple(filter(None, texts.notes()))
        )
    vocabulary, token_ids = read_captions(pickle, counts)
    check_same_captions(pickle, list(files), vocabulary, token_ids, texts.captions)
    captions = [[" ".join(vocabulary[token] for token in ids) for ids in image] for image in token_ids]
    problems = {name: f"no captions in {pickle}" for name, image in zip(files, captions, strict=True) if not image}
    return PublishedCaptions(captions, problems, vocabulary, token_ids)


@dataclass
class _Texts:
    """What the text files say.

    Attributes:
        damaged: lines with bytes that are not UTF-8, as "file, line n".
    """

    captions: list[list[str]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    dropped: int = 0
    lost: LostWords = field(default_factory=LostWords)
    damaged: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, files: Mapping[str, Path | None]) -> _Texts:
        texts = cls()
        for name, file in files.items():
            captions: list[str] = []
            texts.captions.append(captions)
            if file is None:
                continue
            if not file.is_file():
                texts.problems[name] = f"no captions: {file} is missing"
                continue
            for line in read_lines(file):
                text = line.text.strip()
                texts.lost.add(text)
                if tokenize(text):
                    captions.append(text)
                else:
                    texts.dropped += 1
                if line.damaged:
                    texts.damaged.append(f"{file}, line {line.number}")
            if not captions:
                texts.problems[name] = f"no captions: {file} holds none"
        return texts

    def notes(self) -> list[str]:
        damaged = f"caption lines with bytes that are not UTF-8 (they split words): {len(self.damaged)}, the first in "
        return [damaged + self.damaged[0] if self.damaged else "", self.lost.note()]
