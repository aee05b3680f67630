"""The numbers of the pages are those of benchmarks/results, the pictures of kernels/README.md are up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import tmgan_kernels
from benchmarks.kernels import pictures

ROOT = Path(__file__).parents[2]


def test_readme_matches_the_results():
    subprocess.run([sys.executable, "-m", "benchmarks.report", "--check"], check=True, cwd=ROOT)


def test_results_say_where_and_when():
    results = list((ROOT / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        document = json.loads(path.read_text())
        if path.name.startswith(("offline-", "memory-")):  # counted by a compiler, not measured by a machine
            assert {"compiled_for", "torch", "triton", "commit", "date"} <= document.keys(), path.name
            continue
        machine = document["machine"]
        assert {"processor", "cores", "gpu", "torch", "triton", "date"} <= machine.keys(), path.name


def test_every_operation_has_a_picture_of_what_it_does_today(tmp_path):
    """Within what another version of Pillow or of the processor's arithmetic may change."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second one would wait longer than it works on so little
    try:
        drawn = pictures.write(tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert [path.stem for path in drawn] == list(pictures.STRIPS) and set(pictures.STRIPS) == set(tmgan_kernels.__all__)
    kept = {path.name: path for path in pictures.FOLDER.iterdir()}
    assert set(kept) == {path.name for path in drawn}
    assert sum(path.stat().st_size for path in kept.values()) < 300_000
    for path in drawn:
        new, old = (np.asarray(Image.open(file).convert("RGB"), float) for file in (path, kept[path.name]))
        assert new.shape == old.shape and np.abs(new - old).mean() < 1, f"{path.name}: {pictures.COMMAND}"
