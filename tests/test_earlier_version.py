"""What an earlier version wrote still opens: the fixture holds a pack, encoders and a run of commit 8f6b3e6, what that
commit made of a photo, what it measured, and the next tick of its statistics."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tmgan.cli import main

FIXTURE = Path(__file__).with_name("made_by_8f6b3e6.zip")


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with pack/, encoders/ and run/ as that commit left them."""
    with zipfile.ZipFile(FIXTURE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _last(file: Path) -> dict:
    return json.loads(file.read_text().splitlines()[-1])


def test_a_run_resumes_and_goes_on_as_it_would_have(earlier, capsys):
    main(["train", "--config", "run/config.yaml", "--images", "24"])
    assert "Resuming run at 16 of 24 images." in capsys.readouterr().out
    now, then = _last(earlier / "run/stats.jsonl"), _last(earlier / "later.jsonl")
    now = {name: now[name] for name in then}  # later versions write more
    assert {**now, "images_per_second": 0} == pytest.approx({**then, "images_per_second": 0}, rel=1e-3)


def test_encoders_resume(earlier, capsys):
    main(["damsm", "--config", "encoders/config.yaml", "--pretrain.images", "48"])
    assert "Resuming encoders at 32 of 48 images." in capsys.readouterr().out
    assert _last(earlier / "encoders/stats.jsonl")["images"] == 48


def test_a_run_edits_a_photo_to_the_same_picture(earlier):
    main(["edit", "run", "photo.jpg", "--text", "a bird with a red head and white wings", "--out", "now.png"])
    now, then = (np.asarray(Image.open(earlier / name), np.int16) for name in ("now.png", "edited.png"))
    assert np.abs(now - then).max() <= 1


def test_a_run_measures_the_same_numbers(earlier):
    names = ["mask_score", "sharpness", "preserved", "mp_damsm", "colour_accuracy"]
    main(["evaluate", "run", "--json", "now.json", "--metrics", *names])
    now, then = (json.loads((earlier / name).read_text())["trained"] for name in ("now.json", "evaluation.json"))
    assert now["pack_hash"] == then["pack_hash"] and now["images"] == then["images"]
    for name, measure in now["measures"].items():
        assert measure["value"] == pytest.approx(then["measures"][name]["value"], rel=1e-3), name
