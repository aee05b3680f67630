"""docs/fidelity.md: the tests it names are there, and the settings it names are settings."""

from __future__ import annotations

import re
from pathlib import Path

from tmgan.config import configfile
from tmgan.config.settings import DamsmConfig, TrainConfig

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "fidelity.md").read_text()


def test_the_tests_that_hold_its_rows_are_there():
    sources = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(names) > 40
    assert not {name for name in names if f"def {name}(" not in sources}
    files = set(re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)`", TEXT))
    assert files and all((TESTS / file.removeprefix("tests/")).is_file() for file in files)


def test_the_settings_it_names_are_settings():
    known = {**configfile.to_dict(DamsmConfig()), **configfile.to_dict(TrainConfig())}
    for section, rest in re.findall(r"`(model|method|pretrain|optim|loss)\.([\w.]+)", TEXT):
        found = known[section]
        for part in rest.rstrip(".").split("."):
            assert part in found, f"{section}.{rest}"
            found = found[part]
