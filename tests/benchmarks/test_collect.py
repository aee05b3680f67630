"""What benchmarks/gpu/collect.py makes of the rows of several runs. The rows are invented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import schema
from benchmarks.gpu import collect, journal
from benchmarks.step import schema as schema_step
from benchmarks.step import training

MACHINE = {name: "x" for name in schema.MACHINE} | {"cores": 16, "gpu": "Imaginary", "date": "2000-01-01"}
SETTINGS = {"preset": "combined", "image_size": 256, "g_width": 32, "d_width": 64, "precision": "bf16", "threads": 8}


def script(
    folder: Path, name: str, commit: str = "c", planned: tuple[str, ...] = (), **changes: object
) -> journal.Journal:
    """A run's journal as it begins; `changes`: of its stamp."""
    folder.mkdir(exist_ok=True)
    stamp = {"run": f"{folder.name} {name}", "dry": False, "gpu": "Imaginary", "commit": commit, **changes}
    file = journal.Journal(folder / f"{name}.jsonl", stamp)
    file.add("begin", script=name, seconds=540.0)
    file.add("planned", rows=list(planned))
    return file


def about(file: journal.Journal, batch: int, **more) -> None:
    file.add("settings", peak_gflops=1e6, settings={**SETTINGS, "batch": batch}, machine=MACHINE, **more)


def whole(batch: int, seconds: float, **more) -> dict:
    times = {"seconds": seconds, "iqr_seconds": 0.0, "samples": 5, "images_per_second": batch / seconds}
    return {**times, "batch": batch, "peak_bytes": batch * 2**28, **more}


def test_whole_steps_of_three_scripts_come_together_by_batch(tmp_path):
    first, second, fourth = (script(tmp_path, name) for name in ("1-step", "2-rewrites", "4-rest"))
    about(fourth, 10)  # whichever comes first, the document is of batch 40
    fourth.row("published batch 10", **whole(10, 0.5, engine="published", part="step", gflop_per_image=9.0))
    fourth.row("published batch 40", **whole(40, 1.6, engine="published", part="step", gflop_per_image=9.0))
    about(first, 40)
    first.row("compiled batch 40 step", **whole(40, 0.05, engine="compiled", part="step", gflop_per_image=5.0))
    first.row("compiled batch 40 generate", **whole(40, 0.01, engine="compiled", part="generate", gflop_per_image=1.0))
    for batch, change, engine in (
        (40, "nothing", "compiled"),
        (64, "nothing", "compiled"),
        (10, "graphed", "graphed"),
        (40, "NCHW", "compiled"),
    ):
        second.row(f"{change} batch {batch}", **whole(batch, 0.06, engine=engine, change=change))
    second.row("nothing batch 128", error="OutOfMemoryError: no", traceback="")
    document = collect.steps(collect.journals([tmp_path])["Imaginary"])
    schema_step.check(document)
    assert document["settings"]["batch"] == 40
    assert {(row["engine"], row["part"]) for row in document["rows"]} == {
        ("published", "step"),
        ("compiled", "step"),
        ("compiled", "generate"),
    }, "nothing of batch 10 among them"
    speeds = {(row["engine"], row["batch"]): row["seconds"] for row in document["batches"]}
    assert speeds == {
        ("published", 10): 0.5,
        ("published", 40): 1.6,
        ("compiled", 40): 0.05,
        ("compiled", 64): 0.06,
        ("graphed", 10): 0.06,
    }


def test_tasks_that_were_run_in_turn_come_together(tmp_path):
    for name, commit, row in (("a", "old", "one"), ("b", "new", "two"), ("c", "new", "three")):
        script(tmp_path / name, "4-rest", commit, (row, "never")).row(row)
    lines = collect.journals([tmp_path / name for name in "abc"])["Imaginary"]["4-rest"]
    assert journal.rows(lines).keys() == {"two", "three"}, "an older commit's rows are not those of the newer one"
    assert journal.missing(lines).keys() == {"never"}


@pytest.mark.parametrize("later", [{"error": "OutOfMemoryError: no", "traceback": ""}, {"reason": "needs DALI"}])
def test_what_was_measured_is_not_lost_to_a_run_that_failed(later, tmp_path):
    script(tmp_path / "d", "4-rest").row("one", seconds=1.0)
    script(tmp_path / "e", "4-rest").row("one", **later)
    lines = collect.journals([tmp_path / name for name in "de"])["Imaginary"]["4-rest"]
    assert journal.rows(lines)["one"]["seconds"] == 1.0
    script(tmp_path / "f", "4-rest").row("one", seconds=2.0)
    lines = collect.journals([tmp_path / name for name in "def"])["Imaginary"]["4-rest"]
    assert journal.rows(lines)["one"]["seconds"] == 2.0, "of two measured ones the later"


def test_runs_of_one_folder_come_together_too(tmp_path):
    """As a user runs the tasks that are missing, into the same OUT."""
    for run, commit in (("1", "old"), ("2", "new"), ("3", "new")):
        script(tmp_path, "4-rest", commit, (f"row {run}", "never"), run=run).row(f"row {run}")
    lines = collect.journals([tmp_path])["Imaginary"]["4-rest"]
    assert journal.rows(lines).keys() == {"row 2", "row 3"} and journal.missing(lines).keys() == {"never"}
    assert collect._seconds(lines) == 2 * 540.0


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ({"commit": "c", "sources": "s"}, {"commit": "c", "sources": "s"}, True),
        ({"commit": "c"}, {"commit": "c"}, True),  # of journals before sources were in the stamp
        ({"commit": "c", "sources": "s"}, {"commit": "c", "sources": "t"}, False),
        ({"commit": "unknown", "sources": "s"}, {"commit": "unknown", "sources": "s"}, False),
    ],
)
def test_runs_of_one_source_alone_come_together(first, second, joined, tmp_path):
    script(tmp_path, "4-rest", run="1", **first).row("one")
    script(tmp_path, "4-rest", run="2", **second).row("two")
    lines = collect.journals([tmp_path])["Imaginary"]["4-rest"]
    assert journal.rows(lines).keys() == ({"one", "two"} if joined else {"two"})


def test_two_runs_of_the_rewrites_make_one_document(tmp_path):
    planned = ("nothing batch 40", "nothing batch 40 again", "NCHW batch 40")
    for run, seconds in (("1", 0.05), ("2", 0.04)):
        file = script(tmp_path, "2-rewrites", planned=planned, run=run)
        file.row("nothing batch 40", **whole(40, seconds, engine="compiled", change="nothing"))
        about(file, 40, base={"engine": "compiled", "gflop_per_image": 5.0})
        file.row("NCHW batch 40", **whole(40, 0.1, engine="compiled", change="NCHW"))
    (document,) = collect.ablations(collect.journals([tmp_path])["Imaginary"])
    schema_step.check(document)
    assert [row["change"] for row in document["ablation"]] == ["nothing", "nothing, again at the end", "NCHW"]
    assert document["rows"][0]["seconds"] == document["ablation"][0]["seconds"] == 0.04


def test_a_dry_run_before_the_real_one_is_left_out(tmp_path):
    script(tmp_path, "4-rest", run="1", dry=True, gpu="not used").row("one")
    script(tmp_path, "4-rest", run="2").row("two")
    assert collect.journals([tmp_path]).keys() == {"Imaginary"}


def test_a_document_that_cannot_be_made_costs_no_other(tmp_path, capsys):
    first, fifth = script(tmp_path, "1-step"), script(tmp_path, "5-training")
    about(first, 40)
    first.row(
        "eager batch 40 step", **whole(40, 0.0001, engine="eager", part="step", gflop_per_image=5.0) | {"samples": 0}
    )
    fifth.add("settings", settings={**SETTINGS, "batch": 16, "engine": "compiled"}, machine=MACHINE)
    fifth.row("idle", share=0.1, seconds=1.0, steps=40)
    with pytest.raises(ValueError, match=r"(?s)training-imaginary.*could not be made.*steps: SchemaError"):
        collect.collect([tmp_path], tmp_path / "results", dry=False)
    assert list((tmp_path / "results").glob("training-*.json"))


def test_a_training_s_document_says_what_is_missing_and_why(tmp_path):
    file = script(tmp_path, "5-training", planned=tuple(training.MEASURED))
    file.add("settings", settings={**SETTINGS, "batch": 16, "engine": "compiled"}, machine=MACHINE)
    file.row("step alone", **whole(16, 0.01, first_seconds=60.0))
    loop = {"images": 9, "seconds": 2.0, "images_per_second": 1200.0, "iqr_images_per_second": 1.0, "samples": 30}
    file.row("loop", **loop, with_pauses_images_per_second=1000.0)
    accuracy = {"birds": 300, "colour_accuracy": 0.5, "others_kept": 0.75, "background_psnr": None}
    file.row("other birds", **accuracy)
    file.row("own birds", error="ValueError: no", traceback="")
    (tmp_path / "5-training.png").write_bytes(b"picture")
    (path,) = collect.collect([tmp_path], tmp_path / "results", dry=False)
    document = json.loads(path.read_text())
    assert document["not_measured"]["own birds"] == "ValueError: no"
    assert document["not_measured"]["idle"] == journal.STOPPED
    text = training.section(tmp_path / "results")
    assert "| images/s in the loop | 1200.0, 75% of the step's |" in text and "0.50, 0.75, exact" in text
    assert f"../benchmarks/results/{path.stem}.png" in text and "Not measured, own birds: ValueError: no." in text


def test_the_checker_of_trainings_says_what_is_wrong(tmp_path):
    settings = {**SETTINGS, "batch": 16, "engine": "compiled"}
    document = {"schema": 1, "kind": "training", "machine": MACHINE, "settings": settings, "seconds": 1.0}
    document |= {"measured": {"idle": {"share": 0.1, "seconds": 1.0, "steps": 40}}, "not_measured": {}}
    training.check(document)
    for change, message in (
        ({"kind": "other"}, "is not 'training'"),
        ({"measured": {}}, "nothing was measured"),
        ({"measured": {"magic": {}}}, "is not one of"),
        ({"measured": {"idle": {"share": 1.5, "seconds": 1.0, "steps": 40}}}, "is no share"),
        ({"not_measured": {"idle": "why"}}, "among what was measured too"),
    ):
        with pytest.raises(schema.SchemaError, match=message):
            training.check({**document, **change})


@pytest.mark.parametrize(("folder", "said"), [("none", "is no folder"), ("empty", "holds no .jsonl file")])
def test_folders_without_rows_are_named(folder, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("sys.argv", ["collect", str(tmp_path / folder), "--results", str(tmp_path / "results")])
    with pytest.raises(SystemExit) as end:
        collect.main()
    assert end.value.code == 2 and f"{tmp_path / folder} {said}" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
