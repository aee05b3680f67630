"""Oxford-102 flowers: images are numbered, and their classes are not in the order of the numbers."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter

import numpy as np
import pytest
from scipy.io import savemat

from tests.data.data_folders import captions_of, flower_class, number_of, write_cub, write_flowers, write_picture
from tmgan.cli import main
from tmgan.data.doctor import examine
from tmgan.data.pack import Pack
from tmgan.data.prepare import prepare
from tmgan.data.sources.read import read_source

REED = ("trainvalclasses.txt", "testclasses.txt")


def remove(folder, *names):
    for name in names:
        (folder / name).unlink()
    return folder


def numbers_of(source, split):
    return sorted(int(item.name.removeprefix("image_")) for item in source.items if item.split == split)


def test_reeds_split_by_class(tmp_path):
    source = read_source(write_flowers(tmp_path))
    assert source.kind == "flowers" and not source.exif and source.notes == ()
    assert numbers_of(source, "test") == [n for n in range(1, 13) if flower_class(n) == 4]
    assert len(source.items) == 12 and [item.split for item in source.items].index("test") == 9
    for item in source.items:
        number = int(item.name.removeprefix("image_"))
        assert item.class_id == flower_class(number) and item.captions == tuple(captions_of(number, 4))
        assert item.image.is_file() and item.problem == ""
    assert source.class_names == {n: f"class_{n:05d}" for n in range(1, 5)}


def test_a_pack_of_flowers(tmp_path):
    prepare(write_flowers(tmp_path / "flowers"), tmp_path / "pack", image_size=64, workers=1, progress=False)
    pack = Pack.open(tmp_path / "pack")
    for row, name in enumerate(pack.names):
        number = int(name.removeprefix("image_"))
        assert number_of(pack.tiles[row, 38, 38]) == number and int(pack.class_ids[row]) == flower_class(number)
        assert f"bird{number}" in pack.caption(int(pack.first[row])).split()
    assert len(pack.train) == 9 and len(pack.test) == 3


def test_torchvisions_folder(tmp_path):
    """Its own files are in flowers-102; Reed's lie in the folder that was named, or beside it."""
    whole = read_source(write_flowers(tmp_path, jpg="flowers-102/jpg"))
    assert all(item.image.is_file() for item in whole.items) and len(whole.items) == 12
    inner = read_source(tmp_path / "flowers-102")
    assert [(i.name, i.captions, i.split, i.class_id) for i in inner.items] == [
        (i.name, i.captions, i.split, i.class_id) for i in whole.items
    ]


def test_oxfords_own_split_is_said_in_a_note(tmp_path):
    source = read_source(remove(write_flowers(tmp_path), *REED))
    assert numbers_of(source, "train") == [1, 2, 3, 4, 5, 6] and numbers_of(source, "test") == [7, 8, 9, 10, 11, 12]
    (note,) = source.notes
    assert "setid.mat" in note and "trnid and valid are for training (6)" in note and "testing (6)" in note


@pytest.mark.parametrize("prefix", ["", "jpg/"])
def test_the_split_of_filenames_pickle(tmp_path, prefix):
    folder = remove(write_flowers(tmp_path), *REED)
    for split, numbers in (("train", [9, 2, 4]), ("test", [1, 12])):
        (folder / split).mkdir()
        names = [f"{prefix}image_{number:05d}" for number in numbers]
        (folder / split / "filenames.pickle").write_bytes(pickle.dumps(names, 2))
    source = read_source(folder)
    assert [item.name for item in source.items] == [f"image_{number:05d}" for number in (9, 2, 4, 1, 12)]
    assert [item.class_id for item in source.items] == [flower_class(number) for number in (9, 2, 4, 1, 12)]
    assert [item.split for item in source.items] == ["train"] * 3 + ["test"] * 2 and source.notes == ()
    words = ["<end>", "tulip", "rose"]
    value = [[[1], [2], [1, 2]], [[2], [1]], dict(enumerate(words)), {word: n for n, word in enumerate(words)}]
    (folder / "captions.pickle").write_bytes(pickle.dumps(value))
    shutil.rmtree(folder / "text_c10")
    source = read_source(folder)
    assert [item.captions for item in source.items] == [("tulip",), ("rose",), ("tulip rose",), ("rose",), ("tulip",)]
    write_flowers(folder)
    assert any("not read: " in note and "captions.pickle" in note for note in read_source(folder).notes)


def test_classes_follow_from_the_captions_without_labels(tmp_path):
    folder = write_flowers(tmp_path)
    before = read_source(folder)
    source = read_source(remove(folder, "imagelabels.mat"))
    assert source.items == before.items and source.listing_hash() == before.listing_hash()
    for file in sorted((folder / "text_c10").rglob("*.txt")):
        shutil.move(file, folder / "text_c10" / file.name)
    with pytest.raises(ValueError, match="give image_00001 no split: its class is unknown"):
        read_source(folder)
    source = read_source(remove(folder, *REED))
    assert len({item.class_id for item in source.items}) == 12 and source.class_names == {}
    assert "every image is its own class" in source.notes[1]


def test_captions_without_class_folders_have_the_labels(tmp_path):
    folder = write_flowers(tmp_path)
    before = read_source(folder)
    for file in sorted((folder / "text_c10").rglob("*.txt")):
        shutil.move(file, folder / "text_c10" / file.name)
    assert read_source(folder).items == before.items


def test_what_is_missing_costs_its_image(tmp_path):
    folder = write_flowers(tmp_path / "flowers")
    remove(folder, "jpg/image_00002.jpg", f"text_c10/class_{flower_class(3):05d}/image_00003.txt")
    with pytest.raises(ValueError, match="2 of 12 images cannot be used"):
        prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False)
    summary = prepare(folder, tmp_path / "pack", image_size=64, workers=1, progress=False, skip_bad=True)
    assert summary.images == 10 and summary.skipped["image_00002"].endswith("image_00002.jpg is missing")
    assert f"class_{flower_class(3):05d}/image_00003.txt is missing" in summary.skipped["image_00003"]


def one_test_list(folder):
    remove(folder, "testclasses.txt")


def unlisted_class(folder):
    (folder / "trainvalclasses.txt").write_text("class_00003\nclass_00001\n")


def class_in_both(folder):
    (folder / "testclasses.txt").write_text("class_00004\nclass_00001\n")


def class_list_of_names(folder):
    (folder / "testclasses.txt").write_text("tulip\n")


def shifted_labels(folder):
    labels = [[flower_class(number) for number in (1, 3, 2, *range(4, 13))]]
    savemat(folder / "imagelabels.mat", {"labels": np.array(labels, np.uint8)})


def no_matlab_file(folder):
    (folder / "imagelabels.mat").write_bytes(b"<!doctype html>" * 20)


def cut_off(folder):
    file = folder / "imagelabels.mat"
    file.write_bytes(file.read_bytes()[:150])


def other_arrays(folder):
    savemat(folder / "imagelabels.mat", {"distances": np.eye(3)})


def labels_of_text(folder):
    savemat(folder / "imagelabels.mat", {"labels": np.array(["a", "b"])})


def fractions(folder):
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1.5, 2.0]])})


def set_with_an_image_twice(folder):
    remove(folder, *REED)
    savemat(folder / "setid.mat", {"trnid": [[1, 2]], "valid": [[2]], "tstid": [[3]]})


def set_beyond_the_labels(folder):
    remove(folder, *REED)
    savemat(folder / "setid.mat", {"trnid": [[1, 2]], "valid": [[3]], "tstid": [[13]]})


def set_without_a_part(folder):
    remove(folder, *REED)
    savemat(folder / "setid.mat", {"trnid": [[1, 2]], "tstid": [[3]]})


def no_split(folder):
    remove(folder, *REED, "setid.mat")


def no_captions(folder):
    shutil.rmtree(folder / "text_c10")


def packed_captions(folder):
    no_captions(folder)
    (folder / "cvpr2016_flowers.tar.gz").write_bytes(b"")


def two_captions(folder):
    (folder / "text_c10" / "class_00009").mkdir()
    (folder / "text_c10" / "class_00009" / "image_00001.txt").write_text("a flower")


def no_pictures(folder):
    shutil.rmtree(folder / "jpg")


def listed(*names):
    def spoil(folder):
        remove(folder, *REED)
        for split in ("train", "test"):
            (folder / split).mkdir()
            (folder / split / "filenames.pickle").write_bytes(pickle.dumps(["image_00001"]))
        (folder / "train" / "filenames.pickle").write_bytes(pickle.dumps(list(names)))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_test_list, "testclasses.txt is missing, but the list of the other split exists"),
        (unlisted_class, "no split: its class, class_00002, is in neither list"),
        (class_in_both, "testclasses.txt, line 2: class_00001 is in the list of the other split too"),
        (class_list_of_names, "testclasses.txt, line 1: expected a class such as class_00001, found 'tulip'"),
        (shifted_labels, "imagelabels.mat: class . is class_0000., but the captions of image_0000. are in class_0000."),
        (no_matlab_file, "imagelabels.mat: not a readable Matlab file"),
        (cut_off, "imagelabels.mat: not a readable Matlab file"),
        (other_arrays, "imagelabels.mat: expected labels, of whole numbers"),
        (labels_of_text, "imagelabels.mat: expected labels, of whole numbers"),
        (fractions, "imagelabels.mat: expected labels, of whole numbers"),
        (set_with_an_image_twice, "setid.mat: image 2 is in two of its sets"),
        (set_beyond_the_labels, "setid.mat: tstid holds image 13, but imagelabels.mat has 12 images"),
        (set_without_a_part, "setid.mat: expected trnid and valid and tstid"),
        (no_split, "has no split: put Reed's trainvalclasses.txt and testclasses.txt there"),
        (no_captions, "has no captions: put Reed's text_c10 folder there"),
        (packed_captions, "has no captions: unpack .*cvpr2016_flowers.tar.gz there"),
        (two_captions, "image_00001.txt are captions of one image"),
        (no_pictures, "jpg is missing: unpack 102flowers.tgz there"),
        (listed("../image_00002"), "train/filenames.pickle: expected a list of names such as image_00001"),
        (listed("/image_00002"), "train/filenames.pickle: expected a list of names such as image_00001"),
        (listed("tulip"), "expected a list of names such as image_00001, found 'tulip'"),
        (listed("image_00013"), "imagelabels.mat has 12 images, but image_00013 is listed"),
        (listed("image_00000"), "imagelabels.mat has 12 images, but image_00000 is listed"),
        (listed("image_00001"), "image_00001 is listed twice .train and test"),
        (listed("image_00002", "jpg/image_00002"), "image_00002 is listed twice .train and train"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, spoil, message):
    folder = write_flowers(tmp_path)
    spoil(folder)
    with pytest.raises(ValueError, match=message) as error:
        read_source(folder)
    assert any(finding.level == "problem" and finding.text == str(error.value) for finding in examine(folder))


def test_a_jpg_folder_of_something_else_is_no_flowers(tmp_path):
    write_picture(tmp_path / "jpg" / "cat.jpg", 0)
    with pytest.raises(ValueError, match="neither CUB_200_2011/images nor metadata.jsonl"):
        read_source(tmp_path)


def test_flowers_laid_out_as_cub_are_read_as_before(tmp_path):
    """With Oxford's lists beside them."""
    folder = write_cub(tmp_path / "flowers")
    (folder / "CUB_200_2011" / "images").rename(folder / "images")
    shutil.rmtree(folder / "CUB_200_2011")
    savemat(folder / "imagelabels.mat", {"labels": np.ones((1, 5))})
    assert read_source(folder).kind == "cub"


def test_lists_that_would_not_fit_into_memory_are_refused(tmp_path):
    folder = write_flowers(tmp_path)
    savemat(folder / "imagelabels.mat", {"labels": np.ones((1, 200_000), np.uint8)}, do_compression=True)
    with pytest.raises(ValueError, match="imagelabels.mat: expected labels"):
        read_source(folder)


def test_doctor_of_flowers(tmp_path, capsys):
    folder = write_flowers(tmp_path)
    main(["data", "doctor", str(folder)])
    said = capsys.readouterr().out
    assert "Oxford-102 flowers: images in" in said and "9 training and 3 test images, 4 classes" in said
    assert "would make a pack of 12 images" in said and "warning" not in said
    main(["data", "doctor", str(remove(folder, *REED, "imagelabels.mat"))])
    said = Counter(line[:8].strip() for line in capsys.readouterr().out.splitlines())
    assert said["warning"] == 3  # no labels, no published split, and the note about Oxford's
