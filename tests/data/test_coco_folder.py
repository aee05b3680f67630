"""COCO's own layout: captions_*.json and pictures in any of the places they unpack to, and what is wrong with them."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from tests.data.data_folders import SIZE, captions_of, coco_json, coco_name, number_of, write_coco, write_picture
from tmgan.cli import main
from tmgan.data.doctor import examine
from tmgan.data.originals import Originals
from tmgan.data.pack import Pack
from tmgan.data.prepare import prepare
from tmgan.data.sources.read import read_source

TRAIN, VAL = "annotations/captions_train2014.json", "annotations/captions_val2014.json"


def change(folder, edit, file=TRAIN):
    table = json.loads((folder / file).read_text())
    edit(table)
    (folder / file).write_text(json.dumps(table))
    return folder


def small(folder, rows, name="captions_train.json", place="images"):
    """A folder of one's own: (file name, captions) pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": f"i{number}", "file_name": file} for number, (file, _) in enumerate(rows)]
    annotations = [{"image_id": f"i{n}", "caption": text} for n, (_, texts) in enumerate(rows) for text in texts]
    (folder / name).write_text(json.dumps({"images": images, "annotations": annotations}))
    for number, (file, _) in enumerate(rows):
        write_picture(folder / place / file, number)
    return folder


def problems_of(source):
    return {item.name: item.problem for item in source.items if item.problem}


@pytest.mark.parametrize("where", ["", "images"])
def test_coco_as_it_unpacks(tmp_path, where):
    source = read_source(write_coco(tmp_path, where=where))
    assert source.kind == "coco" and source.notes == () and source.unreadable == {}
    assert [item.split for item in source.items] == ["train"] * 6 + ["test"] * 3
    for number, item in enumerate(source.items):
        split = "train2014" if number < 6 else "val2014"
        assert item.name == f"{where}/{split}/{coco_name(number, split)}.jpg".lstrip("/")
        assert sorted(item.captions) == captions_of(number, 5) and item.problem == "" and item.image.is_file()
        assert item.class_id == number and item.box is None and item.mask is None
    assert source.class_names == {} and source.vocabulary is None


def test_pictures_may_be_together_in_images(tmp_path):
    folder = write_coco(tmp_path)
    (folder / "images").mkdir()
    for split in ("train2014", "val2014"):
        for file in (folder / split).iterdir():
            shutil.move(file, folder / "images" / file.name)
        (folder / split).rmdir()
    source = read_source(folder)
    assert [item.split for item in source.items] == ["train"] * 6 + ["test"] * 3
    assert all(item.image.is_file() and item.name.startswith("images/COCO_") for item in source.items)


def test_a_pack_of_coco(tmp_path):
    """Pictures and captions stay together, their number may vary, and the whole picture's shorter side is scaled."""
    folder = write_coco(tmp_path / "coco")
    change(folder, lambda table: table["annotations"].pop(0))
    prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False)
    pack = Pack.open(tmp_path / "pack")
    assert len(pack.train) == 6 and len(pack.test) == 3 and pack.header["kind"] == "coco"
    assert (pack.first.diff() == 5).sum() == 8 and (pack.first.diff() == 4).sum() == 1
    for row in range(9):
        assert number_of(pack.tiles[row, 38, 38]) == row
        assert f"bird{row}" in pack.caption(int(pack.first[row])).split()
    again = prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False)
    assert again.already_prepared


def test_a_small_folder_of_one_file(tmp_path):
    rows = [(f"{number}.png", [f"bird {number}"] * (1 + number % 3)) for number in range(60)]
    source = read_source(small(tmp_path, rows))
    test = [item.name for item in source.items if item.split == "test"]
    assert 1 < len(test) < 15 and [item.split for item in source.items] == ["train"] * (60 - len(test)) + [
        "test"
    ] * len(test)
    assert {item.name: len(item.captions) for item in source.items} == {f"images/{n}.png": 1 + n % 3 for n in range(60)}
    assert [item.class_id for item in source.items] == list(range(60))
    (note,) = source.notes
    assert "captions_train.json is the only captions_*.json" in note and "a tenth" in note


def test_split_names_of_ones_own_files(tmp_path):
    folder = small(tmp_path, [("0.png", ["a red bird"]), ("1.png", ["a bird"])], "captions_my_Train.json")
    small(folder, [("2.png", ["a blue bird"])], "captions_dev.json")
    source = read_source(folder)
    assert {item.name: item.split for item in source.items} == {
        "images/0.png": "train",
        "images/1.png": "train",
        "images/2.png": "test",
    }
    assert source.notes == ()


def test_exif_is_obeyed_in_pictures_of_ones_own(tmp_path):
    folder = small(tmp_path / "a", [(f"{n}.jpg", ["a bird"]) for n in range(3)])
    picture, exif = Image.new("RGB", SIZE, "red"), Image.Exif()
    exif[0x0112] = 6
    picture.paste((0, 0, 255), (0, 0, 20, SIZE[1]))
    picture.save(folder / "images" / "0.jpg", exif=exif.tobytes())
    prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False)
    pack = Pack.open(tmp_path / "pack")
    tile = pack.tiles[pack.names.index("images/0.jpg")]
    assert tile[8, 38, 2] > 200 > 100 > tile[70, 38, 2]  # what was left is on top
    originals = Originals.open(pack)  # loaders that decode the files again do the same
    assert originals.exif and originals.sizes[pack.names.index("images/0.jpg")].tolist() == [SIZE[1], SIZE[0]]


def no_caption(table):
    gone = table["images"][2]["id"]
    table["annotations"] = [row for row in table["annotations"] if row["image_id"] != gone]


def caption_of_another_kind(table):
    next(row for row in table["annotations"] if row["image_id"] == 1002)["caption"] = ["a bird"]


def captions_without_words(table):
    for row in table["annotations"]:
        if row["image_id"] == 1002:
            row["caption"] = "..."


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (no_caption, "no caption with a word in captions_train2014.json, image id 1002"),
        (captions_without_words, "no caption with a word in captions_train2014.json, image id 1002"),
        (caption_of_another_kind, "a caption is a string, found ['a bird']"),
    ],
)
def test_a_bad_caption_costs_its_image(tmp_path, edit, problem):
    source = read_source(change(write_coco(tmp_path), edit))
    assert list(problems_of(source)) == [f"train2014/{coco_name(2)}.jpg"]
    assert problem in problems_of(source)[f"train2014/{coco_name(2)}.jpg"] and len(source.items) == 9


def test_a_missing_picture_costs_its_image(tmp_path):
    folder = write_coco(tmp_path / "coco")
    (folder / "train2014" / f"{coco_name(0)}.jpg").unlink()
    with pytest.raises(ValueError, match=f"1 of 9 images cannot be used:\n.*{coco_name(0)}.jpg is missing"):
        prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False)
    summary = prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False, skip_bad=True)
    assert summary.images == 8 and list(summary.skipped) == [f"train2014/{coco_name(0)}.jpg"]
    assert any("missing files: 1" in finding.text for finding in examine(folder))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"id": 1, "file_name": "../x.jpg"}, "'../x.jpg' is not a path inside"),
        ({"id": 1, "file_name": "/etc/x.jpg"}, "'/etc/x.jpg' is not a path inside"),
        ({"id": 1, "file_name": "C:\\x.jpg"}, "is not a path inside"),
        ({"id": 1, "file_name": "..\\x.jpg"}, "is not a path inside"),
        ({"id": 1, "file_name": "a\0.jpg"}, "is not a path inside"),
        ({"id": 1, "file_name": ""}, "is not a path inside"),
        ({"id": 1, "file_name": "\ud800.jpg"}, "is not text"),
        ({"id": 1, "file_name": "a" * 300}, "cannot be the name of a file"),
        ({"id": 1, "file_name": 7}, "expected an object such as"),
        ({"id": True, "file_name": "x.jpg"}, "expected an object such as"),
        ({"file_name": "x.jpg"}, "expected an object such as"),
        ("x.jpg", "expected an object such as"),
    ],
)
def test_an_image_that_is_no_file_is_unreadable(tmp_path, row, problem):
    source = read_source(change(write_coco(tmp_path), lambda table: table["images"].insert(0, row)))
    (said,) = source.unreadable.items()
    assert said[0].startswith("captions_train2014.json, image ") and problem in said[1]
    assert len(source.items) == 9 and problems_of(source) == {}


def twice(table):
    table["images"].append({"id": 5, "file_name": table["images"][0]["file_name"]})


def id_twice(table):
    table["images"][1]["id"] = table["images"][0]["id"]


def other_ids(table):
    for row in table["annotations"]:
        row["image_id"] = str(row["image_id"])


def instances(table):
    for row in table["annotations"]:
        row.pop("caption")
        row["segmentation"] = []


def no_images(table):
    del table["images"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (twice, r"is listed twice, first as captions_train2014.json, image id 1000: an image belongs to one split"),
        (id_twice, "two images have the id 1000 .*get the file again"),
        (other_ids, "none of its captions is of one of its images"),
        (instances, "annotation 1: expected an image_id and a caption.*another kind of annotations"),
        (no_images, "expected an object with images and annotations"),
        (lambda table: table.update(images={}), "expected an object with images and annotations"),
        (lambda table: table["annotations"].append(7), "annotation 31: expected an image_id and a caption, found 7"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path, edit, message):
    folder = change(write_coco(tmp_path), edit)
    with pytest.raises(ValueError, match=message) as error:
        read_source(folder)
    assert str(error.value).startswith(str(folder / TRAIN))
    assert any(finding.level == "problem" and finding.text == str(error.value) for finding in examine(folder))


def test_a_damaged_file_is_refused(tmp_path):
    folder = write_coco(tmp_path)
    whole = (folder / TRAIN).read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"[" * 100_000, whole.replace(b"bird1", b"bird\xff"), b"[]"):
        (folder / TRAIN).write_bytes(data)
        with pytest.raises(ValueError, match="captions_train2014.json: (not JSON|expected an object)"):
            read_source(folder)


def test_a_picture_in_both_splits_is_refused(tmp_path):
    folder = small(tmp_path, [("0.png", ["a red bird"]), ("1.png", ["a bird"])], "captions_train.json")
    small(folder, [("1.png", ["a bird"])], "captions_val.json")
    with pytest.raises(ValueError, match="1.png .image id i0. is listed twice, first as captions_train.json"):
        read_source(folder)


def test_years_are_not_mixed(tmp_path):
    folder = write_coco(tmp_path)
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(coco_json([7], "val2017")))
    with pytest.raises(ValueError, match="val2017.json.* is of 2017|is of 2014, .*val2017.json of 2017"):
        read_source(folder)


def test_a_name_that_says_no_split_is_refused(tmp_path):
    folder = write_coco(tmp_path)
    (folder / TRAIN).rename(folder / "annotations" / "captions_mine.json")
    with pytest.raises(ValueError, match="captions_mine.json: its name does not say what it is for"):
        read_source(folder)


def test_pictures_that_were_not_unpacked(tmp_path):
    folder = write_coco(tmp_path)
    shutil.rmtree(folder / "val2014")
    with pytest.raises(ValueError, match="val2014.json: none of its 3 pictures is there.*val2014.*elsewhere"):
        read_source(folder)
    (folder / VAL).unlink()
    assert len(read_source(folder).items) == 6


def test_captions_of_images_that_are_not_listed_are_counted(tmp_path):
    source = read_source(change(write_coco(tmp_path), lambda table: table["images"].pop()))
    assert len(source.items) == 8 and "captions of images that it does not list, left out: 5" in source.notes[0]


def test_annotations_without_captions_are_named(tmp_path):
    folder = write_coco(tmp_path / "coco")
    with pytest.raises(ValueError, match=r"has no captions_\*.json, but .*coco has: name that folder"):
        read_source(tmp_path)
    for file in (TRAIN, VAL):
        (folder / file).rename(folder / file.replace("captions", "instances"))
    (folder / "images").mkdir()
    with pytest.raises(ValueError, match=r"holds instances_train2014.json, but no captions_\*.json"):
        read_source(folder)


def test_a_folder_of_two_layouts_says_which_is_read(tmp_path):
    folder = write_coco(tmp_path)
    (folder / "metadata.jsonl").write_text(
        json.dumps({"file_name": f"train2014/{coco_name(0)}.jpg", "text": "a red bird"})
    )
    source = read_source(folder)
    assert source.kind == "imagefolder" and source.notes[0] == "read as an image folder; not read: a COCO folder"


def test_doctor_of_coco(tmp_path, capsys):
    folder = write_coco(tmp_path / "coco")
    main(["data", "doctor", str(folder)])
    said = capsys.readouterr().out
    assert "a COCO folder: captions in" in said and "6 training and 3 test images, 9 classes" in said
    assert "45 captions (5 to 5 per image" in said and "would make a pack of 9 images, 6 for training" in said
    assert "warning" not in said
    with pytest.raises(SystemExit):
        main(["data", "doctor", str(tmp_path / "none")])
    assert "annotations/captions_train2014.json" in capsys.readouterr().out
