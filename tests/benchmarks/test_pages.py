"""The numbers of README.md are those of benchmarks/results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_readme_matches_the_results():
    subprocess.run([sys.executable, "-m", "benchmarks.report", "--check"], check=True, cwd=ROOT)


def test_results_say_where_and_when():
    results = list((ROOT / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        document = json.loads(path.read_text())
        if path.name.startswith("offline-"):  # counted by a compiler, not measured by a machine
            assert {"compiled_for", "torch", "triton", "commit", "date"} <= document.keys(), path.name
            continue
        machine = document["machine"]
        assert {"processor", "cores", "gpu", "torch", "triton", "date"} <= machine.keys(), path.name
