"""Read captions.pickle of AttnGAN's metadata: the words that published text encoders know, and captions as word ids.

It holds [train captions, test captions, word of id, id of word]. Captions have no names in it, only positions: caption
k of image i of a split is number i * (captions per image) + k.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tmgan.data.captions import tokenize
from tmgan.data.sources.cub_tables import integers
from tmgan.data.sources.source import Split
from tmgan.data.sources.split_pickles import SPLITS
from tmgan.data.sources.unpickle import load_metadata_pickle
from tmgan.data.vocabulary import Vocabulary

CAPTION_PICKLES = ("captions.pickle", "captions_DAMSM.pickle")  # the second is DF-GAN's name for the same file
TokenIds = tuple[tuple[tuple[int, ...], ...], ...]


def read_words(file: Path) -> tuple[str, ...]:
    """The words of a captions.pickle in order of their ids, "<end>" (id 0) first.

    Raises:
        ValueError: the file is damaged, asks for more than plain data, holds something else, or its two word tables do
            not fit each other.
        OSError: it cannot be read.
    """
    return _words(file, _load(file))


def read_captions(file: Path, counts: dict[Split, int]) -> tuple[tuple[str, ...], TokenIds]:
    """The words of a captions.pickle, and the captions of each image as word ids, training images first.

    Args:
        counts: number of images of each split.

    Raises:
        ValueError: as `read_words`, or the captions are not for that many images.
    """
    value = _load(file)
    vocabulary = _words(file, value)
    token_ids: list[tuple[tuple[int, ...], ...]] = []
    for split, captions in zip(SPLITS, value[:2], strict=True):
        count = counts.get(split, 0)
        if count == 0 and not len(captions):
            continue
        if count == 0 or len(captions) % count:
            raise ValueError(
                f"{file} has {len(captions)} {split} captions for {count} {split} images, not equally many for each: "
                "it does not belong to these lists. Without it, captions are read from the text folder"
            )
        per_image = len(captions) // count
        rows = [tuple(integers(caption, file)) for caption in captions]
        if any(not 0 < token < len(vocabulary) for row in rows for token in row):
            raise ValueError(f"{file}: a {split} caption holds a word id outside 1..{len(vocabulary) - 1}")
        token_ids += [
            tuple(row for row in rows[start : start + per_image] if row) for start in range(0, len(rows), per_image)
        ]
    return vocabulary, tuple(token_ids)


def check_same_captions(
    file: Path, names: Sequence[str], vocabulary: tuple[str, ...], token_ids: TokenIds, texts: Sequence[Sequence[str]]
) -> None:
    """Refuse a captions.pickle whose captions do not belong to the images that the text folder has them for.

    A caption or two may differ (tokenizers do); a shifted list differs nearly everywhere from some image on.

    Args:
        names: of the images, to say where.
        texts: captions of each image in the text folder; images without any are not compared.
    """
    for name, image, captions in zip(names, token_ids, texts, strict=True):
        pairs = list(zip(image, captions, strict=False))
        same = sum([vocabulary[token] for token in ids] == tokenize(text) for ids, text in pairs)
        if 2 * same < len(pairs):
            sentence = " ".join(vocabulary[token] for token in image[0])
            raise ValueError(
                f"{file} does not fit the text folder: at {name} it says {sentence!r}, the text says "
                f"{captions[0]!r}. It was made for another list of images: remove the one that is wrong"
            )


def _load(file: Path) -> Any:
    value = load_metadata_pickle(file)
    captions_and_words = isinstance(value, (list, tuple)) and [isinstance(part, dict) for part in value]
    if captions_and_words != [False, False, True, True] or not all(isinstance(x, (list, tuple)) for x in value[:2]):
        raise ValueError(f"{file}: expected [train captions, test captions, word of id, id of word]")
    return value


def _words(file: Path, value: Any) -> tuple[str, ...]:
    by_id, by_word = value[2:]
    words = [by_id.get(index) for index in range(len(by_id))]
    if not all(isinstance(word, str) and by_word.get(word) == index for index, word in enumerate(words)):
        raise ValueError(f"{file}: its two word tables are not inverse to each other, or ids are missing")
    try:
        return Vocabulary(tuple(words)).words
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
