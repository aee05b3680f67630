"""The package without Triton, without a GPU, and as its documentation says."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tmgan_kernels

ROOT = Path(__file__).parents[2]
WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # `import triton` now raises ImportError
"""
WITHOUT_A_GPU = """
import torch
from tmgan_kernels import laplace_sharpness
assert not torch.cuda.is_initialized()
assert laplace_sharpness(torch.ones(1, 3, 4, 4)).abs().max() == 0
try:
    laplace_sharpness(torch.ones(1, 3, 4, 4), impl="triton")
except RuntimeError as error:
    print(error)
"""


def run(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT / "kernels"), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_works_without_triton():
    assert "Triton is not installed" in run(WITHOUT_TRITON + WITHOUT_A_GPU)


def test_says_what_an_explicit_choice_lacks():
    assert "needs tensors on an NVIDIA GPU" in run(WITHOUT_A_GPU)


def test_every_operation_runs_without_triton():
    """Their examples, executed where `import triton` fails."""
    run(
        WITHOUT_TRITON
        + f"""
import doctest, importlib
for name in {tmgan_kernels.__all__!r}:
    module = importlib.import_module("tmgan_kernels." + name)
    failed, tried = doctest.testmod(module)
    assert tried and not failed, name
"""
    )


@pytest.mark.parametrize("name", tmgan_kernels.__all__)
def test_is_documented(name):
    function = getattr(tmgan_kernels, name)
    module = importlib.import_module(f"tmgan_kernels.{name}")
    for part in ("Args:", "Returns:", "Raises:", "Example:"):
        assert part in function.__doc__, part
    parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
    assert parameters[-1] == "impl"
    for parameter in parameters:
        assert re.search(rf"\b{parameter}\b", function.__doc__.partition("Args:")[2]), parameter
    assert "bytes" in module.__doc__, "the traffic belongs in the module's docstring"
    assert hasattr(module, f"{name}_eager")


def test_readme_names_every_operation_and_its_example_runs():
    readme = ROOT / "kernels" / "README.md"
    text = readme.read_text()
    for name in tmgan_kernels.__all__:
        assert f"`{name}(" in text, name
    failed, tried = doctest.testfile(str(readme), module_relative=False)
    assert tried and not failed
