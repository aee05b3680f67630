"""tmgan compare: the page, its Markdown, the numbers as JSON, and the console."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import write_run
from tmgan.cli import main
from tmgan.models.bundle import build_encoders
from tmgan.reports.charts import curves


def test_compare_from_the_command_line(runs, tiny, pack, tmp_path, capsys):
    others = write_run(tmp_path / "c", tiny, build_encoders(tiny.encoder, 64, pack.vocabulary, seed=2), images=8)
    for k, run in enumerate(runs):
        (run / "stats.jsonl").write_text('{"images": 8, "g_adv": 1.0}\n' + f'{{"images": 16, "g_adv": {k}}}\n')
    out = tmp_path / "deep" / "out"
    main(["compare", *map(str, [*runs, others]), "--metrics", "sharpness", "mp_damsm", "--out", str(out)])
    printed = capsys.readouterr().out
    assert str(out / "compare.html") in printed and "**" not in printed
    assert "NOTE: c: this run is unfinished" in printed
    assert re.search(r"^sharpness .*\(.* to .*\) \w+", printed, re.M)
    text = (out / "compare.md").read_text()
    for words in (
        "# b, c against a",
        "> **Note.** c: this run is unfinished: it has seen 8 of 24 images.",
        "6 photos of the test split",
        f"{pack.path}, which all runs were trained on",
        "b against a, **the same**: sharpness_photo.",
        "![edits](compare/edits.png)",
        "| `seed` | 0 | 5 | 0 |",
        "stats-g_adv",
        "cannot be told (each run's own encoders are the judge, and they differ)",
    ):
        assert words in text, words
    assert "`run`" not in text  # that two runs lie in two folders is no setting in which they differ
    page = (out / "compare.html").read_text()
    assert page.count("<figure>") == 1 and page.count("<svg") == 1 and "https://" not in page
    about = json.loads((out / "compare.json").read_text())
    change = about["differences"]["b"]["sharpness"]["change"]
    assert change["low"] <= change["value"] <= change["high"] and change["n"] == 6
    assert about["runs"]["a"]["evaluation"]["measures"]["sharpness"]["n"] == 6
    assert about["settings"]["seed"] == {"a": 0, "b": 5, "c": 0}


def test_a_folder_that_cannot_be_written_is_refused_first(runs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for run in runs:
        (run / "generator.safetensors").unlink()  # would be the next complaint
    with pytest.raises(SystemExit) as stop:
        main(["compare", *map(str, runs), "--out", str(tmp_path / "file" / "out")])
    assert stop.value.code == 2 and f"{tmp_path}/file is no folder" in capsys.readouterr().err


def test_curves_of_several_runs_share_axes_and_have_a_legend():
    one = curves("loss", {"": ([0, 10], [0.0, 1.0])})
    two = curves("loss", {"a": ([0, 10], [0.0, 1.0]), "b<": ([0, 20], [None, 5.0]), "c": ([], [])})
    assert one.count("<polyline") == 1 and "a</text>" not in one
    assert two.count("<polyline") == 3 and "b&lt;</text>" in two and "c: none" in two
    line = re.search(r'points="([^"]*)"', two)[1].split()
    assert line[1].split(",")[0] < "200" and ">20<" in two  # a ends in the middle of the axis, which goes to 20
