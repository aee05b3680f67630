"""captions.pickle: its words in order of their ids, which are the rows of a published text encoder's embedding."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tmgan.data.sources.caption_pickle import read_captions, read_words

WORDS = ["<end>", "a", "red", "bird"]
BY_ID, BY_WORD = dict(enumerate(WORDS)), {word: index for index, word in enumerate(WORDS)}


def write(folder, value):
    file = folder / "captions.pickle"
    file.write_bytes(pickle.dumps(value, 2))
    return file


def test_words_are_in_order_of_their_ids(tmp_path):
    shuffled = dict(sorted(BY_ID.items(), key=lambda pair: pair[1]))  # the order of the table means nothing
    assert read_words(write(tmp_path, [[[1, 3]], [], shuffled, BY_WORD])) == tuple(WORDS)
    # Captions are not looked at.
    assert read_words(write(tmp_path, ([[1, 999]], [[0]], BY_ID, BY_WORD))) == tuple(WORDS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, "expected .train captions, test captions, word of id, id of word"),
        ([[], [], WORDS, BY_WORD], "expected .train captions"),
        ([[], [], BY_ID], "expected .train captions"),
        ([[], [], BY_ID, {**BY_WORD, "red": 3}], "not inverse"),
        ([[], [], {0: "<end>", 2: "a"}, {"<end>": 0, "a": 2}], "not inverse to each other, or ids are missing"),
        ([[], [], {0: "a"}, {"a": 0}], "starts with '<end>'"),
        ([[], [], {0: "<end>", 1: 7}, {"<end>": 0, 7: 1}], "not inverse"),
        ([[], [], {}, {}], "starts with '<end>'"),
    ],
)
def test_word_tables_that_do_not_fit_are_refused(tmp_path, value, message):
    file = write(tmp_path, value)
    with pytest.raises(ValueError, match=message) as error:
        read_words(file)
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"PK" + data, lambda data: b""])
def test_a_damaged_pickle_is_refused(tmp_path, spoil):
    file = write(tmp_path, [[], [], BY_ID, BY_WORD])
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ValueError, match="not a readable pickle"):
        read_words(file)


def test_captions_are_dealt_out_by_position(tmp_path):
    captions = [[1, 2, 3], [2], [], [3, 1]], np.array([[1, 2], [3, 3]]).tolist()
    file = write(tmp_path, [*captions, BY_ID, BY_WORD])
    words, token_ids = read_captions(file, {"train": 2, "test": 1})
    assert words == tuple(WORDS) and token_ids == (((1, 2, 3), (2,)), ((3, 1),), ((1, 2), (3, 3)))
    with pytest.raises(ValueError, match="has 4 train captions for 3 train images, not equally many"):
        read_captions(file, {"train": 3, "test": 1})
    with pytest.raises(ValueError, match="has 2 test captions for 0 test images"):
        read_captions(file, {"train": 2})
