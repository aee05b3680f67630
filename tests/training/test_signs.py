"""Collapses are said while they happen, and ordinary training is not called one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests.training.test_train import run_gan
from tmgan.reports.run_report import _SIGNS
from tmgan.training.editor_task import EditorTask
from tmgan.training.objective import Objective
from tmgan.training.signs import SIGNS, CollapseWatch, life_signs

GOOD = {"d": 0.8, "g_adv": 4.0, "changed": 9.0, "contrast": 0.7, "variety": 0.6}


def test_signs_by_definition():
    photos = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    signs = life_signs(photos, photos * 0.5)
    assert signs["changed"].item() == pytest.approx((photos * 0.5).abs().mean().item() * 127.5)
    assert signs["contrast"].item() == pytest.approx(0.5) and signs["variety"].item() == pytest.approx(0.5)
    flat, same = torch.full_like(photos, 0.3), photos[:1].expand_as(photos)
    assert life_signs(photos, flat)["contrast"] == 0
    assert life_signs(photos, same)["variety"] == 0 < life_signs(photos, same)["contrast"]
    assert life_signs(photos, photos)["changed"] == 0
    assert life_signs(photos[:1], photos[:1])["variety"] == 1  # one photo cannot vary


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d": 0.05}, "the discriminator wins: its loss is 0.050, and guessing would cost 1.39"),
        ({"d": 33_570.0}, "the discriminator's loss is 33,570, and guessing would cost 1.39: it explodes"),
        ({"changed": 0.2}, "edits copy their photos: they differ by 0.20 of 255 levels"),
        ({"contrast": 0.01}, "edits are a constant picture: their contrast is 1.0%"),
        ({"variety": 0.02}, "edits are a constant picture"),
    ],
)
def test_a_collapse_is_said_once_when_it_lasts_and_when_it_is_over(change, said):
    watch = CollapseWatch()
    assert watch.look(GOOD) == [] == watch.look({**GOOD, **change})
    (line,) = watch.look({**GOOD, **change})
    assert line.startswith("WARNING: ") and said in line
    assert watch.look({**GOOD, **change}) == []
    (line,) = watch.look(GOOD)
    assert line.startswith("NOTE: ") and line.endswith("is over.")


def test_guessing_costs_more_at_several_scales_and_with_blurred_photos():
    for extra, guess in (({"d_16": 0.2, "d_32": 0.2}, 6 * math.log(2)), ({"d_blurred": 0.1}, 3 * math.log(2))):
        watch = CollapseWatch()
        just = {**GOOD, **extra, "d": 0.05 * guess}
        assert not watch.look({**just, "d": just["d"] + 0.01}) and not watch.look({**just, "d": just["d"] - 0.01})
        assert watch.look({**just, "d": just["d"] - 0.01})
    assert CollapseWatch().look({"loss": 0.0, "grad": 1.0}) == []  # encoders


def collapsed(output, kind: str, photos):
    image = {"copy": photos, "constant": torch.zeros_like(photos)}[kind] + 0 * output.image
    return output._replace(image=image)


@pytest.mark.parametrize("kind", ["copy", "constant"])
def test_a_run_says_it(kind, tiny, pack, encoders, monkeypatch):
    forward = Objective.generate

    def generate(objective, batch):
        before = objective.generator.forward

        def replaced(*inputs):
            return collapsed(before(*inputs), kind, inputs[-1])

        objective.generator.forward = replaced
        try:
            return forward(objective, batch)
        finally:
            del objective.generator.forward

    monkeypatch.setattr(Objective, "generate", generate)
    run_gan(tiny, pack, encoders)
    log = (Path(tiny.run) / "log.txt").read_text()
    assert ("WARNING: edits copy" in log) == (kind == "copy")
    assert ("WARNING: edits are a constant picture" in log) == (kind == "constant")


def test_a_discriminator_that_is_always_certain_is_named(tiny, pack, encoders, monkeypatch):
    step_of = EditorTask.step
    monkeypatch.setattr(
        EditorTask, "step", lambda task, n: {k: v * (0.001 if k == "d" else 1) for k, v in step_of(task, n).items()}
    )
    run_gan(tiny, pack, encoders)
    assert "WARNING: the discriminator wins" in (Path(tiny.run) / "log.txt").read_text()


def test_an_ordinary_run_is_not_called_a_collapse(tiny, pack, encoders):
    run_gan(tiny, pack, encoders)
    assert "WARNING" not in (Path(tiny.run) / "log.txt").read_text()
    row = json.loads((Path(tiny.run) / "stats.jsonl").read_text().splitlines()[-1])
    assert row["changed"] > 1 and row["contrast"] > 0.05 and row["grad_g"] > 0


def test_the_report_shows_all_signs():
    assert {*SIGNS, "bad_steps"} == set(_SIGNS)
