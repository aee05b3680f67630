"""Vocabulary, captions and the reading of source folders: lists that do not fit are refused, never misaligned."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import sys

import numpy as np
import pytest

from tests.data.data_folders import captions_of, name_of, write_cub, write_image_folder, write_lists
from tmgan.data import captions
from tmgan.data.captions import label_backend, tokenize, word_labels
from tmgan.data.doctor import examine
from tmgan.data.sources.read import read_source
from tmgan.data.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("This bird has a Yellow-green belly.", ["this", "bird", "has", "a", "yellow", "green", "belly"]),
        (
            "the bird's eye, it's 2 1/2 inches_long",
            ["the", "bird", "s", "eye", "it", "s", "2", "1", "2", "inches_long"],
        ),
        ("a caf\u00e9-coloured b\u00efrd", ["a", "caf", "coloured", "brd"]),  # As published: only ASCII is kept
        ("small\ufffd\ufffdbird with\ufffda bill", ["small", "bird", "with", "a", "bill"]),
        ("\u9ce5 \u9ce5 !!", []),
        ("", []),
    ],
)
def test_tokenize_as_published(text, tokens):
    assert tokenize(text) == tokens


def test_vocabulary_ids_are_in_order_of_first_appearance():
    vocabulary = Vocabulary.from_captions(["A red bird.", "a blue BIRD", "red wings"])
    assert vocabulary.words == ("<end>", "a", "red", "bird", "blue", "wings")
    assert vocabulary.encode("Red wings, redd bird; redd plumage") == ([2, 5, 3], ["redd", "plumage"])
    assert vocabulary.nearest("redd") == ["red"]
    assert vocabulary.nearest("xyzzy") == []
    assert len(vocabulary) == 6


def test_vocabulary_survives_json_and_its_hash_tells_order():
    vocabulary = Vocabulary(("<end>", "a", "b"))
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary and again.hash == vocabulary.hash
    assert vocabulary.hash == hashlib.sha256(b"<end>\na\nb").hexdigest()
    assert Vocabulary(("<end>", "b", "a")).hash != vocabulary.hash


@pytest.mark.parametrize(
    "words", [(), ("a", "b"), ("<end>", "a", "a"), ("<end>", ""), ("<end>", "a b"), ("<end>", "a\nb")]
)
def test_bad_vocabularies(words):
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary(words)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"words": "abc"}', '{"words": [1]}', '{"words": ["a"]}'])
def test_bad_vocabulary_files(text):
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary.from_json(text)


@pytest.fixture(params=["textblob", "lexicon"])
def backend(request, monkeypatch):
    if request.param == "lexicon":
        monkeypatch.setitem(sys.modules, "textblob.en", None)
    else:
        pytest.importorskip("textblob")
    captions._labeller.cache_clear()
    yield request.param
    captions._labeller.cache_clear()


def test_word_labels(backend):
    assert label_backend().split()[0] == backend
    tokens = tokenize("this bird has a yellow eyering and mostly grey wings with a long pointed bill")
    assert word_labels(tokens) == [
        token in "bird yellow eyering grey wings long pointed bill".split() for token in tokens
    ]
    assert word_labels([]) == []


def test_cub_folder(tmp_path):
    source = read_source(write_cub(tmp_path, masks=True))
    assert source.kind == "cub" and source.vocabulary is None and source.token_ids is None
    assert [item.split for item in source.items] == ["train"] * 15 + ["test"] * 5
    numbers = [0, 1, 2, 3, 4, *range(10, 20), 5, 6, 7, 8, 9]
    for item, number in zip(source.items, numbers, strict=True):
        assert item.name == name_of(number) and item.class_id == number // 5 + 1
        assert item.captions == tuple(captions_of(number))
        assert item.box == (10, number % 5, 40, 30)  # As published: the fractions are cut off
        assert item.image.is_file() and item.mask.is_file() and item.image.stem == item.mask.stem
        assert item.parts is None and item.colours is None and item.problem == ""
    assert source.class_names == {1: "001.Kind1", 2: "002.Kind2", 3: "003.Kind3", 4: "004.Kind4"}


@pytest.mark.parametrize("inside", [True, False], ids=["lists in CUB_200_2011", "lists beside it"])
def test_the_cub_folder_itself_may_be_named(tmp_path, inside):
    whole = read_source(write_cub(tmp_path / "birds", text="text_c10"))
    cub = tmp_path / "birds" / "CUB_200_2011"
    if inside:
        for name in ("text_c10", "train", "test"):
            shutil.move(tmp_path / "birds" / name, cub / name)
    found = read_source(cub)
    assert [(i.name, i.captions, i.class_id, i.split, i.box) for i in found.items] == [
        (i.name, i.captions, i.class_id, i.split, i.box) for i in whole.items
    ]


def test_without_the_pickles_cubs_own_split_is_used(tmp_path):
    folder = write_cub(tmp_path)
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "test")
    source = read_source(folder)
    numbers = [int(item.name[-4:]) for item in source.items]
    assert numbers == [*range(19, 0, -2), *range(18, -1, -2)]  # the order of images.txt, the training split first
    assert [item.split for item in source.items] == ["train"] * 10 + ["test"] * 10
    assert [item.class_id for item in source.items] == [number // 5 + 1 for number in numbers]
    assert [item.captions[0] for item in source.items] == [captions_of(number)[0] for number in numbers]
    assert "CUB's own split" in source.notes[0]


def test_without_class_info_every_image_is_its_own_class(tmp_path):
    folder = write_cub(tmp_path)
    for split in ("train", "test"):
        (folder / split / "class_info.pickle").unlink()
    source = read_source(folder)
    assert [item.class_id for item in source.items] == list(range(20)) and source.class_names == {}
    assert len(source.notes) == 2


def test_classes_counted_anew_in_each_split_are_kept_apart(tmp_path):
    folder = write_cub(tmp_path)
    (folder / "test" / "class_info.pickle").write_bytes(pickle.dumps(np.ones(5, np.int64)))
    source = read_source(folder)
    assert {item.class_id for item in source.items if item.split == "test"} == {6}
    assert source.class_names[6] == "002.Kind2" and source.class_names[1] == "001.Kind1"


def write_caption_pickle(folder, order=None, captions_each=3, words=None):
    """captions.pickle with ids that are not in order of appearance. `order` is the order of images it was made for."""
    order = order or [0, 1, 2, 3, 4, *range(10, 20), 5, 6, 7, 8, 9]
    texts = [[tokenize(text) for text in captions_of(number, captions_each)] for number in order]
    words = words or ["<end>", *sorted({word for image in texts for text in image for word in text}, reverse=True)]
    ids = {word: index for index, word in enumerate(words)}
    rows = [[ids[word] for word in text] for image in texts for text in image]
    value = [rows[: 15 * captions_each], rows[15 * captions_each :], dict(enumerate(words)), ids]
    (folder / "captions.pickle").write_bytes(pickle.dumps(value, 2))
    return value


def test_captions_pickle_keeps_its_ids(tmp_path):
    folder = write_cub(tmp_path)
    value = write_caption_pickle(folder)
    source = read_source(folder)
    assert source.vocabulary == tuple(value[2][index] for index in range(len(value[2])))
    assert [list(ids) for image in source.token_ids for ids in image] == value[0] + value[1]
    assert source.items[5].captions[1] == "a bird called bird10 caption 1"
    shutil.rmtree(folder / "text")
    alone = read_source(folder)
    assert alone.items == source.items and alone.token_ids == source.token_ids


def shifted(folder):
    write_caption_pickle(folder, order=[1, 2, 3, 4, *range(10, 20), 5, 6, 7, 8, 9, 0])


def shifted_late(folder):
    write_caption_pickle(folder, order=[0, 1, 2, 3, 4, *range(10, 20), 5, 6, 7, 9, 8])


def one_caption_short(folder):
    value = write_caption_pickle(folder)
    (folder / "captions.pickle").write_bytes(pickle.dumps([value[0][:-1], *value[1:]], 2))


def not_inverse(folder):
    value = write_caption_pickle(folder)
    value[3]["bird"], value[3]["called"] = value[3]["called"], value[3]["bird"]
    (folder / "captions.pickle").write_bytes(pickle.dumps(value, 2))


def id_beyond_the_words(folder):
    value = write_caption_pickle(folder)
    value[1][0][0] = len(value[2])
    (folder / "captions.pickle").write_bytes(pickle.dumps(value, 2))


def padding_in_a_caption(folder):
    value = write_caption_pickle(folder)
    value[1][0][0] = 0
    (folder / "captions.pickle").write_bytes(pickle.dumps(value, 2))


def no_end_word(folder):
    value = write_caption_pickle(folder)
    value[2][0] = value[2].pop(len(value[2]) - 1)
    value[3] = {word: index for index, word in value[2].items()}
    for row in value[0] + value[1]:
        row[:] = [1 for _ in row]
    (folder / "captions.pickle").write_bytes(pickle.dumps(value, 2))


def another_shape(folder):
    (folder / "captions.pickle").write_bytes(pickle.dumps({"a": 1}, 2))


def fewer_classes(folder):
    (folder / "train" / "class_info.pickle").write_bytes(pickle.dumps([1] * 14, 2))


def shifted_classes(folder):
    (folder / "train" / "class_info.pickle").write_bytes(pickle.dumps([1] * 4 + [3] * 5 + [4] * 6, 2))


def words_for_classes(folder):
    (folder / "train" / "class_info.pickle").write_bytes(pickle.dumps(["a"] * 15, 2))


def name_in_both_splits(folder):
    write_lists(folder, list(range(15)), [14, 15])


def no_test_list(folder):
    (folder / "test" / "filenames.pickle").unlink()


def names_that_are_no_list(folder):
    (folder / "train" / "filenames.pickle").write_bytes(pickle.dumps({"a": 1}))


def names_outside(folder):
    (folder / "train" / "filenames.pickle").write_bytes(pickle.dumps(["../../x"]))


def box_missing(folder):
    file = folder / "CUB_200_2011" / "bounding_boxes.txt"
    file.write_text("\n".join(file.read_text().split("\n")[1:]))


def image_id_twice(folder):
    file = folder / "CUB_200_2011" / "images.txt"
    file.write_text(file.read_text() + "1 other.jpg\n")


def no_image_list(folder):
    (folder / "CUB_200_2011" / "images.txt").unlink()


def no_captions(folder):
    shutil.rmtree(folder / "text")


def zipped_captions(folder):
    shutil.rmtree(folder / "text")
    (folder / "text.zip").write_bytes(b"PK")


def colours_are_no_json(folder):
    (folder / "colours.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shifted, "captions.pickle does not fit the text folder: at 001.Kind1/Kind_0000"),
        (shifted_late, "captions.pickle does not fit the text folder: at 002.Kind2/Kind_0008"),
        (one_caption_short, "captions.pickle has 44 train captions for 15 train images"),
        (not_inverse, "captions.pickle.*not inverse"),
        (id_beyond_the_words, "captions.pickle.*word id outside 1"),
        (padding_in_a_caption, "captions.pickle.*word id outside 1"),
        (no_end_word, "captions.pickle.*<end>"),
        (another_shape, "captions.pickle.*expected"),
        (fewer_classes, "class_info.pickle has 14 classes.*15 names"),
        (shifted_classes, "class_info.pickle: class 3 is 001.Kind1, but at 003.Kind3/Kind_0010 it is 003.Kind3"),
        (words_for_classes, "class_info.pickle: expected whole numbers"),
        (name_in_both_splits, "003.Kind3/Kind_0014 is listed twice .train and test"),
        (no_test_list, "test/filenames.pickle is missing"),
        (names_that_are_no_list, "train/filenames.pickle: expected a list of names"),
        (names_outside, "train/filenames.pickle: expected a list of names"),
        (box_missing, "bounding_boxes.txt does not fit images.txt: image id 20"),
        (image_id_twice, "images.txt, line 21: expected a new id"),
        (no_image_list, "images.txt is missing"),
        (no_captions, "no captions: put a text"),
        (zipped_captions, "no captions: unpack .*text.zip"),
        (colours_are_no_json, "colours.json: not JSON"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, spoil, message):
    folder = write_cub(tmp_path)
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        read_source(folder)
    findings = examine(folder)
    assert [finding for finding in findings if finding.level == "problem" and finding.text], findings


def test_a_few_captions_may_be_tokenized_otherwise(tmp_path):
    folder = write_cub(tmp_path)
    value = write_caption_pickle(folder)
    value[0][4].append(1)
    (folder / "captions.pickle").write_bytes(pickle.dumps(value, 2))
    assert len(read_source(folder).token_ids[1][1]) == len(value[0][3]) + 1


def test_caption_files(tmp_path):
    folder = write_cub(tmp_path, count=5, test=(4,))
    texts = [folder / "text" / f"{name_of(number)}.txt" for number in range(5)]
    texts[0].write_bytes(b"a red bird\r\n\r\n  \r\na b\xffg bill\r\n")
    texts[1].write_bytes(b"\n...\n")
    texts[2].unlink()
    texts[3].write_bytes(b"one caption without a line feed")
    source = read_source(folder)
    items = {item.name: item for item in source.items}
    assert items[name_of(0)].captions == ("a red bird", "a b\ufffdg bill")
    assert source.dropped == 2 + 2
    assert items[name_of(1)].captions == () and str(texts[1]) in items[name_of(1)].problem
    assert items[name_of(2)].captions == () and f"{texts[2]} is missing" in items[name_of(2)].problem
    assert items[name_of(3)].captions == ("one caption without a line feed",) and not items[name_of(3)].problem


def test_a_folder_that_is_no_source(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        read_source(tmp_path / "nothing")
    with pytest.raises(ValueError, match="neither CUB_200_2011/images nor metadata.jsonl"):
        read_source(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="not a folder"):
        read_source(tmp_path / "file")


def test_image_folder(tmp_path):
    rows = [
        {"file_name": "a.png", "text": "A red bird", "class": "finch", "bbox": [1, 2, 30, 40], "split": "train"},
        {
            "file_name": "sub/b.png",
            "texts": ["A blue bird", " ", "blue"],
            "class": "crow",
            "bbox": None,
            "split": "test",
        },
        {"file_name": "c.png", "captions": ["grey"], "class": "finch", "split": "validation", "size": 3},
        {"file_name": "a.png", "text": "red again", "class": "finch", "bbox": [1, 2, 30, 40], "split": "train"},
    ]
    folder = write_image_folder(tmp_path, rows)
    (folder / "metadata.jsonl").write_text("\ufeff" + (folder / "metadata.jsonl").read_text())  # as Windows writes it
    source = read_source(folder)
    assert source.kind == "imagefolder" and source.dropped == 1
    assert [(i.name, i.captions, i.class_id, i.split, i.box) for i in source.items] == [
        ("a.png", ("A red bird", "red again"), 1, "train", (1.0, 2.0, 30.0, 40.0)),
        ("sub/b.png", ("A blue bird", "blue"), 0, "test", None),
        ("c.png", ("grey",), 1, "test", None),
    ]
    assert source.class_names == {0: "crow", 1: "finch"} and source.items[1].image == folder / "sub" / "b.png"


def test_image_folder_with_a_folder_a_split(tmp_path):
    write_image_folder(
        tmp_path / "train", [{"file_name": "1.png", "text": "one"}, {"file_name": "2.png", "text": "two"}]
    )
    write_image_folder(tmp_path / "test", [{"file_name": "1.png", "text": "three", "mask": "masks/1.png"}])
    source = read_source(tmp_path)
    assert [(i.name, i.split, i.captions) for i in source.items] == [
        ("train/1.png", "train", ("one",)),
        ("train/2.png", "train", ("two",)),
        ("test/1.png", "test", ("three",)),
    ]
    assert source.items[2].mask == tmp_path / "test" / "masks" / "1.png" and source.items[2].image.is_file()
    assert [bool(i.problem) for i in source.items] == [True, True, False]  # a mask for some, not for all
    assert [i.class_id for i in source.items] == [0, 1, 2] and source.class_names == {}


def test_default_split_depends_on_the_name_alone(tmp_path):
    rows = [{"file_name": f"{number}.png", "text": "a bird"} for number in range(400)]
    splits = {i.name: i.split for i in read_source(write_image_folder(tmp_path / "a", rows, images=False)).items}
    fewer = {i.name: i.split for i in read_source(write_image_folder(tmp_path / "b", rows[::-3], images=False)).items}
    assert fewer == {name: splits[name] for name in fewer}
    test = [name for name, split in splits.items() if split == "test"]
    assert 20 < len(test) < 60
    assert all(hashlib.sha256(name.encode()).digest()[7] % 2 == 0 for name in test)  # divisible by ten, so even
