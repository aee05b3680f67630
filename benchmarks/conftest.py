"""Options and output of `pytest benchmarks/`; the measurements are in the folders beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kernels import cases, tables
from benchmarks.kernels.collector import Results
from benchmarks.schema import SchemaError

RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser):
    group = parser.getgroup("tmgan")
    group.addoption(
        "--results",
        type=Path,
        metavar="PATH",
        help="write what was measured to this .json file, or to a new file in this folder",
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
    # Its table shows the time of a round, which on a GPU is two graphs of many calls: ours shows the time per call.
    config.option.benchmark_quiet = True


def pytest_collection_modifyitems(config, items):
    """With --compile-only, keep one pass of each compiled case, which compiles the others too; those of the goals
    first."""
    if not config.getoption("--compile-only"):
        return
    one_pass = {}
    for item in items:
        if item.originalname == "test_speed":
            case, provider, _ = item.callspec.params["row"]
            if provider.startswith("compile"):
                one_pass.setdefault((case, provider), item)
    items[:] = sorted(one_pass.values(), key=lambda item: not cases.in_goals(item.callspec.params["row"][0]))


def pytest_collection_finish(session):
    """Now it is known which rows were selected: say how many, and measure the copy."""
    config = session.config
    reporter = config.pluginmanager.getplugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line)

    measurements = [item for item in session.items if "results" in getattr(item, "fixturenames", ())]
    if not measurements or config.option.collectonly:
        return
    results = Results(config.getoption("--budget"), config.getoption("--compile-only"), say)
    for item in measurements:
        if item.originalname == "test_speed":
            case, provider, which = item.callspec.params["row"]
            results.planned.append({**case.key(), "pass": which, "provider": provider})
    config.stash[RESULTS] = results
    say(f"{len(results.planned)} rows to measure" + (f" in at most {results.budget:.0f} s" if results.budget else ""))


@pytest.fixture
def results(request) -> Results:
    return request.config.stash[RESULTS]


def pytest_report_teststatus(report):
    """No dots between the lines of progress."""
    if report.passed and report.when == "call":
        return "passed", "", "PASSED"
    return None


def pytest_sessionfinish(session):
    results = session.config.stash.get(RESULTS, None)
    path = session.config.getoption("--results")
    if results is not None and results.rows and not results.only_compile and path is not None:
        try:
            results.say(f"wrote {results.write(path)}")
        except SchemaError as error:
            results.say(f"the file that was written is not a valid results file: {error}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    results = config.stash.get(RESULTS, None)
    if results is None or results.only_compile or not results.rows:
        return
    terminalreporter.section("microseconds per call, median")
    for line in tables.plain(results.document()):
        terminalreporter.write_line(line)
