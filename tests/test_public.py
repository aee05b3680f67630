"""What `import tmgan` offers: it is all there, documented, typed, imported late, and its examples run."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import tmgan

PUBLIC = [name for name in tmgan.__all__ if name != "__version__"]


def test_the_lists_agree():
    """Of names, of their modules, and of what type checkers see."""
    tree = ast.parse(Path(tmgan.__file__).read_text())
    seen = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for part in node.body
        if isinstance(part, ast.ImportFrom)
        for alias in part.names
    }
    assert seen == set(PUBLIC) == set(tmgan._HOME)
    assert {*dir(tmgan)} == {*tmgan.__all__}


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_is_documented_and_typed(name):
    value = getattr(tmgan, name)
    assert (inspect.getdoc(value) or "").strip()
    functions = [value] if inspect.isfunction(value) else []
    if inspect.isclass(value) and value.__module__.startswith("tmgan"):
        functions = [f for n, f in vars(value).items() if inspect.isfunction(f) and not n.startswith("_")]
    for function in functions:
        assert inspect.getdoc(function), function
        missing = inspect.signature(function).parameters.keys() - {"self"} - function.__annotations__.keys()
        assert not missing and "return" in function.__annotations__, (function, missing)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match="'edit'.*public are.*load"):
        _ = tmgan.edit


def test_the_import_takes_no_torch():
    code = "import sys, tmgan; tmgan.TrainConfig, tmgan.Protocol, tmgan.quiet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_examples_of_docstrings_run(tiny_editor, tmp_path, monkeypatch):
    """In a folder with a run and a photo; they make packs/birds themselves, first of all."""
    monkeypatch.chdir(tmp_path)
    tmgan.train(dataclasses.replace(tiny_editor, run="runs/quickstart", images=8), evaluated=False)
    Image.radial_gradient("L").convert("RGB").save("PHOTO.jpg")
    modules = sorted({home.partition(":")[0] for home in tmgan._HOME.values()}, key=lambda name: "prepare" not in name)
    for module in modules:
        result = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
        assert result.failed == 0, module
    for name in ("configure", "prepare", "load", "evaluate", "quiet"):
        assert ">>>" in inspect.getdoc(getattr(tmgan, name)), name
