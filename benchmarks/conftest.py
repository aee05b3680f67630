"""Options and output of `pytest benchmarks/`; the measurements are in test_kernels.py, timer.py and cases.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kernels import tables
from benchmarks.kernels.collector import Results
from benchmarks.schema import SchemaError

RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser):
    group = parser.getgroup("tmgan")
    group.addoption(
        "--results",
        type=Path,
        metavar="PATH",
        help="write what was measured to this .json file, or into this folder under a name of its own",
    )
    group.addoption(
        "--budget",
        type=float,
        default=0,
        metavar="SECONDS",
        help="start no measurement later than this; the least important ones come last",
    )
    group.addoption(
        "--compile-only",
        action="store_true",
        help="measure nothing, fill the compilers' caches: with pytest-xdist on many cores, before a run",
    )


def pytest_configure(config):
    # Its table shows the time of a round, which on a GPU is two graphs of many calls: ours shows that of a call.
    config.option.benchmark_quiet = True


def pytest_collection_modifyitems(config, items):
    """To compile, one pass of each compiled case is enough."""
    if not config.getoption("--compile-only"):
        return
    chosen = {}
    for item in items:
        if item.originalname == "test_speed":
            case, provider, _ = item.callspec.params["row"]
            if provider.startswith("compile"):
                chosen.setdefault((case, provider), item)
    items[:] = chosen.values()


def pytest_collection_finish(session):
    """Now it is known which rows were selected: say how many, and measure the copy."""
    config = session.config
    reporter = config.pluginmanager.getplugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line)

    chosen = [item for item in session.items if "results" in getattr(item, "fixturenames", ())]
    if not chosen or config.option.collectonly:
        return
    collected = Results(config.getoption("--budget"), config.getoption("--compile-only"), say)
    for item in chosen:
        if item.originalname == "test_speed":
            case, provider, which = item.callspec.params["row"]
            collected.planned.append({**case.key(), "pass": which, "provider": provider})
    config.stash[RESULTS] = collected
    say(
        f"{len(collected.planned)} rows to measure"
        + (f" in at most {collected.budget:.0f} s" if collected.budget else "")
    )


@pytest.fixture
def results(request) -> Results:
    return request.config.stash[RESULTS]


def pytest_report_teststatus(report):
    """No dots between the lines of progress."""
    if report.passed and report.when == "call":
        return "passed", "", "PASSED"
    return None


def pytest_sessionfinish(session):
    collected = session.config.stash.get(RESULTS, None)
    path = session.config.getoption("--results")
    if collected is not None and collected.rows and not collected.only_compile and path is not None:
        try:
            collected.say(f"wrote {collected.write(path)}")
        except SchemaError as error:
            collected.say(f"what was written is no valid results file: {error}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    collected = config.stash.get(RESULTS, None)
    if collected is None or collected.only_compile or not collected.rows:
        return
    terminalreporter.section("microseconds a call, median")
    for line in tables.plain(collected.document()):
        terminalreporter.write_line(line)
