"""A plugin of pytest (-p benchmarks.gpu.parity): each test's outcome goes into the journal at once, a row per file at
the end.

TMGAN_JOURNAL: the file. TMGAN_PARITY: what the names of the rows begin with, before the file's name.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from benchmarks.gpu.journal import Journal


class _Outcomes:
    def __init__(self, journal: Journal, title: str):
        self.journal, self.title = journal, title
        self.counts: dict[str, Counter] = {}

    def pytest_runtest_logreport(self, report) -> None:
        if report.when != "call" and report.outcome == "passed":
            return  # setting up and tearing down
        counts = self.counts.setdefault(Path(report.nodeid.partition("::")[0]).name, Counter())
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
        for file, counts in self.counts.items():
            summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
            error = {"error": f"{counts['failed']} tests failed"} if counts["failed"] else {}
            self.journal.row(f"{self.title} {file}", shown=summary, **counts, **error)


def pytest_configure(config) -> None:
    if not hasattr(config, "workerinput"):  # of xdist: their reports come to the main process
        journal = Journal(Path(os.environ["TMGAN_JOURNAL"]), json.loads(os.environ["TMGAN_STAMP"]))
        config.pluginmanager.register(_Outcomes(journal, os.environ["TMGAN_PARITY"]))
