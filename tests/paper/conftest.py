"""The smallest networks for tables."""

from __future__ import annotations

import pytest

from tmgan.config import configfile
from tmgan.paper import make
from tmgan.paper import variants as rows

SMALL = {
    "model": {"g_width": 4, "top_width": 4, "d_width": 4, "affine_dim": 4, "condition_dim": 8, "noise_dim": 4},
    "encoder": {"dim": 16, "word_dim": 12, "width": 4},
    "pretrain": {"images": 16, "batch": 4},
    "batch": 4,
    "runtime": {"threads": 1},
}


@pytest.fixture
def small(monkeypatch):
    """The reduced base, smaller still."""
    monkeypatch.setattr(rows, "_REDUCED", configfile.overlay(rows._REDUCED, SMALL))
    ours = rows.ours
    for module in (rows, make):  # make.py has it by name
        monkeypatch.setattr(module, "ours", lambda reduced: configfile.merge(ours(reduced), SMALL, "small"))
