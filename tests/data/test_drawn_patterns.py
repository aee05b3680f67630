"""Drawn birds with patterns: pictures, captions, lists and packs agree, and the set without patterns is untouched."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tmgan.cli import main
from tmgan.data.drawn.dataset import CAPTIONS_PER_IMAGE, bird, patterned_bird, write_birds
from tmgan.data.drawn.patterns import LUMINANCE, describe_patterned, tones
from tmgan.data.pack import Pack
from tmgan.data.palette import PALETTE, PARTS, PATTERNS
from tmgan.data.prepare import prepare

COUNT = 24
COLOURS = list(PALETTE)
SAID_AS = {"head": "head", "crown": "head", "body": "body", "belly": "body", "breast": "body", "wings": "wings"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("patterned") / "birds"
    write_birds(directory, count=COUNT, seed=5, image_size=96, patterns=True)
    return directory


def records(directory: Path) -> tuple[dict, dict]:
    return tuple(json.loads((directory / name).read_text()) for name in ("colours.json", "patterns.json"))


def test_a_bird_is_a_pure_function_of_seed_and_number(drawn, tmp_path):
    write_birds(tmp_path / "few", count=3, seed=5, image_size=96, patterns=True)
    for file in [path for path in (tmp_path / "few").rglob("*") if path.suffix in (".jpg", ".png")]:
        assert file.read_bytes() == (drawn / file.relative_to(tmp_path / "few")).read_bytes()
    colours, patterns = records(drawn)
    name = list(colours)[7]
    drawing = patterned_bird(5, 7, 96)
    assert drawing.patterns == patterns[name] and drawing.colours == colours[name]
    parts = np.asarray(Image.open(drawn / f"CUB_200_2011/parts_map/{name}.png"))
    assert np.array_equal(drawing.parts, parts)
    assert not np.array_equal(patterned_bird(6, 7, 96).pixels, drawing.pixels)


def test_a_pattern_changes_its_part_and_nothing_else():
    plain = patterned_bird(4, 0, 128, dict.fromkeys(PARTS, "plain"))
    other = patterned_bird(4, 0, 128, {**dict.fromkeys(PARTS, "plain"), "wings": "striped"})
    assert other.patterns == {"head": "plain", "body": "plain", "wings": "striped"}
    change = np.abs(plain.pixels.astype(int) - other.pixels).max(-1)
    wings = PARTS.index("wings") + 1
    assert (change[plain.parts == wings] > 40).mean() > 0.1
    grown = np.pad(plain.parts == wings, 1)  # a pixel at the border of the part is partly of it
    near = np.any([grown[y : y + 128, x : x + 128] for y in range(3) for x in range(3)], 0)
    assert change[~near].max() == 0
    assert np.array_equal(plain.parts, bird(4, 0, 128).parts)  # the same bird as in the set without patterns


def test_patterns_are_drawn_evenly_and_independently(drawn):
    patterns = [patterned_bird(9, k, 32).patterns for k in range(90)]
    for part in PARTS:
        counts = [sum(row[part] == name for row in patterns) for name in PATTERNS]
        assert min(counts) > 15, (part, counts)
    equal = np.mean([row["head"] == row["body"] for row in patterns])
    assert abs(equal - 1 / 3) < 0.2


def test_the_mean_of_a_part_is_nearest_to_its_colour():
    palette = np.array(list(PALETTE.values()))
    for index in range(60):
        drawing = patterned_bird(11, index)
        for k, part in enumerate(PARTS, 1):
            mean = drawing.pixels[drawing.parts == k].mean(0)
            assert COLOURS[int(np.linalg.norm(palette - mean, axis=1).argmin())] == drawing.colours[part], (index, part)


@pytest.mark.parametrize("colour", COLOURS)
def test_tones_can_be_told_apart(colour):
    light, dark = tones(colour)
    assert LUMINANCE @ (light - dark) > 70
    assert dark.min() >= 0 and light.max() <= 255


def test_captions_tell_the_truth(drawn):
    colours, patterns = records(drawn)
    for name in colours:
        captions = (drawn / "text" / f"{name}.txt").read_text().splitlines()
        assert len(captions) == CAPTIONS_PER_IMAGE == len(set(captions))
        for caption in captions:
            part, pattern, colour = "|".join(SAID_AS), "|".join(PATTERNS), "|".join(COLOURS)
            found = re.findall(rf"\b({pattern})(?: ({colour}))? (?:({part})\b|feathers on its (breast))", caption)
            said = [(SAID_AS[a or b], p, c) for p, c, a, b in found]
            said += [(SAID_AS[a], p, "") for a, p in re.findall(rf"\b({part}) (?:is|are) ({pattern})\b", caption)]
            assert len(said) == len(re.findall(pattern, caption)) >= 2, caption
            assert all(patterns[name][a] == p and c in ("", colours[name][a]) for a, p, c in said), caption
            assert len(re.findall(rf"\b({colour})\b", caption)) == sum(c != "" for _, _, c in said)
        assert any(not re.search(rf"\b({'|'.join(COLOURS)})\b", caption) for caption in captions)


def test_what_cannot_be_described_is_refused():
    colours, patterns = dict.fromkeys(PARTS, "red"), dict.fromkeys(PARTS, "plain")
    with pytest.raises(ValueError, match="choose 0 to 9"):
        describe_patterned(colours, patterns, 10)
    with pytest.raises(ValueError, match="the wings is 'dotted': choose one of plain"):
        describe_patterned(colours, {**patterns, "wings": "dotted"}, 0)
    with pytest.raises(ValueError, match="the tail is 'plain': choose head"):
        patterned_bird(0, 0, 64, {"tail": "plain"})


def test_a_pack_keeps_the_patterns(drawn, tmp_path):
    prepare(drawn, tmp_path / "pack", 64, workers=1, progress=False)
    pack = Pack.open(tmp_path / "pack")
    _, patterns = records(drawn)
    assert pack.patterns.dtype == torch.uint8
    for name, row in zip(pack.names, pack.patterns.tolist(), strict=True):
        assert [PATTERNS[k] for k in row] == [patterns[name][part] for part in PARTS]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table, name: table[name].update(head="dotted"), "patterns.json, .*expected one of plain.*dotted"),
        (lambda table, name: table[name].pop("head"), "patterns.json, .*for each of head"),
        (lambda table, name: table.pop(name), "patterns.json does not list"),
        (lambda table, name: table.update({name: "plain"}), 'such as .*"head": "spotted"'),
    ],
    ids=["unknown", "part missing", "bird missing", "no parts"],
)
def test_patterns_that_are_unknown_or_missing_are_refused(tmp_path, change, message):
    birds = tmp_path / "birds"
    write_birds(birds, count=3, image_size=32, patterns=True)
    table = json.loads((birds / "patterns.json").read_text())
    change(table, next(iter(table)))
    (birds / "patterns.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match=message):
        prepare(birds, tmp_path / "pack", 32, workers=1, progress=False)


def test_sets_with_and_without_patterns_replace_each_other(tmp_path, capsys):
    birds = tmp_path / "birds"
    main(["data", "synth", str(birds), "--count", "2", "--image-size", "32", "--patterns"])
    assert (birds / "patterns.json").is_file() and "2 birds" in capsys.readouterr().out
    write_birds(birds, count=2, image_size=32)
    assert not (birds / "patterns.json").exists()
    write_birds(birds, count=2, image_size=32, patterns=True)
    (birds / "patterns.json").write_text("{}")
    with pytest.raises(ValueError, match="patterns.json was changed since and would be lost"):
        write_birds(birds, count=2, image_size=32)
