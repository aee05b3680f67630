"""Every script of examples/ runs as it stands, at toy size. A new one is found by its being there."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ALLOWED = {"tmgan", "tmgan_kernels", "torch", "numpy", "PIL"} | set(sys.stdlib_module_names)


def run(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str) -> None:
    """As `python PATH ARGUMENTS` would, but in this process: torch is loaded already."""
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
        torch.compiler.reset()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_runs_at_toy_size(path, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, path, "--toy")
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_needs_only_what_a_user_has(path):
    """Public modules: nothing of benchmarks or tests, and no room of tmgan behind its front door."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.partition(".")[0] in ALLOWED, name
            assert not name.startswith(("tmgan.", "tmgan_kernels.")), name


def test_what_an_edit_changed_is_found(monkeypatch, tmp_path, capsys):
    """On photos from disk: an inverted square is 24 pixels wide, in one of 96; the mask is up to four wider around."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:96, :96]
    photo = np.repeat((128 + 100 * np.sin(x / 9) * np.cos(y / 13))[..., None], 3, 2).round().astype(np.uint8)
    edited = photo.copy()
    edited[36:60, 36:60] = 255 - edited[36:60, 36:60]
    for name, pixels in (("before.png", photo), ("after.png", edited)):
        Image.fromarray(pixels).save(tmp_path / name)
    files = [str(tmp_path / name) for name in ("before.png", "after.png")]
    run(monkeypatch, ROOT / "examples/what_an_edit_changed.py", *files, "--out", str(tmp_path / "kept.png"))
    share = float(capsys.readouterr().out.split("changed: ")[1].split("%")[0])
    assert 3 < share < 100 * (32 / 96) ** 2
    assert Image.open(tmp_path / "kept.png").size == (96, 96)


def test_three_lines_make_a_discriminator_aware_of_sharpness():
    text = (ROOT / "examples/sharpness_aware_discriminator.py").read_text()
    assert text.count("# (SAD)") == 3
