"""Which photos a command edits and which files it writes: nothing that is read is overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tmgan.editing.batch import find_photos, plan


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


def planned(photos, out, masks=None, with_keep=False, with_attention=False, several=True, with_seeds=False):
    return plan(photos, out, several, masks, with_keep, with_attention, with_seeds)


def names(items) -> list[list[str]]:
    return [[path.name for path in item.outputs] for item in items]


def test_what_is_no_photo_in_a_folder_is_counted_and_named(tmp_path):
    touch(tmp_path, "a.jpg", "Z.PNG", "._a.jpg", ".b.png", "photo.heic", "notes.txt", "a.keep.png", "a.composited.webp")
    touch(tmp_path, "a.seeds.png")
    (tmp_path / "more.jpg").mkdir()
    photos, notes = find_photos([tmp_path])
    assert [photo.name for photo in photos] == ["Z.PNG", "a.jpg"]
    assert notes == [
        f"left out in {tmp_path}, as no photos to edit: 7 files (._a.jpg, .b.png, a.composited.webp, a.keep.png, "
        "a.seeds.png and 2 more)."
    ]


def test_a_photo_that_is_named_is_one_whatever_its_name(tmp_path):
    photos = touch(tmp_path, "a.keep.jpg", ".hidden.png", "photo.heic")
    assert find_photos(photos) == (photos, [])


def test_a_photo_that_is_named_twice_is_edited_once(tmp_path):
    (photo,) = touch(tmp_path / "in", "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert len(find_photos([photo, tmp_path / "in", tmp_path / "link" / "a.jpg"])[0]) == 1


def test_one_missing_photo_among_several_is_for_later(tmp_path):
    (photo,) = touch(tmp_path, "a.jpg")
    assert find_photos([photo, tmp_path / "none.jpg"])[0] == [photo, tmp_path / "none.jpg"]
    with pytest.raises(ValueError, match=r"no photo .*none.jpg"):
        find_photos([tmp_path / "none.jpg"])


def test_a_folder_without_photos_among_several_paths_is_said(tmp_path):
    (photo,) = touch(tmp_path / "in", "a.jpg")
    (tmp_path / "empty").mkdir()
    photos, notes = find_photos([tmp_path / "empty", photo])
    assert photos == [photo] and "empty holds no pictures" in notes[0]
    with pytest.raises(ValueError, match="holds no pictures"):
        find_photos([tmp_path / "empty"])
    touch(tmp_path / "empty", "photo.heic")
    with pytest.raises(ValueError, match=r"1 file \(photo.heic\)"):
        find_photos([tmp_path / "empty"])


def test_photos_of_one_name_get_pictures_of_their_own(tmp_path):
    photos = touch(tmp_path / "in", "a.jpg", "a.png", "b.jpg")
    assert names(planned(photos, tmp_path)) == [["a.jpg.png"], ["a.png.png"], ["b.png"]]


def test_names_that_extra_pictures_take_count_too(tmp_path):
    photos = touch(tmp_path / "in", "a.jpg", "a.keep.jpg", "a.attention.jpg")
    assert names(planned(photos, tmp_path)) == [["a.png"], ["a.keep.png"], ["a.attention.png"]]
    made = names(planned(photos[:2], tmp_path, with_keep=True))
    assert made[0] == ["a.jpg.png", "a.jpg.composited.png", "a.jpg.keep.png"]
    assert made[1][0] == "a.keep.jpg.png" and len({name for written in made for name in written}) == 6
    (one,) = planned(photos[:1], tmp_path, with_attention=True, with_seeds=True)
    assert names([one]) == [["a.png", "a.attention.png", "a.seeds.png"]]
    made = names(planned([photos[0], photos[2]], tmp_path, with_attention=True))
    assert made == [["a.jpg.png", "a.jpg.attention.png"], ["a.attention.jpg.png", "a.attention.jpg.attention.png"]]


def test_what_would_still_be_written_twice_is_refused(tmp_path):
    photos = touch(tmp_path / "x", "a.jpg") + touch(tmp_path / "y", "a.jpg")
    with pytest.raises(ValueError, match=r"x/a.jpg and .*y/a.jpg would both be written to .*a.jpg.png"):
        planned(photos, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").symlink_to("c.png")
    photos = touch(tmp_path / "z", "b.jpg", "c.jpg")
    assert names(planned(photos, out)) == [["b.jpg.png"], ["c.jpg.png"]]  # b.png is c.png


@pytest.mark.parametrize("how", ["itself", "link", "linked folder", "hard link"])
def test_a_photo_is_never_overwritten(tmp_path, how):
    (photo,) = touch(tmp_path / "in", "a.png")
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "a.png"
    if how == "itself":
        target = photo
    elif how == "link":
        target.symlink_to(photo)
    elif how == "linked folder":
        (tmp_path / "link").symlink_to(tmp_path / "in")
        target = tmp_path / "link" / "a.png"
    else:
        os.link(photo, target)
    with pytest.raises(ValueError, match="--out would overwrite the photo .*in/a.png; choose"):
        planned([photo], target, several=False)
    with pytest.raises(ValueError, match="--out would overwrite the photo"):
        planned([photo], target.parent)


def test_extra_pictures_overwrite_nothing_either(tmp_path):
    photos = touch(tmp_path, "a.composited.png", "a.attention.png")
    assert names(planned(photos[:1], tmp_path / "a.png", several=False)) == [["a.png"]]
    for photo, extra in ((photos[0], {"with_keep": True}), (photos[1], {"with_attention": True})):
        with pytest.raises(ValueError, match=f"overwrite the photo .*{photo.name}"):
            planned([photo], tmp_path / "a.png", several=False, **extra)


def test_a_mask_is_never_overwritten(tmp_path):
    (photo,) = touch(tmp_path / "in", "a.jpg")
    masks = touch(tmp_path / "masks", "a.png", "a.keep.png")
    with pytest.raises(ValueError, match="overwrite the mask .*masks/a.png"):
        planned([photo], tmp_path / "masks", masks=tmp_path / "masks", with_keep=True)
    with pytest.raises(ValueError, match="overwrite the mask .*masks/a.keep.png"):
        planned([photo], tmp_path / "masks" / "a.webp", masks=masks[1], with_keep=True, several=False)


def test_each_photo_has_its_mask(tmp_path):
    photos = touch(tmp_path / "in", "a.jpg", "a.png", "b.jpg")
    masks = tmp_path / "masks"
    touch(masks, "a.png", "a.jpg.png")
    found = [item.mask for item in planned(photos, tmp_path / "out", masks=masks, with_keep=True)]
    assert found == [masks / "a.jpg.png", masks / "a.png", masks / "b.png"]
