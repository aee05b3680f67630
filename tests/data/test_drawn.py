"""Drawn birds: the files say what the pictures show, and the same seed always draws the same set."""

import errno
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tmgan.data.drawn.birds import OTHER, SPECIES
from tmgan.data.drawn.dataset import CAPTIONS_PER_IMAGE, bird, describe, write_birds
from tmgan.data.drawn.drawing import MINIMUM_SHARE
from tmgan.data.palette import PALETTE, PARTS

COUNT = 120
NAMES = list(PALETTE)
SAID_AS = {"head": ("head", "crown"), "body": ("body", "belly", "breast"), "wings": ("wings",)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    directory = tmp_path_factory.mktemp("synthetic") / "birds"
    write_birds(directory, count=COUNT, seed=5)
    return directory


def lines(directory: Path, name: str) -> list[list[str]]:
    return [line.split() for line in (directory / "CUB_200_2011" / name).read_text().splitlines()]


def pixels(directory: Path, folder: str, name: str, suffix: str) -> np.ndarray:
    return np.asarray(Image.open(directory / "CUB_200_2011" / folder / (name + suffix)))


def names_of(directory: Path) -> list[str]:
    return [name.removesuffix(".jpg") for _, name in lines(directory, "images.txt")]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def nearest_colour(region: np.ndarray) -> str:
    distance = np.linalg.norm(np.array(list(PALETTE.values())) - region.mean(0), axis=1)
    return NAMES[int(distance.argmin())]


# --- pictures -------------------------------------------------------------------------------------------------------


def test_every_part_has_the_colour_it_is_said_to_have(drawn):
    colours = json.loads((drawn / "colours.json").read_text())
    assert list(colours) == names_of(drawn)
    for name, expected in colours.items():
        picture, parts = pixels(drawn, "images", name, ".jpg"), pixels(drawn, "parts_map", name, ".png")
        assert {part: nearest_colour(picture[parts == k]) for k, part in enumerate(PARTS, 1)} == expected, name


def test_colours_stay_clear_at_the_small_size():
    for index in range(300):
        drawing = bird(seed=11, index=index, image_size=64)
        for k, part in enumerate(PARTS, 1):
            region = drawing.pixels[drawing.parts == k]
            assert nearest_colour(region) == drawing.colours[part], (index, part)


def test_every_part_of_every_bird_can_be_seen(drawn):
    for name, (_, _, _, width, height) in zip(names_of(drawn), lines(drawn, "bounding_boxes.txt"), strict=True):
        parts = pixels(drawn, "parts_map", name, ".png")
        area = float(width) * float(height)
        for label in range(1, len(PARTS) + 1):
            assert (parts == label).sum() >= MINIMUM_SHARE * area, (name, PARTS[label - 1])


def test_all_colours_species_and_both_directions_occur(drawn):
    colours = json.loads((drawn / "colours.json").read_text())
    for part in PARTS:
        assert {colour[part] for colour in colours.values()} == set(NAMES)
    assert {name.split("/")[0] for name in colours} == {f"{k:03d}.{s.name}" for k, s in enumerate(SPECIES, 1)}
    looks_right = []
    for name in names_of(drawn):
        if "Owl" not in name:  # it looks at you
            parts = pixels(drawn, "parts_map", name, ".png")
            head, wings = (np.nonzero(parts == PARTS.index(part) + 1)[1].mean() for part in ("head", "wings"))
            looks_right.append(head > wings)
    assert 0.3 < np.mean(looks_right) < 0.7


def test_parts_have_independent_colours(drawn):
    drawings = json.loads((drawn / "colours.json").read_text()).values()
    for part, other in (("head", "body"), ("head", "wings"), ("body", "wings")):
        equal = np.mean([colours[part] == colours[other] for colours in drawings])
        assert abs(equal - 1 / len(NAMES)) < 4 * np.sqrt(1 / 8 * 7 / 8 / COUNT)


# --- files ----------------------------------------------------------------------------------------------------------


def test_mask_is_the_union_of_the_parts_and_the_box_is_tight(drawn):
    for name, (_, *box) in zip(names_of(drawn), lines(drawn, "bounding_boxes.txt"), strict=True):
        mask, parts = pixels(drawn, "segmentations", name, ".png"), pixels(drawn, "parts_map", name, ".png")
        assert mask.dtype == parts.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
        assert set(np.unique(parts)) == {0, *range(1, len(PARTS) + 1), OTHER}
        assert np.array_equal(mask == 255, parts > 0)
        rows, columns = np.nonzero(mask)
        x, y, width, height = map(float, box)
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)


def test_the_published_tile_crop_fits_into_the_image(drawn):
    for _, *box in lines(drawn, "bounding_boxes.txt"):
        x, y, width, height = map(float, box)
        reach = int(0.75 * max(width, height))
        assert 0.44 * 128 <= max(width, height) <= 0.61 * 128
        for centre in (int((2 * x + width) / 2), int((2 * y + height) / 2)):
            assert reach <= centre <= 128 - reach


def test_cub_lists_agree(drawn):
    names = names_of(drawn)
    ids = [str(k) for k in range(1, COUNT + 1)]
    labels, splits = lines(drawn, "image_class_labels.txt"), lines(drawn, "train_test_split.txt")
    for rows in (lines(drawn, "images.txt"), labels, splits, lines(drawn, "bounding_boxes.txt")):
        assert [row[0] for row in rows] == ids
    classes = dict(lines(drawn, "classes.txt"))
    assert [name.split("/")[0] for name in names] == [classes[label] for _, label in labels]
    for split, is_train in (("train", "1"), ("test", "0")):
        expected = [k for k in range(COUNT) if splits[k][1] == is_train]
        raw = (drawn / split / "filenames.pickle").read_bytes()
        assert raw[:2] == b"\x80\x02"  # protocol 2, as in the AttnGAN metadata
        assert pickle.loads(raw) == [names[k] for k in expected]
        class_info = pickle.loads((drawn / split / "class_info.pickle").read_bytes())
        assert class_info == [int(labels[k][1]) for k in expected]
    assert [row[1] for row in splits].count("0") == 0.15 * COUNT
    assert len(contents(drawn)) == 4 * COUNT + 5 + 4 + 2


# --- captions -------------------------------------------------------------------------------------------------------


def said(caption: str) -> list[tuple[str, str]]:
    """Every (part, colour) that a caption states."""
    colour, part = "|".join(NAMES), "|".join(word for words in SAID_AS.values() for word in words)
    pairs = [(word, shade) for shade, word in re.findall(rf"\b({colour}) ({part})\b", caption)]
    pairs += re.findall(rf"\b({part}) (?:that )?(?:is|are) ({colour})\b", caption)
    return [(next(p for p, words in SAID_AS.items() if word in words), shade) for word, shade in pairs]


def test_captions_tell_the_truth(drawn):
    colours = json.loads((drawn / "colours.json").read_text())
    for name in names_of(drawn):
        captions = (drawn / "text" / (name + ".txt")).read_text().splitlines()
        assert captions == [describe(colours[name], variant) for variant in range(CAPTIONS_PER_IMAGE)]
        pairs = [pair for caption in captions for pair in said(caption)]
        assert len(pairs) == sum(len(re.findall("|".join(NAMES), caption)) for caption in captions)
        assert all(colours[name][part] == colour for part, colour in pairs)
        for part in PARTS:
            assert [p for p, _ in pairs].count(part) >= 3


def test_variants_differ_and_four_name_all_parts():
    colours = {"head": "red", "body": "orange", "wings": "blue"}
    captions = [describe(colours, variant) for variant in range(CAPTIONS_PER_IMAGE)]
    assert CAPTIONS_PER_IMAGE == len(set(captions)) == 10
    assert all({part for part, _ in said(caption)} == set(PARTS) for caption in captions[:4])
    words = [len(re.findall(r"\w+", caption)) for caption in captions]
    assert 1 <= sum(count > 18 for count in words) <= 3
    assert "an orange body" in captions[1] and not any("a orange" in caption for caption in captions)


@pytest.mark.parametrize("variant", [-1, 10])
def test_describe_refuses_an_unknown_variant(variant):
    with pytest.raises(ValueError, match="choose 0 to 9"):
        describe({"head": "red", "body": "red", "wings": "red"}, variant)


@pytest.mark.parametrize("colours", [{"head": "pink", "body": "red", "wings": "red"}, {"head": "red", "wings": "red"}])
def test_describe_refuses_colours_it_cannot_name(colours):
    with pytest.raises(ValueError, match="choose one of red"):
        describe(colours, 0)


# --- determinism ----------------------------------------------------------------------------------------------------


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        write_birds(tmp_path / name, count=12, seed=3, image_size=64)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_a_small_set_is_the_beginning_of_a_large_one(drawn, tmp_path):
    write_birds(tmp_path / "small", count=30, seed=5)
    small, large = contents(tmp_path / "small"), contents(drawn)
    for name, data in small.items():
        if Path(name).suffix in (".jpg", ".png") or name.startswith("text"):
            assert large[name] == data, name
        elif name.endswith(".txt"):
            assert large[name].startswith(data), name


def test_another_seed_draws_other_birds():
    assert not np.array_equal(bird(0, 0, 64).pixels, bird(1, 0, 64).pixels)
    assert not np.array_equal(bird(0, 0, 64).pixels, bird(0, 1, 64).pixels)


# --- nothing half-written -------------------------------------------------------------------------------------------


def test_an_earlier_set_is_replaced(tmp_path):
    write_birds(tmp_path / "birds", count=8, seed=0, image_size=32)
    write_birds(tmp_path / "birds", count=4, seed=1, image_size=32)
    assert len(names_of(tmp_path / "birds")) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]


def test_foreign_files_are_never_touched(tmp_path):
    write_birds(tmp_path / "birds", count=2, image_size=32)
    (tmp_path / "birds" / "notes.txt").write_text("mine")
    before = contents(tmp_path / "birds")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        write_birds(tmp_path / "birds", count=2, image_size=32)
    assert contents(tmp_path / "birds") == before
    with pytest.raises(ValueError, match="is a file"):
        write_birds(tmp_path / "birds" / "notes.txt", count=2, image_size=32)


def test_what_was_added_or_changed_inside_a_set_is_not_lost(tmp_path):
    birds = tmp_path / "birds"
    write_birds(birds, count=2, image_size=32)
    (birds / "CUB_200_2011" / "images" / "mine.jpg").write_text("mine")
    with pytest.raises(ValueError, match=r"CUB_200_2011/images/mine.jpg was not drawn and would be lost"):
        write_birds(birds, count=2, image_size=32)
    (birds / "CUB_200_2011" / "images" / "mine.jpg").unlink()
    mine = birds / "text" / "mine"
    for make in (Path.mkdir, lambda path: path.symlink_to(tmp_path)):
        make(mine)
        with pytest.raises(ValueError, match="text/mine was not drawn and would be lost"):
            write_birds(birds, count=2, image_size=32)
        mine.rename(tmp_path / f"kept {make.__name__}")
    caption = next((birds / "text").rglob("*.txt"))
    caption.write_text("a bird that I have described\n")
    os.utime(caption, ns=(10**18, 10**18))  # whatever its time says
    with pytest.raises(ValueError, match=f"{caption.name} was changed since and would be lost"):
        write_birds(birds, count=2, image_size=32)


@pytest.mark.parametrize("name", ["colours.json", "drawn.json", "CUB_200_2011/images.txt"])
def test_lists_that_were_changed_are_not_lost_either(tmp_path, name):
    birds = tmp_path / "birds"
    write_birds(birds, count=2, image_size=32)
    for content in ("null", "{", ""):
        (birds / name).write_text(content)
        with pytest.raises(ValueError, match=f"{name} was changed since and would be lost"):
            write_birds(birds, count=2, image_size=32)


@pytest.mark.parametrize("before", [True, False], ids=["there is a set", "there is none"])
def test_what_is_added_while_birds_are_drawn_is_not_lost(tmp_path, before):
    birds = tmp_path / "birds"
    if before:
        write_birds(birds, count=1, image_size=32)

    def add(done: int, count: int) -> None:
        birds.mkdir(exist_ok=True)
        (birds / "mine.txt").write_text("mine")

    with pytest.raises(ValueError, match=r"mine.txt"):
        write_birds(birds, count=1, image_size=32, progress=add)
    assert (birds / "mine.txt").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["birds"]


def test_a_copy_is_as_good(tmp_path):
    write_birds(tmp_path / "birds", count=2, image_size=32)
    shutil.copytree(tmp_path / "birds", tmp_path / "copy", copy_function=shutil.copyfile)  # without times
    write_birds(tmp_path / "copy", count=1, image_size=32)
    write_birds(tmp_path / "new", count=1, image_size=32)
    assert contents(tmp_path / "copy") == contents(tmp_path / "new")


def test_a_set_of_an_earlier_version_is_not_replaced(tmp_path):
    birds = tmp_path / "birds"
    write_birds(birds, count=1, image_size=32)
    (birds / "drawn.json").unlink()
    with pytest.raises(ValueError, match=r"has no drawn.json, so what was changed since is not known: .* delete it"):
        write_birds(birds, count=1, image_size=32)


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    (tmp_path / ".birds[1].drawing-abc" / "new").mkdir(parents=True)
    others = [".birds1.drawing-abc", ".birds[1].mine"]
    for name in others:
        (tmp_path / name).mkdir()
    write_birds(tmp_path / "birds[1]", count=1, image_size=32)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*others, "birds[1]"]


def test_without_locks_the_drawing_of_another_process_stays(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / ".birds.drawing-abc").mkdir()
    write_birds(tmp_path / "birds", count=1, image_size=32)
    write_birds(tmp_path / "new" / "birds", count=1, image_size=32)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".birds.drawing-abc", "birds", "new"]


def test_an_interrupted_run_leaves_the_earlier_set(tmp_path):
    write_birds(tmp_path / "birds", count=3, image_size=32)
    before = contents(tmp_path / "birds")

    def interrupt(done: int, count: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    for name in ("birds", "new"):
        with pytest.raises(KeyboardInterrupt):
            write_birds(tmp_path / name, count=5, seed=9, image_size=32, progress=interrupt)
    assert contents(tmp_path / "birds") == before
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]


def test_progress_counts_every_image(tmp_path):
    calls = []
    write_birds(tmp_path / "birds", count=3, image_size=32, progress=lambda done, count: calls.append((done, count)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("wrong", [{"count": 0}, {"image_size": 16}, {"seed": -1}])
def test_bad_arguments_are_named(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        write_birds(tmp_path / "birds", **{"count": 1, "image_size": 32, **wrong})
    assert not (tmp_path / "birds").exists()
