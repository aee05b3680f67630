"""What docs/reliability.md says of saves is what was measured."""

from __future__ import annotations

import json

import pytest

from benchmarks.report import RESULTS


@pytest.mark.parametrize("path", sorted(RESULTS.glob("reliability-saves*.json")), ids=lambda path: path.stem)
def test_saves_at_the_published_size(path):
    document = json.loads(path.read_text())
    assert (document["kind"], document["image_size"]) == ("reliability-saves", 256) and document[
        "checkpoint_bytes"
    ] > 1e9
    assert len(document["rows"]) == 6
    for row in document["rows"]:
        stall = row["call_seconds"] + row.get("wait_seconds", 0)
        assert max(stall, row.get("turn_seconds", 0)) < 0.05, row
        assert stall < row["durable_seconds"] < 20
    assert document["sigterm"]["step_seconds"] < document["sigterm"]["seconds"] < 20
