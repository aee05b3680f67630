"""The rooms of tmgan, as docs/architecture.md draws them: imports go down, and every path on that page is there."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tmgan.common.version import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tmgan"
# Room -> the rooms that it may import; from the ground floor up, so that no circle can be written down.
ROOMS = {
    "common": (),
    "config": ("common",),
    "data": ("common",),
    "models": ("common", "config", "data"),
    "losses": ("models",),
    "methods": ("config", "models"),
    "editing": ("common", "config", "data", "models", "methods"),
    "evaluation": ("common", "config", "data", "models", "methods", "editing"),
    "reports": ("common", "config", "models", "evaluation"),
    "training": ("common", "config", "data", "models", "losses", "methods", "editing", "evaluation", "reports"),
    "paper": ("common", "config", "data", "models", "methods", "editing", "evaluation", "reports", "training"),
    "published": ("common", "config", "data", "models", "training"),
    "cli": (
        "common",
        "config",
        "data",
        "models",
        "methods",
        "editing",
        "evaluation",
        "reports",
        "training",
        "paper",
        "published",
    ),
}
# Modules that only these rooms may import.
ONLY_FROM = {"tmgan.training.jobs": {"cli", "paper"}, "tmgan.models.bundle": {*ROOMS} - {"losses", "methods", "data"}}


def _imports(file: Path) -> Iterator[str]:
    """Modules that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _wrong(files: Iterator[Path], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in _imports(file)
        if any(name == module or name.startswith(f"{module}.") for module in forbidden)
    ]


def test_the_rooms_are_these_and_lie_in_order():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    below: set[str] = set()
    for room, allowed in ROOMS.items():
        assert set(allowed) <= below, room
        below.add(room)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room):
    forbidden = tuple(f"tmgan.{other}" for other in ROOMS if other != room and other not in ROOMS[room])
    assert _wrong((PACKAGE / room).rglob("*.py"), forbidden) == []


@pytest.mark.parametrize("module", ONLY_FROM)
def test_few_import_what_is_above_all_others(module):
    room_of_module = module.split(".")[1]
    for room in ROOMS.keys() - ONLY_FROM[module] - {room_of_module}:
        assert _wrong((PACKAGE / room).rglob("*.py"), (module,)) == []


def test_networks_know_neither_settings_nor_data():
    """bundle.py writes and reads them with both, through network_file.py; weights.py, which downloads, is none."""
    others = ("bundle.py", "network_file.py", "weights.py")
    networks = (file for file in (PACKAGE / "models").rglob("*.py") if file.name not in others)
    assert _wrong(networks, ("tmgan.common", "tmgan.config", "tmgan.data")) == []


def test_the_kernels_import_nothing_of_tmgan():
    assert _wrong((ROOT / "kernels").rglob("*.py"), ("tmgan", "benchmarks", "tests")) == []


def test_the_product_imports_neither_tests_nor_benchmarks():
    assert _wrong(PACKAGE.rglob("*.py"), ("tests", "benchmarks")) == []
    benchmarks = set((ROOT / "benchmarks").rglob("*.py")) - {ROOT / "benchmarks/reliability/fuzz.py"}  # of tests/fuzz
    assert _wrong(iter(sorted(benchmarks)), ("tests",)) == []


def test_the_import_of_a_forbidden_room_is_noticed():
    file = ROOT / "tmgan/losses/adversarial.py"
    assert _wrong(iter([file]), ("tmgan.models",)) != []


@pytest.mark.parametrize("page", ["docs/architecture.md", "README.md", "CONTRIBUTING.md", "kernels/README.md"])
def test_the_paths_on_a_page_are_there(page):
    """Paths in backticks: from the root, from tmgan/, or, as NAME.py, a pattern for what is still to be written."""
    text = (ROOT / page).read_text()
    paths = {path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if "NAME" not in path and "://" not in path}
    paths |= {path for path in re.findall(r"`(\w+\.py)`", text) if "NAME" not in path}
    files = {
        file.name for folder in ("tmgan", "kernels", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")
    }
    known = [
        ROOT,
        PACKAGE,
        *(path for path in PACKAGE.iterdir() if path.is_dir()),
        ROOT / "kernels",
        ROOT / "benchmarks",
    ]
    ignored = {"runs/", "train/", "test/", "text/", "checkpoints/", "samples/", "CUB_200_2011/", "XDG_CACHE_HOME/tmgan"}
    missing = {path for path in paths if path not in files and not any((folder / path).exists() for folder in known)}
    assert missing - ignored == set()


def test_both_distributions_have_one_version():
    kernels = tomllib.loads((ROOT / "kernels/pyproject.toml").read_text())
    assert kernels["project"]["version"] == __version__
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"]
