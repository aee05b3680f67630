"""A command of tmgan in a process of its own, and what it took."""

from __future__ import annotations

import resource
import subprocess
import sys
import time


def run_tmgan(arguments: list[str]) -> tuple[float, float]:
    """`tmgan` with these arguments: its seconds, and its seconds of processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "tmgan", *arguments], check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
