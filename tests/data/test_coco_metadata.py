"""COCO as AttnGAN's metadata lists it: no boxes, no classes, pictures in images or as they unpack."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from tests.data.data_folders import captions_of, coco_json, coco_name, write_coco_metadata, write_picture
from tmgan.cli import main
from tmgan.data.captions import tokenize
from tmgan.data.doctor import examine
from tmgan.data.pack import Pack
from tmgan.data.prepare import prepare
from tmgan.data.sources.read import read_source

NAMES = [coco_name(n, "train2014" if n < 6 else "val2014") for n in range(9)]


def write_captions(folder, order=range(9)):
    """captions.pickle for images in `order`, its words not in order of appearance."""
    texts = [[tokenize(text) for text in captions_of(number, 5)] for number in order]
    words = ["<end>", *sorted({word for image in texts for text in image for word in text}, reverse=True)]
    ids = {word: index for index, word in enumerate(words)}
    rows = [[ids[word] for word in text] for image in texts for text in image]
    (folder / "captions.pickle").write_bytes(pickle.dumps([rows[:30], rows[30:], dict(enumerate(words)), ids], 2))
    return words


@pytest.mark.parametrize("place", ["images", "images/{split}", "{split}"])
def test_attngans_coco(tmp_path, place):
    source = read_source(write_coco_metadata(tmp_path, place))
    assert source.kind == "coco-metadata" and not source.exif and source.notes == ()
    assert [item.name for item in source.items] == NAMES
    assert [item.split for item in source.items] == ["train"] * 6 + ["test"] * 3
    assert [item.class_id for item in source.items] == list(range(9)) and source.class_names == {}
    for number, item in enumerate(source.items):
        assert item.captions == tuple(captions_of(number, 5)) and item.image.is_file()
        assert item.box is None and item.problem == ""


def test_packs_of_earlier_versions_stay_the_same(tmp_path):
    """They read these folders as if they were CUB's."""
    source = read_source(write_coco_metadata(tmp_path))
    assert source.listing_hash() == replace(source, kind="cub").listing_hash()
    assert source.listing_hash() != replace(source, kind="coco").listing_hash()


def test_captions_pickle_keeps_its_ids(tmp_path):
    folder = write_coco_metadata(tmp_path / "coco")
    words = write_captions(folder)
    prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False)
    pack = Pack.open(tmp_path / "pack")
    assert pack.vocabulary.words == tuple(words) and pack.names == tuple(NAMES)
    assert pack.caption(int(pack.first[7])) == "a bird called bird7 caption 0"
    write_captions(folder, order=[1, 2, 3, 4, 5, 0, 6, 7, 8])
    with pytest.raises(ValueError, match=f"captions.pickle does not fit the text folder: at {NAMES[0]}"):
        read_source(folder)


def test_the_lists_are_obeyed_where_archives_lie_beside_them(tmp_path):
    folder = write_coco_metadata(tmp_path)
    (folder / "annotations").mkdir()
    (folder / "annotations" / "captions_train2014.json").write_text(str(coco_json([1], "train2014")))
    source = read_source(folder)
    assert source.kind == "coco-metadata"
    assert source.notes == ("read as COCO in AttnGAN's layout; not read: a COCO folder",)


def test_what_is_missing_costs_its_image(tmp_path):
    folder = write_coco_metadata(tmp_path / "coco")
    (folder / "text" / f"{NAMES[1]}.txt").unlink()
    (folder / "images" / f"{NAMES[2]}.jpg").unlink()
    with pytest.raises(ValueError, match="2 of 9 images cannot be used"):
        prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False)
    summary = prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False, skip_bad=True)
    assert list(summary.skipped) == NAMES[1:3]
    assert summary.skipped[NAMES[1]].endswith(f"{NAMES[1]}.txt is missing")
    assert summary.skipped[NAMES[2]].endswith(f"images/{NAMES[2]}.jpg is missing")


def no_text(folder):
    for file in (folder / "text").iterdir():
        file.unlink()
    (folder / "text").rmdir()


def zipped_text(folder):
    no_text(folder)
    (folder / "text.zip").write_bytes(b"PK")


def no_test_list(folder):
    (folder / "test" / "filenames.pickle").unlink()


def hostile_list(folder):
    (folder / "train" / "filenames.pickle").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


def hostile_name(folder):
    (folder / "test" / "filenames.pickle").write_bytes(pickle.dumps([NAMES[6], "../../x"]))


def name_in_both(folder):
    (folder / "test" / "filenames.pickle").write_bytes(pickle.dumps(NAMES[5:]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_text, "has no captions: put a text folder there"),
        (zipped_text, "has no captions: unpack .*text.zip there"),
        (no_test_list, "test/filenames.pickle is missing, but that of the other split exists"),
        (hostile_list, "train/filenames.pickle: refused, it is not plain data: it asks for os.system"),
        (hostile_name, "test/filenames.pickle: expected a list of names such as COCO_train2014_000000000009"),
        (name_in_both, f"{NAMES[5]} is listed twice .train and test"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, spoil, message):
    folder = write_coco_metadata(tmp_path)
    spoil(folder)
    with pytest.raises(ValueError, match=message) as error:
        read_source(folder)
    assert any(finding.level == "problem" and finding.text == str(error.value) for finding in examine(folder))


def test_other_names_in_images_are_no_coco(tmp_path):
    """Lists of one's own with pictures in images are read as they were before there was COCO."""
    for split, names in (("train", ["a", "b"]), ("test", ["c"])):
        for folder in (split, "text"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / split / "filenames.pickle").write_bytes(pickle.dumps(names))
        for number, name in enumerate(names):
            write_picture(tmp_path / "images" / f"{name}.jpg", number)
            (tmp_path / "text" / f"{name}.txt").write_text("a bird\n")
    assert read_source(tmp_path).kind == "cub"


def test_doctor_of_attngans_coco(tmp_path, capsys):
    main(["data", "doctor", str(write_coco_metadata(tmp_path))])
    said = capsys.readouterr().out
    assert "COCO as AttnGAN's metadata lists it" in said and "6 training and 3 test images, 9 classes" in said
    assert "captions.pickle: not found" in said and "coco.zip" in said and "would make a pack of 9 images" in said


def test_a_list_that_is_nested_again_and_again_is_refused(tmp_path):
    """Its text is 2**60 characters long."""
    write_coco_metadata(tmp_path)
    value: list = []
    for _ in range(60):
        value = [value, value]
    for file in ("filenames.pickle", "class_info.pickle"):
        (tmp_path / "train" / file).write_bytes(pickle.dumps(value, 2))
        with pytest.raises(ValueError, match=f"{file}.*the same parts again and again"):
            read_source(tmp_path)
        (tmp_path / "train" / "filenames.pickle").write_bytes(pickle.dumps([coco_name(n) for n in range(6)], 2))
