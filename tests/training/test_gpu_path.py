"""The way to a GPU's kernels, on a card that is there but computes nothing: benchmarks/stand_in.

What torch, Triton and we do on the host is real, so this finds tensors on the wrong device, waits inside a CUDA graph
and launches that a card would refuse. No number is checked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.stand_in import build
from benchmarks.step import host

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(bool(build.missing()), reason=build.missing())


def on_card(*arguments: str, caching: bool = False, limit: int = 300) -> str:
    """What a module prints on the card; AssertionError with all of it when it fails."""
    command = [sys.executable, "-m", "benchmarks.stand_in", *(["--caching"] if caching else []), *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return process.stdout + process.stderr


def test_the_commands_of_a_run(tmp_path):
    out = on_card("tests.training.gpu_path", "commands", str(tmp_path))
    assert "on cuda (NVIDIA H200), bf16, eager" in out
    assert "Nothing went bad" in out, "replay measures what a step has on the host too"
    assert "The profiler saw no kernel" in out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"] == 40
    assert (tmp_path / "edit.png").stat().st_size > 0


def test_a_step_in_a_cuda_graph(tmp_path):
    out = on_card("tests.training.gpu_path", "graph", str(tmp_path), caching=True)
    assert "saved beside a graph: True" in out
    more = int(re.search(r"a graph needs what stays, and (\d+)%", out)[1])
    assert more > 0, "what it holds between its kernels was taken at its capture"
    assert "refused: look" in out, "a graph cannot wait for the device"
    assert "refused: copy" in out, "nor copy from memory that is not page-locked"


@pytest.mark.slow
def test_what_the_host_takes(tmp_path):
    on_card(
        "benchmarks.step.host", "--presets", "quickstart:2", "--out", str(tmp_path / host.FILE), caching=True, limit=900
    )
    eager, compiled, graphed = json.loads((tmp_path / host.FILE).read_text())["rows"]
    assert eager["launches"] > compiled["launches"] > 100 > graphed["launches"], "a graph is one launch"
    assert eager["seconds"] > 10 * graphed["seconds"]
    assert "`quickstart`, 2 | graphed |" in host.section(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["compiled", "graphed"])
def test_a_run_with_inductor_and_triton(engine, tmp_path):
    """What they write is compiled for the card by their own compilers, and launched."""
    first, run = tmp_path / "first", tmp_path / "run"
    flags = "--images 16 --pretrain.images 32 --drawn-images 60 --runtime.engine eager"
    on_card("tmgan", "train", "--run", str(first), *flags.split())
    flags = f"--encoders {first} --data {first}/drawn/pack --images 48 --output.checkpoint-images 16"
    arguments = ("--run", str(run), *flags.split(), "--runtime.engine", engine)
    out = on_card("tmgan", "train", *arguments, caching=engine == "graphed", limit=900)
    assert f"on cuda (NVIDIA H200), bf16, {engine}" in out
    assert json.loads((run / "run.json").read_text())["images"] == 48
