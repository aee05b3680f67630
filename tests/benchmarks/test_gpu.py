"""The scripts of benchmarks/gpu: run dry, without the packages they must do without, stopped at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

import tmgan_kernels
from benchmarks.gpu import changes, collect, journal, kernels, rest, rewrites, step, supervisor, training
from benchmarks.gpu.supervisor import Options
from benchmarks.kernels import cases
from benchmarks.kernels.prepare import Prepared
from benchmarks.step import measure as measure_steps
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import RuntimeConfig
from tmgan.training import bench

ROOT = Path(__file__).parents[2]
# Each with the kinds of documents that are made of it.
SCRIPTS = {
    "1-step": {"steps"},
    "2-rewrites": {"steps", "steps-ablation"},
    "3-kernels": {"kernels"},
    "4-rest": {"kernels"},
    "5-training": {"training"},
}
# What a machine with a GPU may lack, and all but 4 must do without.
ABSENT = (
    "tyro",
    "kornia",
    "pytorch_fid",
    "pytest_benchmark",
    "lpips",
    "skimage",
    "tensorboard",
    "textblob",
    "rich",
    "typeguard",
    "matplotlib",
    "transformers",
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With those packages made impossible to import, and caches of the test's own."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ABSENT:
        (blocked / f"{name}.py").write_text("raise ImportError(f'{__name__} is blocked by a test')\n")
    return {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONPATH": str(blocked),
        "TMGAN_CACHES": str(tmp_path / "caches"),
        "PYTEST_ADDOPTS": "-p no:benchmark -p no:typeguard",
    }


def command(script: str, out: Path, *more: str) -> list[str]:
    return ["bash", str(ROOT / "benchmarks" / "gpu" / f"{script}.sh"), str(out), *more]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_measures_what_it_planned(script, tmp_path, environment):
    out = tmp_path / "out"
    if script == "5-training":
        (tmp_path / "blocked" / "rich.py").unlink()  # needed by whoever trains
    done = subprocess.run(command(script, out, "300", "--dry"), capture_output=True, text=True, env=environment)
    log = (out / f"{script}.log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    lines = journal.Journal(out / f"{script}.jsonl").lines()
    assert [line["kind"] for line in lines[:2]] == ["begin", "planned"]
    rows_by_name = journal.rows(lines)
    assert rows_by_name.keys() == set(lines[1]["rows"]) and not journal.missing(lines)
    reasons = {row["reason"] for row in rows_by_name.values() if "reason" in row}
    assert reasons <= {"needs a GPU", "left out of a dry run"}
    assert sum("reason" not in row for row in rows_by_name.values()) >= 3
    assert all(
        row["gpu"] == "not used" and row["torch"] and row["triton"] and row["commit"] and row["sources"]
        for row in rows_by_name.values()
    )
    assert "rows measured, 0 failed" in done.stdout
    picture = ["5-training.png"] if script == "5-training" else []
    assert sorted(path.name for path in out.iterdir()) == [f"{script}.jsonl", f"{script}.log", *picture]
    written = {path.name.split("-cpu")[0] for path in collect.collect([out], tmp_path / "results", dry=True)}
    assert written == SCRIPTS[script]
    assert len(list((tmp_path / "results").glob("*.png"))) == len(picture)
    with pytest.raises(ValueError, match="a dry run measures nothing"):
        collect.collect([out], tmp_path / "results", dry=False)


def test_killed_while_it_runs_it_keeps_its_rows_and_says_what_is_missing(tmp_path, environment):
    out = tmp_path / "out"
    file = out / "1-step.jsonl"
    with subprocess.Popen(
        command("1-step", out, "300", "--dry"),
        env=environment,
        process_group=0,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        while len(journal.rows(journal.read(file))) < 4:
            assert running.poll() is None, (out / "1-step.log").read_text()
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)  # as a machine that is taken away: none is told
    time.sleep(1)
    before = file.read_bytes()
    lines = journal.Journal(file).lines()
    rows_by_name, absent = journal.rows(lines), journal.missing(lines)
    assert len(rows_by_name) >= 4 and all("error" not in row for row in rows_by_name.values())
    assert rows_by_name.keys() | absent.keys() == set(lines[1]["rows"]) and not rows_by_name.keys() & absent.keys()
    assert set(absent.values()) == {journal.STOPPED} and "eager batch 2 step" in absent
    text = "\n".join(journal.table(lines))
    assert f"missing, {len(absent)} rows: {journal.STOPPED}" in text
    time.sleep(1)
    assert file.read_bytes() == before, "a worker outlived the script"


@pytest.mark.parametrize(("lacks", "said"), [("commit", "TMGAN_COMMIT"), ("pillow", "missing packages: pillow")])
def test_what_a_script_needs_is_asked_for_first(lacks, said, tmp_path, environment):
    """Started from a copy of the sources without their history."""
    folder = tmp_path / "copy" / "benchmarks" / "gpu"
    folder.mkdir(parents=True)
    for name in ("1-step.sh", "start.sh"):
        shutil.copy(ROOT / "benchmarks" / "gpu" / name, folder)
    environment["GIT_CEILING_DIRECTORIES"] = str(tmp_path)
    environment.pop("TMGAN_COMMIT", None)
    if lacks == "pillow":
        environment["TMGAN_COMMIT"] = "c"
        hidden = "import sys\nfrom importlib import util\nfind = util.find_spec\n"
        hidden += "util.find_spec = lambda name, *more: None if name == 'PIL' else find(name, *more)\n"
        (tmp_path / "blocked" / "sitecustomize.py").write_text(hidden)
    done = subprocess.run(
        ["bash", str(folder / "1-step.sh"), str(tmp_path / "out")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2 and said in done.stderr, done.stderr


# ------------------------------------------------------------- the supervisor, on tasks that need no torch
TASKS = """
import ctypes, os, sys, time
from pathlib import Path
from benchmarks.gpu import supervisor
from benchmarks.gpu.supervisor import Task, alone, until_last

def good(journal, options):
    journal.row("good", shown="fine")

def bad(journal, options):
    journal.row("bad one", shown="known before")
    raise MemoryError("out of memory")

def crash(journal, options):
    journal.row("crash one")
    ctypes.string_at(0)

def hang(journal, options):
    journal.row("hang one")
    time.sleep(99)

def lost(journal, options):
    from benchmarks.gpu.journal import rows
    done = rows(journal.lines())
    for name in ("lost one", "lost two"):
        if name not in done:
            journal.error(name, RuntimeError("illegal access")) if name == "lost one" else journal.row(name)
            sys.exit(supervisor.AGAIN)

def counts(journal, options):
    while True:
        with open(options.out / "ticks", "a") as file:
            file.write("x")
        time.sleep(0.01)

def ticks(options):
    path = options.out / "ticks"
    return path.stat().st_size if path.exists() else 0

def timed(journal, options):
    while not ticks(options):
        time.sleep(0.01)
    with alone():
        time.sleep(0.1)
        before = ticks(options)
        time.sleep(0.5)
        meanwhile = ticks(options) - before
    before = ticks(options)
    time.sleep(0.5)
    journal.row("timed", meanwhile=meanwhile, after=ticks(options) - before)

def base(journal, options):
    journal.row("base")
    until_last()
    journal.row("base again")

def tasks(options):
    return [Task("base", base, ("base", "base again"), waits=True), Task("good", good, ("good",)),
            Task("bad", bad, ("bad one", "bad two")),
            Task("crash", crash, ("crash one", "crash two")), Task("hang", hang, ("hang one", "hang two"), 1.5),
            Task("lost", lost, ("lost one", "lost two")),
            Task("none", good, ("none",), impossible="no such thing here"),
            Task("timed", timed, ("timed",)), Task("counts", counts, ("count",), 4),
            Task("late", hang, ("hang late",))]

if __name__ == "__main__":
    supervisor.main("fake", "fake", tasks, width=2, needs_gpu=False)
"""


@pytest.fixture
def fake(tmp_path):
    (tmp_path / "fake.py").write_text(textwrap.dedent(TASKS))
    folders = (tmp_path, ROOT, ROOT / "kernels")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}

    def start(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "fake", str(tmp_path / "out"), *arguments, "--dry"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def test_what_fails_takes_nothing_along(fake, tmp_path):
    """An exception, a crash, a hang, a lost GPU: the rows that were known stay, the others say why they are missing."""
    start = time.monotonic()
    with fake("18") as process:
        text = process.communicate()[0]
    assert process.returncode == 1 and time.monotonic() - start < 19
    lines = journal.Journal(tmp_path / "out" / "fake.jsonl").lines()
    rows_by_name, absent = journal.rows(lines), journal.missing(lines)
    assert rows_by_name["good"]["shown"] == "fine" and {"bad one", "crash one", "hang one"} <= rows_by_name.keys()
    assert rows_by_name["none"]["reason"] == "no such thing here"
    assert "MemoryError: out of memory" in absent["bad two"] and "signal 11" in absent["crash two"]
    assert absent["hang two"] == "hang took longer than the time it was given"
    assert absent["count"] == "counts took longer than the time it was given"
    assert absent["hang late"] == "the 18 seconds of the script were over"
    assert "illegal access" in rows_by_name["lost one"]["error"] and "Traceback" not in rows_by_name["lost two"]
    assert rows_by_name["timed"]["meanwhile"] == 0 and rows_by_name["timed"]["after"] > 5, (
        "others stand still while one is timed"
    )
    order = [line["row"] for line in lines if line["kind"] == "row"]
    assert order[-1] == "base again", "the base is timed once more at the end"
    assert "FAILED: RuntimeError: illegal access" in text and "missing, 1 rows: hang took longer" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hang",), "SECONDS comes before the tasks: 'hang' is no number"),
        (("0",), "SECONDS must be above 0 and finite, not 0"),
        (("-5",), "SECONDS must be above 0 and finite, not -5"),
        (("nan",), "SECONDS must be above 0 and finite, not nan"),
        (("9", "hangs"), "no task hangs; there are base"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fake", str(tmp_path / "out"), *arguments, "--dry"])
    with pytest.raises(SystemExit) as end:
        supervisor.main("fake", "fake", lambda _: [supervisor.Task("base", print, ())], needs_gpu=False)
    assert end.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_journal_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        journal.main([str(tmp_path / "none.jsonl")])
    assert end.value.code == 2 and f"{tmp_path / 'none.jsonl'} is no file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        journal.main([])
    assert end.value.code == 2


def test_a_task_by_itself_has_all_the_time(fake, tmp_path):
    with fake("10", "hang") as process:
        process.communicate()
    lines = journal.Journal(tmp_path / "out" / "fake.jsonl").lines()
    assert journal.missing(lines) == {"hang two": "the 10 seconds of the script were over"}


def test_stopped_politely_it_says_what_is_missing(fake, tmp_path):
    with fake("60", "hang", "late") as process:
        while not journal.rows(journal.read(tmp_path / "out" / "fake.jsonl")):
            time.sleep(0.05)
        process.terminate()
        text = process.communicate()[0]
    assert process.returncode == 143
    lines = journal.Journal(tmp_path / "out" / "fake.jsonl").lines()
    assert journal.missing(lines) == {"hang two": journal.STOPPED, "hang late": journal.STOPPED}
    assert "2 missing" in text and lines[-1]["kind"] == "end"


def test_a_line_torn_by_a_kill_costs_only_itself(tmp_path):
    file = journal.Journal(tmp_path / "rows.jsonl", {"run": "a"})
    file.add("planned", rows=["one", "two", "three"])
    file.row("one", value=1)
    with file.path.open("a") as torn:
        torn.write('{"kind": "row", "row": "two", "va')
    file.row("three", value=3)
    assert journal.rows(file.lines()).keys() == {"one", "three"}
    assert journal.missing(file.lines()) == {"two": journal.STOPPED}
    other = journal.Journal(file.path, {"run": "b"})
    other.add("planned", rows=["one"])
    assert journal.missing(journal.Journal(file.path).lines()) == {"one": journal.STOPPED}, "an older run is no result"


def test_a_file_s_parity_is_known_with_its_last_test(tmp_path, monkeypatch):
    """And not only at the end, which a session that takes too long does not reach."""
    for name, body in (
        ("one", "def test_good():\n    pass\n\ndef test_bad():\n    assert False\n"),
        ("two", "import os\n\ndef test_good():\n    pass\n\ndef test_killed():\n    os.kill(os.getpid(), 9)\n"),
    ):
        (tmp_path / f"test_{name}.py").write_text(body)
    file = journal.Journal(tmp_path / "rows.jsonl", {"run": "a"})
    monkeypatch.setenv("TMGAN_STAMP", '{"run": "a"}')
    status = kernels.run_pytest(file, "parity", [str(tmp_path)])
    rows_by_name = journal.rows(file.lines())
    assert status == -signal.SIGKILL and rows_by_name["parity test_one.py"]["shown"] == "1 failed, 1 passed"
    assert rows_by_name["parity test_one.py"]["error"] == "1 tests failed"
    assert "parity test_two.py" not in rows_by_name, "half of a file says nothing"


# ------------------------------------------------------------------------------------- the plans
@pytest.mark.parametrize("module", [step, rewrites, kernels, rest, training])
@pytest.mark.parametrize("gpu", [True, False])
def test_every_row_is_planned_once(module, gpu):
    names = [row for task in module.tasks(Options(Path(), 540, not gpu, gpu)) for row in task.rows]
    assert len(names) == len(set(names)) > 2


def test_the_plans_name_everything():
    assert set(step.SMOKED) == set(tmgan_kernels.__all__)
    assert {rewrites.BASE, *rewrites.FIRST, *rewrites.OTHERS, "compiled"} == changes.CHANGES.keys()
    config = configfile.merge(configfile.from_preset("quickstart"), {"batch": 2}, "test")
    synthetic = bench.synthetic_step(config, decide(RuntimeConfig(device="cpu", threads=1)))
    assert tuple(name for name, _ in bench.components(synthetic.step, synthetic.batch)) == step.PARTS
    on_gpu = Options(Path(), 540, False, True)
    first, batch = rewrites.plan(on_gpu)[:7], rewrites.BATCHES
    assert first == [
        (rewrites.BASE, batch[0]),
        *((change, batch[0]) for change in rewrites.FIRST),
        (rewrites.BASE, batch[1]),
    ]
    planned = kernels.plan_rows(on_gpu)
    assert not {provider for _, provider, _ in planned} & {"compile", "compile-max", "kornia", "best-eager"}
    headline = [(case.operation, case.dtype, case.layout) for case, _, _ in planned]
    expected = ("instance_norm_glu", "bfloat16", "nhwc")
    assert headline[: headline.count(expected)] == [expected] * headline.count(expected) != []


def test_what_goals_ask_for_comes_first():
    """Ours in 3-kernels.sh behind the generator's blocks in bf16, torch.compile in 4-rest.sh."""
    on_gpu = Options(Path(), 540, False, True)
    ours = [cases.in_goals(case) for case, _, _ in kernels.plan_rows(on_gpu)]
    others = [cases.in_goals(case) for case, _, _ in rest.plan_rows(on_gpu, ("compile", "compile-max"))]
    start = next(i for i, (case, _, _) in enumerate(kernels.plan_rows(on_gpu)) if case.dtype != "bfloat16")
    assert others == sorted(others, reverse=True) and ours[start:] == sorted(ours[start:], reverse=True)
    assert 0 < sum(others) < len(others) and 0 < sum(ours) < len(ours)


def test_other_batches_are_timed_once_and_among_the_first():
    names = [task.rows for task in rewrites.tasks(Options(Path(), 540, False, True))]
    assert names.index(("nothing batch 10",)) < names.index(("eager batch 40",))
    assert ("nothing batch 64",) in names and ("nothing batch 128", "nothing batch 128 again") in names


def test_the_work_of_a_step_is_counted_once(tmp_path):
    file = journal.Journal(tmp_path / "rows.jsonl", {"run": "a"})
    assert step.counted(file, 40) == {}
    for part in step.PARTS:
        file.row(f"eager batch 40 {part}", gflop_per_image=2.0)
    assert step.counted(file, 40) == dict.fromkeys(step.PARTS, 2.0) and step.counted(file, 10) == {}


def test_work_is_counted_on_small_batches():
    """As counting it on the batch itself gives."""
    config = configfile.merge(configfile.from_preset("quickstart"), {"batch": 7}, "test")
    runtime = decide(RuntimeConfig(device="cpu", threads=1))
    synthetic = bench.synthetic_step(config, runtime)
    exact = bench.gflop(synthetic.step, synthetic.batch)
    assert measure_steps.step_gflop(config, runtime) == pytest.approx(exact, rel=1e-9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="without a cache a group is one image")
def test_the_norm_by_groups_of_images_is_the_norm():
    """Prepared compares values and gradients with the definition."""
    Prepared(cases.Case("instance_norm_glu", (3, 4, 8, 6), layout="nhwc"), "groups-half", 1)
