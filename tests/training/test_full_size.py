"""The whole way at 256 pixels and the published widths: from drawn birds to an edit, stopped and resumed in between.

Frozen networks have random weights. Three steps of two photos say nothing about what is learned, but they pass through
every network at the size that people train, and through the files between the commands.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.processes import MOST_SECONDS
from tmgan.cli import main
from tmgan.data.masks import extremes, open_masks
from tmgan.data.pack import Pack
from tmgan.editing.editor import load
from tmgan.models import bundle

pytestmark = pytest.mark.slow

EDGE = 304  # of the tiles for crops of 256 pixels
OWN_ATTENTION_LACKS = 256 * (64**2 + 128**2)  # the main module's two projections of words to positions
CPU = ["--runtime.device", "cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn `birds`, their `pack` with FCN masks, and `encoders`."""
    folder = tmp_path_factory.mktemp("full")
    birds, pack, encoders = (str(folder / name) for name in ("birds", "pack", "encoders"))
    main(["data", "synth", birds, "--count", "6", "--image-size", str(EDGE)])
    main(["data", "prepare", birds, pack])
    # With random weights the FCN sees no bird anywhere. It sees this class in a part of every picture.
    main(["data", "masks", pack, "--weights", "random", "--classes", "tvmonitor", "--batch", "3", *CPU])
    steps = ["--pretrain.images", "4", "--pretrain.batch", "2"]
    main(["damsm", "--data", pack, "--run", encoders, "--weights", "random", *steps, *CPU])
    return folder


def stopped_and_resumed(folder: Path, preset: str, *source: str) -> list[dict[str, float]]:
    """Train three steps into FOLDER/PRESET, with a SIGTERM after the first one; the rows of stats.jsonl.

    The checkpoints, gigabytes, are removed.
    """
    run = folder / preset
    command = [sys.executable, "-m", "tmgan", "train", "--preset", preset, *source, "--run", str(run), *CPU]
    command += ["--images", "6", "--batch", "2", "--output.tick-images", "2", "--output.checkpoint-images", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        limit = time.monotonic() + MOST_SECONDS
        while not (run / "checkpoints" / "images-000000000002.pt").exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < limit
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output = process.communicate()[0]
    assert process.returncode == 143, output
    state = json.loads((run / "run.json").read_text())
    assert (state["status"], state["reason"]) == ("stopped", "SIGTERM") and 2 <= state["images"] < 6, output

    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"Resuming {run} at {state['images']} of 6 images." in again.stdout
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    shutil.rmtree(run / "checkpoints")
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [2, 4, 6]
    assert all(math.isfinite(value) for row in rows for value in row.values()), rows
    return rows


def parameters(run: Path) -> dict[str, int]:
    """Names and sizes of the exported generator's parameters, which are finite."""
    found = dict(load(run).generator.named_parameters())
    assert all(torch.isfinite(p).all() for p in found.values())
    return {name: p.numel() for name, p in found.items()}


def measure_and_edit(folder: Path, run: Path) -> None:
    """`tmgan evaluate`, and `tmgan edit` of a photo that is wider than high, so that only its middle is edited."""
    numbers = run / "numbers.json"
    what = ["--split", "train", "--count", "2", "--metrics", "sharpness", "colour_accuracy", "--json", str(numbers)]
    main(["evaluate", str(run), "--weights", "random", *what, *CPU])
    measures = json.loads(numbers.read_text())["trained"]["measures"]
    assert {"sharpness", "colour_accuracy"} <= measures.keys() and math.isfinite(measures["sharpness"]["value"])

    photo, edited = run / "photo.png", run / "edited.png"
    bird = np.array(Image.open(min(folder.glob("birds/**/*.jpg"))))
    before = np.pad(bird, ((0, 0), (80, 80), (0, 0)), mode="edge")
    Image.fromarray(before).save(photo)
    main(["edit", str(run), str(photo), "--text", "a bird with a red head", "--out", str(edited), *CPU])
    after = np.array(Image.open(edited))
    assert after.shape == before.shape == (EDGE, EDGE + 160, 3)
    changed = np.abs(after.astype(int) - before)
    assert changed[:, 80:-80].mean() > 1 and not changed[:, :80].any() and not changed[:, -80:].any()


def test_the_combined_method_of_the_paper(made):
    pack = Pack.open(made / "pack")
    empty, full = extremes(open_masks(pack, "fcn"), pack.train)
    assert empty == full == 0
    source = ["--data", str(made / "pack"), "--encoders", str(made / "encoders")]
    for row in stopped_and_resumed(made, "combined", *source):
        assert {"masked_mae", "d_blurred"} <= row.keys()
    assert sum(parameters(made / "combined").values()) == 15_809_840
    measure_and_edit(made, made / "combined")


def test_manigan_and_its_detail_correction(made):
    source = ["--data", str(made / "pack"), "--encoders", str(made / "encoders")]
    for row in stopped_and_resumed(made, "manigan", *source):
        assert {"d_64", "d_128"} <= row.keys()
    run = made / "manigan"
    assert sum(parameters(run).values()) == 23_382_960 - OWN_ATTENTION_LACKS
    published = dataclasses.replace(load(run).config.model, attention="published")
    network = bundle.build_generator(published, bundle.load_encoders(run))
    assert sum(p.numel() for p in network.parameters()) == 23_382_960
    measure_and_edit(made, run)

    for row in stopped_and_resumed(made, "manigan-dcm", "--from", str(run)):
        assert row["difference"] > 0 and not {"d_64", "d_128"} & row.keys()
    sizes = parameters(made / "manigan-dcm")
    assert sum(n for name, n in sizes.items() if name.startswith("correction.")) == 17_781_600
    measure_and_edit(made, made / "manigan-dcm")
