"""R-precision: its candidates, its definition written out, of edits and of the encoders themselves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tmgan.config.runtime import decide
from tmgan.data.crops import centre_crops
from tmgan.evaluation.evaluate import baselines, evaluate
from tmgan.evaluation.metrics.edits import make_edits, make_pairs
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.r_precision import Candidates, RPrecision, wrong_captions
from tmgan.evaluation.protocol import Protocol
from tmgan.models import bundle
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.jobs import train_encoders


def owners(pack) -> list[int]:
    """The image of each caption."""
    return [image for image, count in enumerate(pack.first.diff().tolist()) for _ in range(count)]


def test_the_wrong_captions_are_99_others_of_other_classes_of_the_split(pack):
    split = torch.arange(0, 38)
    own = pack.first[split] + 3
    wrong, owner = wrong_captions(pack, split, own, seed=4), owners(pack)
    assert wrong.shape == (38, 99)
    for row, candidates in zip(own.tolist(), wrong.tolist(), strict=True):
        assert len(set(candidates)) == 99
        assert all(owner[c] < 38 and pack.class_ids[owner[c]] != pack.class_ids[owner[row]] for c in candidates)
        assert all(pack.caption(c) != pack.caption(row) for c in candidates)
    assert len(wrong.unique()) > 300, "each has its own"
    assert torch.equal(wrong_captions(pack, split, own[5:7], seed=4), wrong[5:7]), "whatever the others are"
    assert not torch.equal(wrong_captions(pack, split, own, seed=5), wrong)


def test_with_few_captions_or_one_class_there_are_fewer_candidates(pack):
    split, owner = pack.test[:3], owners(pack)
    assert len(pack.class_ids[split].unique()) == 3
    assert sorted(wrong_captions(pack, split, pack.first[split[:1]], 0)[0].tolist()) == [
        row for row, image in enumerate(owner) if image in split[1:].tolist()
    ]
    one_class = dataclasses.replace(pack, class_ids=torch.zeros_like(pack.class_ids))
    assert wrong_captions(one_class, split, pack.first[split], 0).shape == (3, 20), "those of other photos"
    alike = dataclasses.replace(pack, tokens=pack.tokens[:1].expand_as(pack.tokens))
    assert wrong_captions(alike, split, pack.first[split], 0).shape == (3, 0), "none reads differently"


def test_precision_is_the_share_whose_own_caption_is_the_most_similar():
    generator = torch.Generator().manual_seed(0)
    sentences = torch.randn(60, 8, generator=generator)
    own, wrong = torch.arange(20), torch.arange(20, 59).expand(20, 39)
    codes = sentences[:20] + torch.randn(20, 8, generator=generator)
    found = []
    for number in range(20):
        cosines = [
            (codes[number] @ sentences[c] / codes[number].norm() / sentences[c].norm()).item()
            for c in [number, *range(20, 59)]
        ]
        found.append(float(all(cosines[0] > other for other in cosines[1:])))
    assert 0 < sum(found) < 20
    encoded = []
    candidates = Candidates(own, wrong, lambda rows: (encoded.extend(rows.tolist()), sentences[rows])[1])
    assert sorted(encoded) == list(range(59)), "each once"
    result = candidates.precision(codes.split(7))
    assert result == RPrecision(Measure.of(found, better="higher"), 40)
    copies = Candidates(own, own[:, None] + 20, lambda rows: sentences[rows % 20])
    assert copies.precision([codes]).measure.value == 0, "an equally similar caption is not enough"


def test_what_is_said_of_it():
    measure = Measure.of([1.0] * 410 + [0.0] * 590)
    low, high = measure.low, measure.high
    text = f"R-precision 0.41 (95% interval {low:.2f} to {high:.2f}; 1 of 100; chance 0.01), 1,000 photos"
    assert str(RPrecision(measure, 100)) == text and 0.37 < low < 0.41 < high < 0.45
    assert "; 1 of 51, for want of other captions; chance 0.02)" in str(RPrecision(measure, 51))


def test_an_edit_is_compared_with_its_text_and_those_of_other_classes(editor, pack):
    pack = dataclasses.replace(pack, test=torch.arange(30))
    protocol = Protocol(metrics=("r_precision",), count=8, batch=3)
    measure = evaluate(editor, pack, protocol)["r_precision"]
    pairs = make_pairs(pack, "test", 8, "other", 0)
    wrong = wrong_captions(pack, pack.test, pairs.target, 0)
    edits = torch.cat([batch.edits for batch in make_edits(editor, pack, pairs, (), 0, 3)])
    expected = []
    with torch.no_grad():
        for number in range(8):
            code = editor.encoders.photo.regions_and_code(edits[number : number + 1])[1][0]
            rows = [int(pairs.target[number]), *wrong[number].tolist()]
            sentences = editor.encoders.text(*editor.tokens([pack.caption(row) for row in rows]))[1]
            cosines = torch.stack([code @ s / code.norm() / s.norm() for s in sentences])
            expected.append(float(cosines.argmax() == 0))
    assert measure.values == tuple(expected) and measure.unit == "found among 100" and measure.better == "higher"


def test_without_other_captions_it_is_left_out(editor, pack):
    single = dataclasses.replace(pack, test=pack.test[:1])
    skipped = evaluate(editor, single, Protocol(captions="own", count=1)).skipped
    assert "the test split has none" in skipped["r_precision"]
    with pytest.raises(ValueError, match="captions of other photos"):
        evaluate(editor, single, Protocol(captions="own", metrics=("r_precision",)))


def test_encoders_are_measured_on_some_photos_and_at_the_end_on_all(tiny_damsm, pack, monkeypatch):
    monkeypatch.setattr("tmgan.training.encoder_task._RETRIEVED", 4)
    made = bundle.build_encoders(tiny_damsm.encoder, 64, pack.vocabulary, 0)
    task = EncoderTask(tiny_damsm, pack, made, decide(tiny_damsm.runtime))
    task.step(0)
    metrics = task.measure(4)
    assert (metrics["r_precision_photos"], metrics["r_precision_candidates"]) == (4, 51)
    task.step(3)  # the last one
    metrics = task.measure(16)
    assert metrics["r_precision_photos"] == len(pack.test) == 6
    pairs = make_pairs(pack, "test", 6, "own", tiny_damsm.seed)
    wrong = wrong_captions(pack, pack.test, pairs.own, tiny_damsm.seed)
    found = 0
    with torch.no_grad():
        codes = task.photo.regions_and_code(centre_crops(pack.tiles, pairs.image, 64))[1]
        for code, own, others in zip(codes, pairs.own, wrong, strict=True):
            rows = torch.cat([own[None], others])
            sentences = task.text(pack.tokens[rows].long(), pack.lengths[rows].long())[1]
            found += int(torch.cosine_similarity(code[None], sentences).argmax() == 0)
    assert metrics["r_precision"] == pytest.approx(found / 6)
    assert task.conclusion() == str(task.r_precision(6)) and "6 photos" in task.conclusion()
    held_out_none = EncoderTask(tiny_damsm, dataclasses.replace(pack, test=pack.test[:0]), made, task.runtime)
    assert held_out_none.conclusion() == "" and "r_precision" not in held_out_none.measure(4)


def test_tmgan_damsm_stores_it(tiny_damsm):
    output = dataclasses.replace(tiny_damsm.output, sample_images=10**6, checkpoint_images=10**6)
    train_encoders(dataclasses.replace(tiny_damsm, output=output))
    rows = [json.loads(line) for line in (Path(tiny_damsm.run) / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["r_precision_photos"] == 6 and 0 <= rows[-1]["r_precision"] <= 1
    last = (Path(tiny_damsm.run) / "log.txt").read_text().split("R-precision ")[1]
    assert float(last.split()[0]) == pytest.approx(rows[-1]["r_precision"], abs=0.005)


def test_copies_of_photos_with_their_own_captions_measure_the_encoders(editor, pack):
    protocol = Protocol(metrics=("r_precision",), captions="own", count=6)
    copied = evaluate(baselines(editor)["input copied"], pack, protocol)["r_precision"]
    pairs = make_pairs(pack, "test", 6, "own", 0)
    with torch.no_grad():
        codes = editor.encoders.photo.regions_and_code(centre_crops(pack.tiles, pairs.image, 64))[1]
        wrong = wrong_captions(pack, pack.test, pairs.own, 0)
        texts = Candidates(
            pairs.own, wrong, lambda rows: editor.encoders.text(pack.tokens[rows].long(), pack.lengths[rows].long())[1]
        )
        assert copied.values == texts.precision([codes]).measure.values
