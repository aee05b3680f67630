"""The script that fuzzes for an hour, for a second; what its results may hold, and that those that are there do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reliability import fuzz
from benchmarks.schema import SchemaError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_a_turn_is_counted(tmp_path):
    row = fuzz.turn("Matlab lists", "hypothesis", 1, 0.2, tmp_path)
    assert row["cases"] >= 400 and not row["failures"] and row["outcomes"]["ValueError"] > 0
    rows = {}
    fuzz.add(rows, dict(row))
    fuzz.add(rows, dict(row))
    whole = rows["Matlab lists"]
    assert whole["cases"] == 2 * row["cases"]
    document = {"kind": fuzz.KIND, "machine": {}, "minutes": 1.0, "seed": 0, "engines": ["hypothesis"], "rows": [whole]}
    fuzz.check(document | {"cases": whole["cases"]})
    with pytest.raises(SchemaError, match="not the rows' sum"):
        fuzz.check(document | {"cases": 1})


@pytest.mark.parametrize("path", sorted(RESULTS.glob("reliability-fuzz*.json")), ids=lambda path: path.name)
def test_the_results_that_are_there(path):
    document = json.loads(path.read_text())
    fuzz.check(document)
    assert not [failure for row in document["rows"] for failure in row["failures"]]
