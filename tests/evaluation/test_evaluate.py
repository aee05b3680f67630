"""`evaluate`: pairing, per-image numbers against their definitions, intervals, paired comparison, JSON."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
import shlex
import shutil
import typing

import numpy as np
import pytest
import scipy.stats
import torch

from tmgan.cli import data_masks, main
from tmgan.cli.parse import parse_run
from tmgan.common.commands import command
from tmgan.config.methods import MASK_PROVIDERS, MethodConfig
from tmgan.config.settings import ModelConfig, TrainConfig
from tmgan.data.crops import centre_crops
from tmgan.data.masks import mask_path
from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor
from tmgan.evaluation import evaluate as evaluate_module
from tmgan.evaluation.evaluate import Evaluation, baselines, describe, evaluate, quick_protocol, table
from tmgan.evaluation.metrics.edits import eight_bit, make_edits, make_pairs
from tmgan.evaluation.metrics.measure import Measure, compare
from tmgan.evaluation.metrics.per_image import PerImage
from tmgan.evaluation.protocol import Protocol
from tmgan.methods import mask_providers
from tmgan.methods.mask_providers import ClipSegMasks, FcnMasks
from tmgan.models.stages import GeneratorOutput
from tmgan_kernels import change_mask

PER_IMAGE = ("mask_score", "sharpness", "preserved")


class _Shift(torch.nn.Module):
    """Brightens every photo by 10 levels."""

    def forward(self, noise, sentence, words, padding, eps, features, image):
        return GeneratorOutput(image + 10 / 127.5, torch.ones(1, words.shape[2], 16, 16), eps, eps, None)


@pytest.fixture
def shift(editor) -> Editor:
    return Editor(_Shift(), editor.encoders, editor.config, editor.runtime)


# --- photos and captions ---


def test_pairs_follow_the_seed_and_small_sets_are_part_of_large_ones(pack):
    few, many = make_pairs(pack, "train", 5, "other", 0), make_pairs(pack, "train", 20, "other", 0)
    for name in ("image", "own", "target"):
        assert torch.equal(getattr(few, name), getattr(many, name)[:5])
    assert not torch.equal(many.image, make_pairs(pack, "train", 20, "other", 1).image)
    assert len(make_pairs(pack, "test", 10**6, "own", 0)) == len(pack.test)
    assert set(make_pairs(pack, "test", 10**6, "own", 0).image.tolist()) == set(pack.test.tolist())


def test_own_caption_or_one_of_another_class(pack):
    pairs = make_pairs(pack, "train", 30, "other", 3)
    of = torch.bucketize(pairs.target, pack.first[1:], right=True)
    assert (pack.class_ids[of] != pack.class_ids[pairs.image]).all()
    assert set(of.tolist()) <= set(pack.train.tolist())
    own = make_pairs(pack, "train", 30, "own", 3)
    assert torch.equal(torch.bucketize(own.target, pack.first[1:], right=True), own.image)
    assert torch.equal(own.image, pairs.image) and torch.equal(own.own, pairs.own)
    one_class = dataclasses.replace(pack, class_ids=torch.zeros_like(pack.class_ids))
    pairs = make_pairs(one_class, "train", 30, "other", 3)
    assert (torch.bucketize(pairs.target, pack.first[1:], right=True) != pairs.image).all()
    with pytest.raises(ValueError, match="--split train"):
        make_pairs(dataclasses.replace(pack, test=pack.test[:1]), "test", 5, "other", 0)


# --- numbers against their definitions ---


def test_every_image_has_the_numbers_of_the_definitions(editor, pack):
    protocol = Protocol(metrics=PER_IMAGE, count=5, batch=2, split="train")
    evaluation = evaluate(editor, pack, protocol)
    pairs = make_pairs(pack, "train", 5, "other", 0)
    photos = centre_crops(pack.tiles, pairs.image, 64)
    texts = [pack.caption(int(c)) for c in pairs.target]
    edits = torch.cat([editor.edit_tensors(photos[i : i + 2], texts[i : i + 2]).image for i in (0, 2, 4)])
    edits = ((edits + 1) * 127.5).round().clamp(0, 255)
    levels = ((photos + 1) * 127.5).round()
    keep = {
        "dataset": 1 - centre_crops(pack.masks, pairs.image, 64, (0.0, 1.0)),
        "histogram": change_mask(levels, edits, (0, 255), eight_bit=True).float(),
    }
    assert evaluation.images == tuple(pack.names[int(i)] for i in pairs.image)
    for name, mask in keep.items():
        squared = ((levels - edits) * mask).square().mean((1, 2, 3))
        assert evaluation[f"mask_score/{name}"].values == pytest.approx(squared.tolist(), rel=1e-5)
        assert evaluation[f"mask_score/{name}"].value == pytest.approx(squared.mean().item(), rel=1e-5)
        inside = ((levels - edits) / 255).square().mul(mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
        inside[mask.mean((1, 2, 3)) < 0.01] = math.nan
        assert evaluation[f"preserved_mse/{name}"].values == pytest.approx(inside.tolist(), rel=1e-4, nan_ok=True)
    grey = torch.nn.functional.pad(edits.mean(1), (1, 1, 1, 1))
    laplacian = (
        grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * grey[:, 1:-1, 1:-1]
    )
    assert evaluation["sharpness"].values == pytest.approx(laplacian.abs().mean((1, 2)).tolist(), rel=1e-5)


def test_copies_and_shifts_score_what_they_must(editor, shift, pack):
    protocol = Protocol(metrics=PER_IMAGE, count=4)
    copied = evaluate(baselines(editor)["input copied"], pack, protocol)
    assert copied["mask_score/dataset"].value == 0 and copied["preserved_psnr/dataset"].value == math.inf
    assert copied["sharpness"].values == copied["sharpness_photo"].values
    moved = evaluate(shift, pack, dataclasses.replace(protocol, masks=("dataset",)))
    # Photos clipped at white move by less, none by more.
    assert 0.9 * 100 < moved["mask_score/dataset"].value / moved["kept/dataset"].value <= 100.01
    assert moved["preserved_psnr/dataset"].value == pytest.approx(20 * math.log10(255 / 10), abs=0.3)
    assert not any("histogram" in name for name in moved)


def test_stored_masks_score_too(editor, packed, tmp_path):
    """What `tmgan data masks` has put into the pack; here masks equal to the true ones, so scores must be equal too."""
    shutil.copytree(packed, tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    mask_path(pack.path, "fcn").write_bytes(pack.masks.numpy().tobytes())
    record = {"pack": pack.hash, "about": {"weights": "random"}}
    mask_path(pack.path, "fcn").with_suffix(".json").write_text(json.dumps(record))
    evaluation = evaluate(editor, pack, Protocol(metrics=("mask_score",), count=3))
    assert evaluation["mask_score/fcn"] == evaluation["mask_score/dataset"] != evaluation["mask_score/histogram"]
    assert "fcn: the stored masks were found with random weights" in describe(evaluation)


def test_edits_are_measured_as_their_files_would_be(editor, pack):
    batch = next(make_edits(editor, pack, make_pairs(pack, "train", 3, "own", 0), (), 0, 8))
    levels = (batch.edits + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-4 and len(levels.round().unique()) > 20
    rounded = eight_bit(torch.tensor([-1.2, -1.0, 0.0, 1.0, 1.7]))
    assert rounded.tolist() == pytest.approx([-1, -1, 1 / 255, 1, 1], abs=1e-6)
    with pytest.raises(FloatingPointError, match="not finite"):
        eight_bit(torch.tensor([math.nan]))


def test_an_empty_region_has_no_number(editor, pack):
    nothing = dataclasses.replace(pack, masks=torch.full_like(pack.masks, 255))
    evaluation = evaluate(editor, nothing, Protocol(metrics=("preserved",), masks=("dataset",), count=3))
    measure = evaluation["preserved_mse/dataset"]
    assert math.isnan(measure.value) and measure.n == 0 and "no image" in describe(evaluation)
    assert math.isnan(Measure.from_json(json.loads(json.dumps(measure.to_json()))).value)


# --- intervals and comparison ---


def test_interval_is_that_of_the_bootstrap():
    values = np.random.default_rng(0).gamma(2.0, size=300)
    measure = Measure.of(values.tolist())
    wanted = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9999, random_state=1
    ).confidence_interval
    assert (measure.low, measure.high) == pytest.approx((wanted.low, wanted.high), rel=0.01)
    assert measure == Measure.of(values.tolist())
    weighted = Measure.of([1.0, math.nan, 3.0], weights=[3, 5, 1])
    assert weighted.value == 1.5 and weighted.n == 2
    psnr = Measure.of([0.01, 0.03], statistic="psnr")
    assert psnr.value == pytest.approx(-10 * math.log10(0.02)) and psnr.low == pytest.approx(-10 * math.log10(0.03))


def test_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(5)
    hits = [m.low <= 0 <= m.high for m in (Measure.of(random.normal(size=60).tolist()) for _ in range(100))]
    assert 87 <= sum(hits) <= 100


def test_paired_comparison_sees_what_intervals_of_each_do_not():
    random = np.random.default_rng(2)
    hard = random.gamma(1.0, 100.0, size=80)
    one, other = Measure.of(hard.tolist()), Measure.of((hard * 0.9 + random.normal(size=80)).tolist())
    assert other.high > one.low  # the intervals overlap widely
    difference, share = compare(one, other), compare(one, other, relative=True)
    assert difference.distinct and difference.high < 0 and difference.n == 80
    assert difference.value == pytest.approx(other.value - one.value)
    assert share.value == pytest.approx(other.value / one.value - 1) and -0.12 < share.low < share.high < -0.08
    assert not compare(one, one).distinct
    partly = Measure.of([math.nan, *hard[1:]])
    assert compare(partly, other).n == 79
    nowhere = compare(Measure.of([math.nan] * 80), other)
    assert nowhere.n == 0 and math.isnan(nowhere.value) and not nowhere.distinct
    for wrong in (Measure.of(hard[:5].tolist()), Measure(1.0, 80)):
        with pytest.raises(ValueError, match="on the same images"):
            compare(wrong, other)


# --- the whole ---


def test_round_trip_through_json(editor, pack, tmp_path):
    for name, model in {"trained": editor, **baselines(editor)}.items():
        evaluation = evaluate(model, pack, Protocol(metrics=(*PER_IMAGE, "colour_accuracy"), count=3))
        evaluation.save(tmp_path / name)
        back = Evaluation.load(tmp_path / name)
        assert repr(back) == repr(evaluation)  # by repr: NaN equals itself
    (tmp_path / "other.json").write_text("{}")
    for path in (tmp_path / "other.json", tmp_path / "none.json"):
        with pytest.raises(ValueError, match="holds no evaluation"):
            Evaluation.load(path)


def test_what_cannot_be_measured_is_said_or_refused(editor, pack):
    plain = dataclasses.replace(pack, parts=None, masks=None)
    evaluation = evaluate(editor, plain, Protocol(count=3))
    assert "colour_accuracy" in evaluation.skipped and "mask_score/histogram" in evaluation
    assert "mask_score/dataset" not in evaluation and "Not measured: colour_accuracy" in describe(evaluation)
    with pytest.raises(ValueError, match="drawn birds"):
        evaluate(editor, plain, Protocol(metrics=("colour_accuracy",), count=3))
    with pytest.raises(ValueError, match="it has histogram"):
        evaluate(editor, plain, Protocol(masks=("dataset",), count=3))
    for wrong, message in (
        ({"metrics": ("fud",)}, "no metric 'fud'"),
        ({"count": 0}, "use 1 or more"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Protocol(**wrong)


class _Late:
    """A metric that finds out at the end that it cannot be measured."""

    sees_edits = True

    def add(self, batch):
        pass

    def measures(self, show):
        raise ValueError("Too few photos.")


def test_a_metric_that_fails_at_the_end_takes_no_other_with_it(editor, pack, monkeypatch):
    changed = tuple((n, (lambda *_: _Late()) if "sharpness" in n else b) for n, b in evaluate_module._BUILDERS)
    monkeypatch.setattr(evaluate_module, "_BUILDERS", changed)
    evaluation = evaluate(editor, pack, Protocol(count=3))
    assert evaluation.skipped["sharpness"] == "Too few photos." and "sharpness" not in evaluation
    assert "mask_score/dataset" in evaluation and "Not measured: sharpness. Too few photos." in describe(evaluation)
    with pytest.raises(ValueError, match="Too few photos"):
        evaluate(editor, pack, Protocol(metrics=("sharpness",), count=3))


def test_a_measure_that_one_model_lacks_is_a_dash(editor, pack):
    first = evaluate(editor, pack, Protocol(metrics=("sharpness",), count=2))
    second = dataclasses.replace(first, measures={"sharpness_photo": first["sharpness_photo"]})
    row = next(line for line in table({"a": first, "b": second}).splitlines() if line.startswith("sharpness "))
    assert row.split()[2] == "-"


def test_one_photo_has_all_numbers_but_distances(editor, pack, monkeypatch):
    """Of one photo in the split, or of one that is asked for; nothing is edited for what cannot be measured."""
    single = dataclasses.replace(pack, test=pack.test[:1])
    for protocol, of in ((Protocol(captions="own"), single), (Protocol(count=1), pack)):
        evaluation = evaluate(editor, of, dataclasses.replace(protocol, weights_dir="nowhere"))
        assert {"mask_score/dataset", "sharpness", "colour_accuracy", "mp_damsm"} <= set(evaluation)
        assert "Not measured: fid, kid. FID and KID need 2 photos or more, and 1 is measured." in describe(evaluation)
        assert describe(evaluation).startswith("1 photo of the test split, centre crops, ")
    monkeypatch.setattr(Editor, "edit_tensors", None)
    for name in ("fid", "kid"):
        with pytest.raises(ValueError, match="2 photos or more"):
            evaluate(editor, pack, Protocol(count=1, metrics=(name,)))
    with pytest.raises(ValueError, match=r"holds 1 photo, .* --split train, or its own caption with --captions own"):
        evaluate(editor, single, Protocol())


def test_damaged_masks_are_left_out_unless_they_are_asked_for(editor, own):
    """One cut short, one without a record, one whole."""
    record = json.dumps({"pack": own.hash, "about": {"weights": "trained"}})
    for name, size in (("fcn", 5), ("clipseg", None), ("whole", None)):
        mask_path(own.path, name).write_bytes(own.masks.numpy().tobytes()[:size])
        if name != "clipseg":
            mask_path(own.path, name).with_suffix(".json").write_text(record)
    evaluation = evaluate(editor, own, Protocol(metrics=("mask_score",), count=2))
    assert evaluation.skipped == {
        "masks fcn": "masks-fcn.u8 is damaged, or belongs to another pack.",
        "masks clipseg": "masks-clipseg.u8 has no record masks-clipseg.json beside it.",
    }
    names = {name for name in evaluation if name.startswith("mask_score/")}
    assert names == {f"mask_score/{mask}" for mask in ("dataset", "histogram", "whole")}
    assert "Not measured: masks fcn. masks-fcn.u8 is damaged" in describe(evaluation)
    assert not evaluate(editor, own, Protocol(metrics=("mask_score",), count=2, masks=("whole",))).skipped
    again = re.escape(command("data", "masks", own.path, "--provider"))
    for name, message in (
        ("fcn", "is damaged"),
        ("clipseg", f"no record .*\n  {again} clipseg"),
        ("mine", "can make fcn"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(editor, own, Protocol(masks=(name,), count=2))


def test_the_names_of_mask_providers_are_the_same_everywhere():
    """Literals, which cannot be made from a tuple, repeat them."""
    hints = (
        (typing.get_type_hints(MethodConfig)["keep_mask"], ("none", "dataset", "histogram", "own")),
        (typing.get_type_hints(data_masks.Arguments)["provider"], ()),
    )
    for hint, others in hints:
        assert set(typing.get_args(hint)) == {*others, *MASK_PROVIDERS}
    assert {FcnMasks.name, ClipSegMasks.name} == set(MASK_PROVIDERS)
    assert all(name in inspect.getsource(Protocol) for name in MASK_PROVIDERS), "its help lists them"
    with pytest.raises(ValueError, match="dataset, fcn or clipseg, or switch it off"):
        TrainConfig(model=ModelConfig(keep_input=True))


class _Bright:
    """A mask provider: the object is what is brighter than mid-grey."""

    name, about = "clipseg", {"weights": "random"}

    def __call__(self, images, texts, span=1.0):
        return (images.mean(1, keepdim=True) > 0).float()


def test_the_command_after_data_masks_fits_the_pack(own, capsys, monkeypatch):
    monkeypatch.setattr(mask_providers, "make_provider", lambda *_: _Bright())
    main(["data", "masks", str(own.path), "--provider", "clipseg", "--weights", "random", "--runtime.threads", "1"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Next: tmgan train "))
    settings = parse_run(TrainConfig, shlex.split(line)[3:], "train", preset=True)
    assert settings.model.image_size == 64 and settings.data == str(own.path)
    assert settings.method.keep_mask == "clipseg"


def test_the_cheap_metrics_need_nothing_but_the_run(editor, pack):
    evaluation = evaluate(editor, pack, quick_protocol(pack, 3))
    assert "colour_accuracy" in evaluation and not evaluation.skipped
    plain = dataclasses.replace(pack, parts=None, test=pack.test[:0])
    assert quick_protocol(plain, 3).split == "train" and "colour_accuracy" not in quick_protocol(plain, 3).metrics
    text = table({"a": evaluation, "b": evaluation})
    assert "mask_score/dataset" in text and "higher is better" in text and " to " in text


class _Brightness(PerImage):
    """A metric that a user could write."""

    def of_batch(self, batch):
        return {"brightness": batch.edits.mean((1, 2, 3))}

    def measure(self, name, values):
        return Measure.of(values, unit="of [-1, 1]")


def test_a_metric_of_ones_own_is_measured_beside_the_others(editor, pack):
    protocol = Protocol(metrics=("sharpness",), count=3)
    evaluation = evaluate(editor, pack, protocol, own=[_Brightness()])
    assert {*evaluation} == {"brightness", "sharpness", "sharpness_photo"}
    edits = next(make_edits(editor, pack, make_pairs(pack, "test", 3, "other", 0), (), 0, 64)).edits
    assert evaluation["brightness"].values == pytest.approx(edits.mean((1, 2, 3)).tolist())
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


def test_what_to_measure_on_follows_from_the_run(editor, pack, tmp_path):
    """The pack it was trained on, or the birds it drew; an editor from nowhere needs one."""
    assert evaluate(editor, None, Protocol(metrics=("sharpness",), count=2)).pack_hash == pack.hash
    nowhere = Editor(editor.generator, editor.encoders, dataclasses.replace(editor.config, data=""), editor.runtime)
    with pytest.raises(ValueError, match="give a pack"):
        evaluate(nowhere)
    nowhere.run = tmp_path
    with pytest.raises(ValueError, match="does not say what it was trained on.*--data PACK"):
        evaluate(nowhere)
