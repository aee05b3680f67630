"""Odd values in CUB's tables: an image's box is that image's problem, anything else is refused by file and line."""

from __future__ import annotations

import pickle
import shutil

import pytest

from tests.data.data_folders import name_of, write_cub
from tmgan.data.sources.read import read_source


@pytest.fixture
def birds(tmp_path):
    """Without the published lists, so that all of CUB's tables are read."""
    folder = write_cub(tmp_path, count=4, test=(3,))
    for split in ("train", "test"):
        shutil.rmtree(folder / split)
    return folder


def change(birds, table, old, new):
    file = birds / "CUB_200_2011" / f"{table}.txt"
    data = file.read_bytes()
    assert data.count(old) == 1
    file.write_bytes(data.replace(old, new))
    return file


@pytest.mark.parametrize("value", ["1e999", "nan", "text", "", "1 2", "1e300"])
def test_an_odd_box_is_the_problem_of_its_image(birds, value):
    file = change(birds, "bounding_boxes", b"3 10.9 2.0 40.0 30.5", f"3 10.9 2.0 40.0 {value}".encode())
    source = read_source(birds)
    problems = {item.name: item.problem for item in source.items if item.problem}
    assert list(problems) == [name_of(2)]
    assert problems[name_of(2)].startswith(f"{file}, line 2: expected `id x y width height`, found `3 10.9 2.0 40.0")
    assert [item.box for item in source.items if not item.problem] == [(10, n, 40, 30) for n in (3, 1, 0)]


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        (
            "train_test_split",
            b"4 1",
            b"4 2",
            r"train_test_split.txt, line 1: expected 1 \(training\) or 0 \(test\).*'2'",
        ),
        ("train_test_split", b"3 0", b"3 train", "train_test_split.txt, line 2: expected 1"),
        ("images", b"4 001", "\u00b2 001".encode(), "images.txt, line 1: expected a new id and a value"),
        ("images", b"4 001", b"9" * 5000 + b" 001", "images.txt, line 1: expected a new id"),
        ("images", b"4 001.Kind1", b"4 ../other", "images.txt, line 1: '../other/Kind_0003.jpg' is not a path inside"),
        ("images", b"Kind_0003", b"Kind_0002", "images.txt, line 2: .*Kind_0002.jpg stands in line 1 already"),
        ("images", b"4 001.Kind1", b"4 /etc", "images.txt, line 1: '/etc/Kind_0003.jpg' is not a path inside"),
        ("images", b"4 001.Kind1", b"4 001.\xff", "images.txt, line 1: it holds bytes that are not text"),
        ("image_class_labels", b"4 1", "4 \u00b2".encode(), "image_class_labels.txt: expected whole numbers"),
        ("image_class_labels", b"4 1", b"4 " + b"9" * 30, "image_class_labels.txt: expected whole numbers"),
    ],
)
def test_an_odd_value_is_refused_by_file_and_line(birds, table, old, new, message):
    change(birds, table, old, new)
    with pytest.raises(ValueError, match=message):
        read_source(birds)


def test_a_class_in_the_published_lists_that_is_no_number(tmp_path):
    folder = write_cub(tmp_path, count=2, test=(1,))
    (folder / "train" / "class_info.pickle").write_bytes(pickle.dumps([float("inf")]))
    with pytest.raises(ValueError, match="class_info.pickle: expected whole numbers"):
        read_source(folder)


@pytest.mark.parametrize("encode", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.decode().encode("utf-16")])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_tables_that_other_programs_have_saved(birds, encode, end):
    before = read_source(birds)
    for file in (birds / "CUB_200_2011").glob("*.txt"):
        file.write_bytes(encode(file.read_bytes().replace(b"\n", end)))
    assert read_source(birds) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"expected an object such as .*, found \[\]"),
        ('"red"', "expected an object"),
        ('{"001.Kind1/Kind_0000": "red"}', "expected .*, found '001.Kind1/Kind_0000': 'red'"),
        ('{"001.Kind1/Kind_0000": {"head": 3}}', "expected .*, found '001.Kind1/Kind_0000': {'head': 3}"),
        ("[" * 100_000, "not JSON"),
        ('{"\\', "not JSON"),
    ],
)
def test_colours_of_another_shape_are_refused(birds, content, message):
    (birds / "colours.json").write_text(content)
    with pytest.raises(ValueError, match=f"colours.json: {message}"):
        read_source(birds)


def test_colours_with_a_byte_order_mark_are_read(birds):
    text = "{" + ", ".join(f'"{name_of(number)}": {{"head": "red"}}' for number in range(4)) + "}"
    (birds / "colours.json").write_text(text, "utf-8-sig")
    assert [item.colours for item in read_source(birds).items] == [{"head": "red"}] * 4
