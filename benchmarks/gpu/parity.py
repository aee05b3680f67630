"""A plugin of pytest (-p benchmarks.gpu.parity): each test's outcome goes into the journal at once, and a row per file
with the file's last test.

TMGAN_JOURNAL: the file. TMGAN_PARITY: what the names of the rows begin with, before the file's name.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.gpu.journal import Journal


class _Outcomes:
    def __init__(self, journal: Journal, title: str):
        self.journal, self.title = journal, title
        self.counts: dict[str, Counter] = {}
        self.left: Counter[str] = Counter()  # tests of a file that are not done

    def pytest_collection_finish(self, session) -> None:
        self._expect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids) -> None:
        self._expect(ids)  # the same in all workers

    def _expect(self, tests: list[str]) -> None:
        self.left = self.left or Counter(map(_file, tests))

    def pytest_runtest_logreport(self, report) -> None:
        self._count(report)
        file = _file(report.nodeid)
        if report.when == "teardown":  # the last report of a test, whatever became of it
            self.left[file] -= 1
            if self.left[file] == 0:
                self._row(file)

    def _count(self, report) -> None:
        if report.when != "call" and report.outcome == "passed":
            return  # setting up and tearing down
        counts = self.counts.setdefault(_file(report.nodeid), Counter())
        counts[report.outcome] += 1
        if report.failed:
            self.journal.row(
                f"{self.title} {report.nodeid}", error=f"failed in {report.when}", traceback=report.longreprtext
            )
        else:
            self.journal.add("test", test=report.nodeid, outcome=report.outcome, seconds=report.duration)

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.journal.row(f"{self.title} {report.nodeid}", error="not collected", traceback=report.longreprtext)

    def pytest_sessionfinish(self, exitstatus) -> None:
        if exitstatus not in (0, 1):
            return  # interrupted: a file's counts would look whole
        for file in self.counts:
            if self.left[file] != 0:  # a worker of xdist crashed: its test has no last report
                self._row(file)

    def _row(self, file: str) -> None:
        counts = self.counts[file]
        summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        error = {"error": f"{counts['failed']} tests failed"} if counts["failed"] else {}
        self.journal.row(f"{self.title} {file}", shown=summary, **counts, **error)


def _file(test: str) -> str:
    return Path(test.partition("::")[0]).name


def pytest_configure(config) -> None:
    if not hasattr(config, "workerinput"):  # of xdist: their reports come to the main process
        journal = Journal(Path(os.environ["TMGAN_JOURNAL"]), json.loads(os.environ["TMGAN_STAMP"]))
        config.pluginmanager.register(_Outcomes(journal, os.environ["TMGAN_PARITY"]))
