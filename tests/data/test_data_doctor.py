"""`tmgan data doctor`: what a folder holds, what is missing, what was looked at, and what `prepare` would do."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image, ImageCms

from tests.data.data_folders import SIZE, name_of, textured, write_cub, write_image_folder
from tmgan.cli import main
from tmgan.data.doctor import examine


def texts_of(findings, level):
    return "\n".join(f"{finding.text} -> {finding.remedy}" for finding in findings if finding.level == level)


def test_doctor_of_a_good_folder(tmp_path):
    findings = examine(write_cub(tmp_path, masks=True))
    assert texts_of(findings, "problem") == ""
    assert "15 training and 5 test images, 4 classes" in texts_of(findings, "ok")
    assert "60 captions (3 to 3 per image" in texts_of(findings, "ok") and "20 sampled" in texts_of(findings, "ok")
    assert "captions.pickle: not found" in texts_of(findings, "warning")


def test_doctor_of_a_folder_in_disorder(tmp_path):
    folder = write_cub(tmp_path)
    images = folder / "CUB_200_2011" / "images"
    (images / f"{name_of(3)}.jpg").unlink()
    whole = (images / f"{name_of(4)}.jpg").read_bytes()
    (images / f"{name_of(4)}.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "001.Kind1" / "stray.jpg").write_bytes(whole)
    (folder / "text" / f"{name_of(7)}.txt").unlink()
    shutil.rmtree(folder / "train")
    findings = examine(folder)
    problems, warnings = texts_of(findings, "problem"), texts_of(findings, "warning")
    assert "Kind_0003.jpg" in problems and "--skip-bad" in problems
    assert "Kind_0004" in problems and "cannot be decoded" in problems
    assert "Kind_0007.txt is missing" in problems
    assert "not used: 1, such as" in warnings and "stray.jpg" in warnings
    assert "train/filenames.pickle" in warnings and "birds.zip" in warnings


def test_doctor_shows_what_is_expected(tmp_path):
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "nothing"):
        problems = texts_of(examine(folder), "problem")
        assert "DIR/train/metadata.jsonl" in problems and "bounding_boxes.txt" in problems
    assert "Unpack CUB_200_2011.tgz" in texts_of(examine(tmp_path), "problem")


ROWS = [{"file_name": f"{n}.png", "text": f"bird {n}", "split": "test" if n == 2 else "train"} for n in range(3)]


def test_doctor_says_what_it_has_checked_and_what_prepare_would_do(tmp_path):
    folder = write_image_folder(tmp_path / "a b", ROWS)
    fine = texts_of(examine(folder), "ok")
    assert "the pixels of 3 of 3 images" in fine
    assert f"`tmgan data prepare '{folder}' PACK` would make a pack of 3 images, 2 for training and 1 for" in fine
    (folder / "1.png").write_bytes(b"")
    with open(folder / "metadata.jsonl", "a") as file:
        file.write('{"text": "a bird"}\n{"file_name": "3.png", "text": null}\n{"file_name": "4.png", "text": "a"}')
    findings = examine(folder)
    problems = texts_of(findings, "problem")
    assert "2 of 6 images cannot be used" in problems and "metadata.jsonl, line 4: expected an object" in problems
    assert "3.png: metadata.jsonl, line 5: a caption is" in problems and "1 of 3 sampled pictures" in problems
    assert "missing files: 2" in problems and "the pixels of 3 of 5 images" in texts_of(findings, "ok")
    assert "would refuse; with --skip-bad it would make a pack of 2 images, 1 for training" in (
        texts_of(findings, "warning")
    )


def test_doctor_of_a_list_without_a_usable_line(tmp_path):
    (tmp_path / "metadata.jsonl").write_text("{")
    problems = texts_of(examine(tmp_path), "problem")
    assert "1 of 1 images cannot be used" in problems and "would refuse: no usable image is in the training" in problems


def test_doctor_names_metadata_that_is_not_read(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text")
    assert "metadata.csv is not read" in texts_of(examine(tmp_path), "problem")


@pytest.mark.parametrize(("row", "status"), [({}, None), ({"text": None}, 2)])
def test_doctor_ends_with_status_2_when_there_is_a_problem(tmp_path, capsys, row, status):
    write_image_folder(tmp_path, [*ROWS, {"file_name": "3.png", "text": "bird", **row}])
    if status is None:
        main(["data", "doctor", str(tmp_path)])
    else:
        with pytest.raises(SystemExit) as stopped:
            main(["data", "doctor", str(tmp_path)])
        assert stopped.value.code == status
    assert ("PROBLEM " in capsys.readouterr().out) == (status is not None)


def test_doctor_counts_pictures_that_no_line_names(tmp_path):
    folder = write_image_folder(tmp_path, [{**row, "mask": f"m/{row['file_name']}"} for row in ROWS])
    (folder / "m").mkdir()
    (folder / "notes.txt").write_text("")
    for row in ROWS:
        Image.new("1", SIZE).save(folder / "m" / row["file_name"])
    assert "no list names" not in texts_of(examine(folder), "warning")
    for name in ("m/other.JPG", "z.webp"):
        (folder / name).write_bytes(b"")
    warnings = texts_of(examine(folder), "warning")
    assert "that no list names, so not used: 2, such as m/other.JPG" in warnings


def test_doctor_counts_empty_and_full_masks(tmp_path):
    folder = write_image_folder(tmp_path, [{**row, "mask": f"{row['file_name']}.mask.png"} for row in ROWS])
    half = Image.new("1", SIZE)
    half.paste(1, (0, 0, 30, 30))
    for mask, row in zip((half, Image.new("1", SIZE), Image.new("1", SIZE, 1)), ROWS, strict=True):
        mask.save(folder / f"{row['file_name']}.mask.png")
    assert "of 3 sampled masks 1 are empty and 1 are full" in texts_of(examine(folder), "warning")
    half.save(folder / "1.png.mask.png")
    half.save(folder / "2.png.mask.png")
    assert "sampled masks" not in texts_of(examine(folder), "warning")


def test_doctor_counts_pictures_of_other_colours(tmp_path):
    folder = write_image_folder(tmp_path, [{**row, "file_name": f"{n}.jpg"} for n, row in enumerate(ROWS)])
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    textured(SIZE, 0).save(folder / "0.jpg", icc_profile=srgb)
    assert "profile" not in texts_of(examine(folder), "warning")
    textured(SIZE, 0).save(
        folder / "0.jpg", icc_profile=srgb.replace("sRGB".encode("utf-16-be"), "Wide".encode("utf-16-be"))
    )
    textured(SIZE, 0, "CMYK").save(folder / "1.jpg")
    warnings = texts_of(examine(folder), "warning")
    assert "2 of 3 sampled pictures have a colour profile other than sRGB, or CMYK pixels, such as 0.jpg" in warnings
    assert "profiles are not applied when preparing" in warnings


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"class": "finch"}, "all training images are of one class"),
        ({"text": "A bird."}, "all captions of training images are equal"),
        ({"split": "test"}, "a single image is for training"),
    ],
)
def test_doctor_says_when_there_is_too_little_to_compare(tmp_path, change, warning):
    rows = [{**row, **change} for row in ROWS]
    rows[0]["split"] = "train"
    warnings = texts_of(examine(write_image_folder(tmp_path / "alike", rows)), "warning")
    others = {
        "all training images are of one class",
        "all captions of training images are equal",
        "a single image is for training",
    } - {warning}
    assert warning in warnings and not any(other in warnings for other in others)
    warnings = texts_of(examine(write_image_folder(tmp_path / "fine", ROWS)), "warning")
    assert warnings == ""
