"""What benchmarks/results/reliability-kills.json and reliability-endurance.json may hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reliability.endurance import BOUNDS, growth, too_much
from benchmarks.reliability.kills import INTERVAL, PLACES
from benchmarks.schema import MACHINE, require_fields

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_kills():
    found = json.loads((RESULTS / "reliability-kills.json").read_text())
    require_fields(found["machine"], MACHINE, "machine")
    assert found["kills"] == sum(found["kills_by_place"].values()) >= 200
    assert found["kills_by_place"].keys() == set(PLACES) and all(found["kills_by_place"].values())
    assert 0 < found["kills_inside_save"] + found["kills_inside_other_file"] <= found["kills"]
    assert all(found[name] > 0 for name in ("commands_resumed", "runs_finished", "checkpoints_checked"))
    assert found["interval_images"] == INTERVAL
    assert found["most_images_lost"] <= 1.5 * INTERVAL and found["most_images_lost_inside_save"] <= 2 * INTERVAL


def test_endurance():
    found = json.loads((RESULTS / "reliability-endurance.json").read_text())
    require_fields(found["machine"], MACHINE, "machine")
    assert found["steps"] == 3000 and found["bounds_per_1000_steps"] == BOUNDS and len(found["samples"]) >= 90
    assert found["growth_per_1000_steps"] == pytest.approx(growth(found["samples"]))
    assert too_much(found["samples"], BOUNDS) == []
