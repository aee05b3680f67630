"""Runs against each other: which differences are real, on which photos, and what cannot be compared."""

from __future__ import annotations

import dataclasses
import math
import shutil

import pytest
import torch

from tests.conftest import write_run
from tmgan.data.prepare import prepare
from tmgan.data.vocabulary import Vocabulary
from tmgan.editing.editor import load
from tmgan.evaluation.comparison import FEWEST, compare_runs, difference
from tmgan.evaluation.evaluate import evaluate
from tmgan.evaluation.metrics.measure import Measure, compare
from tmgan.evaluation.protocol import Protocol
from tmgan.models.bundle import build_encoders

FEW = Protocol(metrics=("sharpness", "mask_score", "mp_damsm"), count=6)


@pytest.mark.parametrize(
    "better, shift, noise, verdict",
    [
        ("lower", -1.0, 0.0, "better"),
        ("lower", 1.0, 0.0, "worse"),
        ("higher", 1.0, 0.1, "better"),
        ("higher", -1.0, 0.1, "worse"),
        ("", 1.0, 0.1, "higher"),
        ("", -1.0, 0.1, "lower"),
        ("lower", 0.01, 1.0, "cannot be told"),
        ("lower", 0.0, 0.0, "the same"),
    ],
)
def test_a_difference_counts_when_its_paired_interval_leaves_out_0(better, shift, noise, verdict):
    first = [10.0 * k for k in range(20)]  # photos differ far more than the two runs
    second = [v + shift + noise * (-1) ** k for k, v in enumerate(first)]
    result = difference(Measure.of(first, better=better), Measure.of(second, better=better))
    assert result.verdict == verdict
    assert (result.why != "") == (verdict == "cannot be told")


def test_few_photos_tell_nothing():
    """All of five photos agree by chance alone once in sixteen comparisons."""
    assert difference(Measure.of([0.0] * FEWEST), Measure.of([1.0] * FEWEST)).verdict == "higher"
    few = difference(Measure.of([0.0] * FEWEST), Measure.of([1.0] * (FEWEST - 1) + [math.nan]))
    assert few.verdict == "cannot be told" and "5 photos" in few.why and few.change.value == 1
    assert difference(Measure.of([0.0]), Measure.of([1.0])).verdict == "cannot be told"


def test_what_has_no_pairs_is_not_judged():
    whole = difference(Measure(3.0, 9, better="lower"), Measure(1.0, 9, better="lower"))
    assert whole.change is None and whole.verdict == "cannot be told" and "whole set" in whole.why
    exact = Measure.of([0.0] * 9, statistic="psnr", better="higher")
    assert difference(exact, exact).verdict == "the same"
    worse = difference(exact, Measure.of([0.1] * 9, statistic="psnr", better="higher"))
    assert worse.verdict == "worse" and worse.change.to_json() == {"value": None, "low": None, "high": None, "n": 9}


def test_the_numbers_are_those_of_evaluate_on_the_same_photos(runs, pack):
    comparison = compare_runs(runs, protocol=FEW)
    first, second = (evaluate(load(run), pack, FEW) for run in runs)
    assert list(comparison.runs) == ["a", "b"] and comparison.first == "a"
    assert comparison.runs["b"].evaluation["sharpness"] == second["sharpness"]
    change = comparison.differences["b"]["sharpness"].change
    assert change == compare(first["sharpness"], second["sharpness"]) and change.n == 6 and change.value != 0
    assert comparison.differences["b"]["sharpness_photo"].verdict == "the same"
    assert comparison.differences["b"]["mp_damsm"].change is not None
    assert comparison.pack == pack.path and comparison.own_pack and comparison.notes == ()
    assert comparison.settings() == {"images": [24, 48], "seed": [0, 5]}
    a, b = (run.edits for run in comparison.runs.values())
    assert torch.equal(a.photos, b.photos) and a.texts == b.texts and not torch.equal(a.edits, b.edits)
    assert sorted(n for names in comparison.by_verdict("b").values() for n in names) == sorted(first)


def test_other_encoders_are_other_judges(runs, tiny, pack, tmp_path):
    others = build_encoders(tiny.encoder, 64, pack.vocabulary, seed=2)
    third = write_run(tmp_path / "c", tiny, others)
    judged = ("mp_damsm", "rmp_damsm", "r_precision")
    of = compare_runs([*runs, third], protocol=dataclasses.replace(FEW, metrics=judged)).differences
    for name in (*judged, "mp_similarity", "mp_similarity_photo"):
        assert of["c"][name].change is None and "encoders" in of["c"][name].why
    assert of["c"]["mp_difference"].change is not None and of["b"]["mp_damsm"].change is not None


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    for name in "xy":
        shutil.copytree(runs[0], tmp_path / name / "run")
    names = compare_runs([tmp_path / "x" / "run", tmp_path / "y" / "run"], protocol=FEW).runs
    assert list(names) == ["x/run", "y/run"]


def test_another_pack_is_compared_on_only_when_it_is_named(runs, tiny, pack, birds, tmp_path):
    """The same photos, cut elsewhere."""
    prepare(birds, tmp_path / "corner", image_size=64, workers=1, progress=False, placement="topleft")
    config = dataclasses.replace(tiny, data=str(tmp_path / "corner"))
    third = write_run(tmp_path / "c", config, load(runs[0]).encoders)
    with pytest.raises(ValueError, match="a was trained on .* and c on .*corner, which has other photos.*--data"):
        compare_runs([runs[0], third], protocol=FEW)
    comparison = compare_runs([runs[0], third], data=pack.path, protocol=FEW)
    assert not comparison.own_pack
    (note,) = comparison.notes
    assert f"c was not trained on {pack.path}, as far as can be told: it may have seen the photos" in note
    shutil.rmtree(tmp_path / "corner")
    with pytest.raises(ValueError, match="pack that c was trained on is not known .*or cannot be read.*--data"):
        compare_runs([runs[0], third], protocol=FEW)


def test_words_that_a_run_lacks_are_told(runs, tiny, pack, tmp_path):
    words = pack.vocabulary.words
    others = [Vocabulary(words[:-2]), Vocabulary((*words, "zebra"))]
    lacks, knows = (
        write_run(tmp_path / name, tiny, build_encoders(tiny.encoder, 64, vocabulary, seed=1))
        for name, vocabulary in zip(("lacks", "knows"), others, strict=True)
    )
    with pytest.raises(ValueError, match="lacks was trained with other words than those of .*--data"):
        compare_runs([runs[0], lacks], protocol=FEW)
    (note,) = compare_runs([runs[0], lacks, knows], data=pack.path, protocol=FEW).notes
    assert note == f"lacks does not know 2 of the {len(words)} words of {pack.path}, and leaves them out."


def test_what_cannot_be_compared_is_refused_before_anything_is_measured(runs, tiny, encoders, pack, tmp_path):
    def refused(*given, protocol: Protocol = FEW) -> str:
        with pytest.raises(ValueError) as error:
            compare_runs(given, protocol=protocol)
        return str(error.value)

    assert "two runs or more" in refused(runs[0])
    (tmp_path / "link").symlink_to(runs[0])
    assert "are the same run" in refused(runs[0], runs[1], tmp_path / "link")
    assert "no generator.safetensors" in refused(runs[0], pack.path)
    assert "no run folder" in refused(runs[0], tmp_path / "none")
    large = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, image_size=128))
    eyes = build_encoders(tiny.encoder, 128, pack.vocabulary, seed=1)
    assert "64 pixels and large of 128" in refused(runs[0], write_run(tmp_path / "large", large, eyes))
    assert "FID and KID need 2 photos" in refused(*runs, protocol=Protocol(metrics=("fid",), count=1, weights="random"))
