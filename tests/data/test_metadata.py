"""Image folders: one bad line costs one image, and lists are obeyed in every form that says plainly what it means."""

from __future__ import annotations

import json
import time
import unicodedata

import pytest
from PIL import Image

from tests.data.data_folders import write_image_folder
from tmgan.data.sources.read import read_source

GOOD = {"file_name": "x.png", "text": "a bird"}


def write(folder, lines, name="metadata.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return folder


def problems_of(source):
    return {item.name: item.problem for item in source.items if item.problem}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"text": None}, "a caption is a string, or a list of strings; text is None"),
        ({"text": ["a", 1]}, "a caption is a string, or a list of strings"),
        ({"texts": ["b"]}, 'expected exactly one of "text", "texts", "caption" and "captions", found 2'),
        ({"text": "..."}, "no caption with a word in metadata.jsonl, line 2"),
        ({"bbox": [1, 2, 3]}, "bbox is [x, y, width, height] in pixels, found [1, 2, 3]"),
        ({"bbox": "1 2 3 4"}, "bbox is"),
        ({"bbox": [1, 2, 3, float("nan")]}, "bbox is"),
        ({"bbox": [1, 2, 3, float("inf")]}, "bbox is"),
        ({"bbox": [1, 2, 3, 10**400]}, "bbox is"),
        ({"bbox": [1, 2, 3, 1e300]}, "bbox is"),
        ({"bbox": [1, 2, 3, True]}, "bbox is"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox is"),
        ({"mask": 3}, "3 is not a path inside"),
        ({"mask": "../m.png"}, "'../m.png' is not a path inside"),
        ({"mask": "a" * 300}, "cannot be the name of a file"),
        ({"split": "holdout"}, "the split is one of train, test, validation"),
        ({"split": ["train"]}, "the split is one of"),
        ({"split": 1}, "the split is one of"),
        ({"class": True}, "a class is a name or a whole number"),
        ({"class": 1.0}, "a class is a name or a whole number"),
        ({"class": 2**63}, "a class is a name or a whole number"),
        ({"class": [1]}, "a class is a name or a whole number"),
        ({"bbox": [1], "split": "no"}, "found [1]; the split is one of"),
    ],
)
def test_a_bad_value_is_the_problem_of_its_image(tmp_path, change, problem):
    source = read_source(write(tmp_path, [GOOD, {**GOOD, "file_name": "bad.png", **change}]))
    said = problems_of(source)
    assert list(said) == ["bad.png"] and problem in said["bad.png"] and "metadata.jsonl, line 2" in said["bad.png"]
    assert source.unreadable == {} and len(source.items) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"file_name', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"file_name": "y.png", "bbox": [' + "9" * 5000 + "]}", "not JSON"),
        (["a"], 'expected an object with "file_name"'),
        ({"text": "a"}, 'expected an object with "file_name"'),
        ({"file_name": 3, "text": "a"}, 'expected an object with "file_name"'),
        ('{"file_name": "a.png", "file_name": "b.png", "text": "a"}', '"file_name" occurs twice'),
        ({**GOOD, "file_name": "../x.png"}, "'../x.png' is not a path inside"),
        ({**GOOD, "file_name": "..\\x.png"}, "is not a path inside"),
        ({**GOOD, "file_name": "/etc/x.png"}, "'/etc/x.png' is not a path inside"),
        ({**GOOD, "file_name": "C:\\birds\\x.png"}, "is not a path inside"),
        ({**GOOD, "file_name": "C:/birds/x.png"}, "is not a path inside"),
        ({**GOOD, "file_name": "\\\\server\\birds\\x.png"}, "is not a path inside"),
        ({**GOOD, "file_name": ""}, "is not a path inside"),
        ({**GOOD, "file_name": "a\0b.png"}, "is not a path inside"),
        ({**GOOD, "file_name": "\ud800.png"}, "is not text"),
        ({**GOOD, "file_name": "a" * 300}, "cannot be the name of a file"),
    ],
)
def test_a_line_that_names_no_image_is_unreadable(tmp_path, line, problem):
    source = read_source(write(tmp_path, [GOOD, line]))
    assert [item.name for item in source.items] == ["x.png"] and problems_of(source) == {}
    assert list(source.unreadable) == ["metadata.jsonl, line 2"]
    assert problem in source.unreadable["metadata.jsonl, line 2"]


def test_a_damaged_line_is_unreadable_and_a_whole_list_may_be(tmp_path):
    (tmp_path / "metadata.jsonl").write_bytes(json.dumps(GOOD).encode() + b'\n{"file_name": "\xff.png", "text": "a"}')
    source = read_source(tmp_path)
    assert "not text in its encoding" in source.unreadable["metadata.jsonl, line 2"] and len(source.items) == 1
    assert read_source(write(tmp_path, ["{"])).items == ()
    with pytest.raises(ValueError, match="names no image"):
        read_source(write(tmp_path, ["", " "]))


def test_a_key_twice_is_a_problem(tmp_path):
    source = read_source(write(tmp_path, ['{"file_name": "x.png", "text": "a", "text": "b", "extra": {"a": 1}}']))
    assert problems_of(source) == {"x.png": 'metadata.jsonl, line 1: the key "text" occurs twice'}


@pytest.mark.parametrize(
    ("key", "values", "name"),
    [
        ("bbox", [[1, 2, 3, 4], [1, 2, 3, 5]], "box"),
        ("class", ["a", "b"], "class"),
        ("split", ["train", "test"], "split"),
        ("mask", ["a.png", "b.png"], "mask"),
    ],
)
def test_lines_about_one_image_must_agree(tmp_path, key, values, name):
    lines = [{**GOOD, key: value} for value in values]
    said = problems_of(read_source(write(tmp_path, lines)))
    assert f"line 2: x.png was listed before (metadata.jsonl, line 1) with another {name}" in said["x.png"]
    source = read_source(write(tmp_path, [lines[0], lines[0]]))
    assert problems_of(source) == {} and source.items[0].captions == ("a bird", "a bird")


def test_a_bad_line_spoils_the_good_ones_about_its_image(tmp_path):
    said = problems_of(read_source(write(tmp_path, [GOOD, {**GOOD, "text": None}])))
    assert "metadata.jsonl, line 2: a caption is" in said["x.png"]


@pytest.mark.parametrize(("key", "value"), [("class", "finch"), ("mask", "m.png")])
def test_what_only_some_images_have_is_missing_for_the_others(tmp_path, key, value):
    source = read_source(write(tmp_path, [{**GOOD, key: value}, {**GOOD, "file_name": "y.png"}]))
    assert problems_of(source) == {"y.png": f"no {key} in metadata.jsonl, line 2, though other images have one"}


def test_classes_are_numbers_or_names(tmp_path):
    lines = [{**GOOD, "class": 7}, {**GOOD, "file_name": "y.png", "class": "finch"}]
    with pytest.raises(
        ValueError, match=r"numbers \(7 at metadata.jsonl, line 1\), others names \('finch' at .*line 2"
    ):
        read_source(write(tmp_path, lines))
    source = read_source(
        write(tmp_path, [{**line, "class": number} for line, number in zip(lines, (9, -3), strict=True)])
    )
    assert {item.name: item.class_id for item in source.items} == {"x.png": 9, "y.png": -3}
    assert source.class_names == {-3: "-3", 9: "9"}


def test_names_of_splits(tmp_path):
    words = {
        "Train": "train",
        " TRAINING ": "train",
        "Testing": "test",
        "eval": "test",
        "Evaluation": "test",
        "DEV": "test",
    }
    lines = [{"file_name": f"{n}.png", "caption": "a bird", "split": word} for n, word in enumerate(words)]
    source = read_source(write(tmp_path / "keys", lines))
    assert {item.name: item.split for item in source.items} == {
        f"{number}.png": split for number, split in enumerate(words.values())
    }
    for word in ("Train", "Validation", "other"):
        write_image_folder(tmp_path / "folders" / word, [{**GOOD, "split": None}])
    source = read_source(tmp_path / "folders")
    assert [(item.name, item.split) for item in source.items] == [
        ("Train/x.png", "train"),
        ("Validation/x.png", "test"),
    ]
    assert all(item.image.is_file() for item in source.items)
    assert len(source.notes) == 1
    assert source.notes[0].startswith("not read: other/metadata.jsonl; metadata.jsonl is read in ")


def test_the_folder_of_a_picture_is_its_split(tmp_path):
    """One metadata.jsonl for all, as Hugging Face's data sets may have it: test pictures are not trained on."""
    names = [f"{split}/{n}.png" for split in ("train", "data/test", "photos") for n in range(20)]
    lines = [{"file_name": name, "caption": "a bird"} for name in names]
    lines.append({"file_name": "test/x.png", "caption": "a bird", "split": "train"})
    lines.append({"file_name": "train/val/crops/y.png", "caption": "a bird"})
    split = {item.name: item.split for item in read_source(write(tmp_path, lines)).items}
    assert {split[name] for name in names[:20]} == {"train"} and {split[name] for name in names[20:40]} == {"test"}
    assert {split[name] for name in names[40:]} == {"train", "test"} and split["test/x.png"] == "train"
    assert split["train/val/crops/y.png"] == "test"  # the folder that is nearest to the picture


def test_keys_that_are_not_read_are_counted(tmp_path):
    lines = [{**GOOD, "license": 1}, {**GOOD, "license": 2, "Class": "a"}]
    assert read_source(write(tmp_path, lines)).notes == (
        "keys that are not read: 'license' (2 lines), 'Class' (1 line)",
    )


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.parquet"])
def test_metadata_in_another_form_is_refused_by_name(tmp_path, name):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text("file_name,text")
    with pytest.raises(ValueError, match=rf"{name} is not read.*pandas.read_{name[9:]}\(.*to_json\(\"metadata.jsonl\""):
        read_source(tmp_path / "a")
    (tmp_path / "b" / "test").mkdir(parents=True)
    write(tmp_path / "b", [GOOD])
    (tmp_path / "b" / "test" / name).write_text("file_name,text")
    with pytest.raises(ValueError, match=rf"test.{name} is not read"):
        read_source(tmp_path / "b")
    write(tmp_path / "b" / "test", [GOOD])
    assert f"not read: test/{name}" in read_source(tmp_path / "b").notes[0]


def test_metadata_one_level_deeper_is_named(tmp_path):
    write(tmp_path / "birds", [GOOD])
    with pytest.raises(ValueError, match="has no metadata.jsonl, but .*birds has: name that folder"):
        read_source(tmp_path)


def test_names_are_found_as_the_disk_spells_them(tmp_path):
    """Written on Windows, or on a Mac, where an accent is a character of its own."""
    nfc, nfd = (unicodedata.normalize(form, "sub/caf\u00e9.png") for form in ("NFC", "NFD"))
    (tmp_path / "sub").mkdir()
    for name in (nfc, "sub/m.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    for listed in (nfc, nfd, nfc.replace("/", "\\"), nfd.replace("/", "\\")):
        source = read_source(write(tmp_path, [{**GOOD, "file_name": listed, "mask": "sub\\m.png"}]))
        assert source.items[0].name == nfc and source.items[0].mask == tmp_path / "sub" / "m.png", listed
    (tmp_path / nfc).rename(tmp_path / nfd)
    assert read_source(write(tmp_path, [{**GOOD, "file_name": nfc}])).items[0].image.is_file()
    lines = [{**GOOD, "file_name": name} for name in (nfc, nfd)]
    assert [item.captions for item in read_source(write(tmp_path, lines)).items] == [("a bird", "a bird")]
    assert read_source(write(tmp_path, [{**GOOD, "file_name": "no\\where.png"}])).items[0].name == "no\\where.png"


def test_windows_writes_utf_16(tmp_path):
    (tmp_path / "metadata.jsonl").write_text(
        "\r\n".join(map(json.dumps, [GOOD, {**GOOD, "file_name": "y.png"}])), "utf-16"
    )
    assert [item.name for item in read_source(tmp_path).items] == ["x.png", "y.png"]


def test_many_keys_take_time_by_their_number(tmp_path):
    start = time.process_time()
    keys = ", ".join(f'"k{number}": 1' for number in range(100_000))
    line = f'{{"file_name": "0.png", "text": "a bird", "k0": 1, {keys}}}'
    assert "k0" in problems_of(read_source(write(tmp_path, [line])))["0.png"]
    assert time.process_time() - start < 10  # looked up one by one in all of them, it took minutes
