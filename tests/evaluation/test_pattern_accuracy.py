"""Pattern accuracy: the judge knows real drawings, and the metric gives known editors the numbers they deserve."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional

from tmgan.config.runtime import decide
from tmgan.config.settings import TrainConfig
from tmgan.data.crops import centre_crops
from tmgan.data.drawn.dataset import patterned_bird, write_birds
from tmgan.data.pack import Pack
from tmgan.data.palette import PARTS, PATTERNS
from tmgan.data.prepare import prepare
from tmgan.evaluation.evaluate import quick_protocol
from tmgan.evaluation.metrics.colour_accuracy import colour_accuracy, make_test, part_masks
from tmgan.evaluation.metrics.pattern_accuracy import make_pattern_test, pattern_accuracy
from tmgan.evaluation.metrics.pattern_judge import judge
from tmgan.models.bundle import build_encoders
from tmgan.training.editor_task import EditorTask

COUNT, SEED = 40, 21


@pytest.fixture(scope="module")
def patterned(tmp_path_factory) -> Pack:
    folder = tmp_path_factory.mktemp("patterned")
    write_birds(folder / "birds", COUNT, SEED, 128, patterns=True)
    prepare(folder / "birds", folder / "pack", 64, workers=1, progress=False)
    return Pack.open(folder / "pack")


@pytest.fixture(scope="module")
def crops(patterned) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and part masks of all birds."""
    index = torch.arange(COUNT)
    return centre_crops(patterned.tiles, index, 64), part_masks(patterned.parts, index, 64)


def values(measures):
    return {name: measure.value for name, measure in measures.items()}


def test_the_judge_knows_real_drawings(patterned, crops):
    verdict, truth = judge(*crops), patterned.patterns.long()
    for k, name in enumerate(PATTERNS):
        assert (verdict[truth == k] == k).double().mean() >= 0.9, name


def test_the_judge_sees_no_colours(crops):
    images, masks = crops
    grey = torch.einsum("bchw,c->bhw", images, torch.tensor([0.299, 0.587, 0.114]))[:, None].expand_as(images)
    assert torch.equal(judge(grey, masks), judge(images, masks))


def test_grit_and_blur_are_no_patterns(patterned, crops):
    images, masks = crops
    plain = patterned.patterns == PATTERNS.index("plain")
    grit = torch.randn(COUNT, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 15 / 127.5
    assert (judge(images + grit, masks)[plain] == 0).double().mean() > 0.9
    blurred = functional.avg_pool2d(images, 9, 1, 4, count_include_pad=False)
    verdict = judge(blurred, masks)
    assert (verdict == 0).double().mean() > 0.9  # also where there were spots and stripes


def test_the_judge_does_not_need_the_size(patterned, crops):
    images, masks = crops
    large = functional.interpolate(images, (128, 128), mode="bilinear")
    verdict = judge(large, masks.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert (verdict == patterned.patterns).double().mean() > 0.9


def test_a_part_that_cannot_be_seen_has_no_pattern(crops):
    images, masks = crops
    masks = masks.clone()
    masks[:, 0] = False
    verdict = judge(images, masks)
    assert (verdict[:, 0] == -1).all() and (verdict[:, 1:] >= 0).all()


def test_copies_have_none_and_the_true_drawings_all(patterned, tmp_path):
    test = make_pattern_test(patterned, 64, COUNT)
    count = len(test.texts)
    assert count == 0.15 * COUNT
    copied = values(pattern_accuracy(test, lambda images, texts: images))
    assert copied["pattern_accuracy"] == 0 and copied["other_patterns_kept"] >= 0.9

    birds = tmp_path / "birds"  # the same birds, the held-out ones drawn as their captions now say
    shutil.copytree(Path(patterned.header["source"]), birds)
    for row, image in enumerate(patterned.test.tolist()):
        name = patterned.names[image]
        patterns = {part: PATTERNS[k] for part, k in zip(PARTS, test.patterns[row].tolist(), strict=True)}
        drawing = patterned_bird(SEED, int(name.rsplit("_", 1)[1]) - 1, 128, patterns)
        Image.fromarray(drawing.pixels).save(birds / f"CUB_200_2011/images/{name}.jpg", quality=92, subsampling=0)
    prepare(birds, tmp_path / "pack", 64, workers=1, progress=False)
    true = centre_crops(Pack.open(tmp_path / "pack").tiles, patterned.test, 64)
    best = values(pattern_accuracy(test, lambda images, texts: true, batch=count))
    assert best["pattern_accuracy"] >= 0.9 and best["other_patterns_kept"] >= 0.9


def test_the_test_is_seeded_and_its_captions_say_what_it_wants(patterned):
    test = make_pattern_test(patterned, 64, 6)
    assert test.texts == make_pattern_test(patterned, 64, 6).texts
    assert test.texts != make_pattern_test(patterned, 64, 6, seed=1).texts
    true = patterned.patterns[patterned.test[:6]].long()
    assert torch.equal((true != test.patterns).sum(1), torch.ones(6, dtype=torch.long))
    for row, text in enumerate(test.texts):
        for k, name in enumerate(PATTERNS):
            assert text.count(name) == int((test.patterns[row] == k).sum()), text


def test_colours_of_birds_with_patterns_are_measured(patterned):
    test = make_test(patterned, 64, 6)
    measured = values(colour_accuracy(test, lambda images, texts: images))
    assert measured["colour_accuracy"] == 0 and measured["others_kept"] == 1
    true = patterned.patterns[patterned.test[:6]]
    for row, text in enumerate(test.texts):
        assert all(text.count(name) == int((true[row] == k).sum()) for k, name in enumerate(PATTERNS)), text


def test_what_cannot_be_measured_is_said(patterned, pack):
    with pytest.raises(ValueError, match="data synth DIR --patterns"):
        make_pattern_test(pack, 64, 6)
    with pytest.raises(ValueError, match="held-out"):
        make_pattern_test(dataclasses.replace(patterned, test=patterned.test[:0]), 64, 6)
    with pytest.raises(FloatingPointError, match="not finite"):
        pattern_accuracy(make_pattern_test(patterned, 64, 2), lambda images, texts: images * float("nan"))
    assert "pattern_accuracy" in quick_protocol(patterned, 3).metrics
    assert "pattern_accuracy" not in quick_protocol(pack, 3).metrics


def test_a_run_on_birds_with_patterns_is_measured_by_both(patterned, tiny):
    config = dataclasses.replace(tiny, data=str(patterned.path))
    task = EditorTask(config, patterned, _encoders(config, patterned), decide(config.runtime))
    task.step(0)
    measured = task.measure(0)
    task.loader.close()
    assert measured["score"] == (measured["colour_accuracy"] + measured["pattern_accuracy"]) / 2
    assert "other_patterns_kept" in measured


def _encoders(config: TrainConfig, pack: Pack):
    made = build_encoders(config.encoder, 64, pack.vocabulary, seed=1)
    for module in (made.text, made.photo):
        module.eval().requires_grad_(False)
    return made
