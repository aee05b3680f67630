"""Trains from nothing and writes results/quality-NAME.json, for README's table of quality.

    python -m benchmarks.quality                  # every budget of budgets.py, three seeds each
    python -m benchmarks.quality default          # what `tmgan train` does

Each run is one `tmgan train` in a process of its own. Its processor seconds are all of it: start, drawing, packing,
pretraining, training, evaluation. A repeated command goes on with the seeds that are missing; delete the file to begin
again.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.machine import describe
from benchmarks.quality.budgets import (
    BIRDS,
    BUDGETS,
    EVALUATED,
    IMAGE_SIZE,
    SEEDS,
    SENTENCES,
    SET_SEED,
    SET_SIZE,
    TUNED_ON,
)
from benchmarks.quality.command import run_tmgan
from tmgan.common.files import write_json
from tmgan.data.drawn.drawn_pack import drawn_pack
from tmgan.editing.editor import Editor, load
from tmgan.evaluation.evaluate import baselines
from tmgan.evaluation.metrics.colour_accuracy import ColourTest, colour_accuracy, make_test
from tmgan.reports.pictures import grid, save_picture

RESULTS = Path(__file__).parents[1] / "results"
MEASURES = ("colour_accuracy", "others_kept", "background_psnr")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"budgets, of {', '.join(BUDGETS)}; none: all")
    names = parser.parse_args().names or list(BUDGETS)
    for name in names:
        if name not in BUDGETS:
            parser.error(f"there is no budget {name!r}; there are {', '.join(BUDGETS)}")
    with tempfile.TemporaryDirectory() as folder:
        test = make_test(drawn_pack(Path(folder) / "set", SET_SIZE, SET_SEED, IMAGE_SIZE, print), IMAGE_SIZE, EVALUATED)
        for name in names:
            measure(name, BUDGETS[name], test, RESULTS)


def measure(name: str, options: tuple[str, ...], test: ColourTest, results: Path) -> None:
    """Train and measure the seeds that results/quality-NAME.json does not have yet, and write each at once."""
    path = results / f"quality-{name}.json"
    document = json.loads(path.read_text("utf-8")) if path.exists() else _new(options)
    if document["options"] != list(options):
        raise SystemExit(f"{path} was measured with other options: {' '.join(document['options'])}. Delete it first.")
    if document["machine"]["sources"] != describe("cpu")["sources"]:
        raise SystemExit(f"{path} was measured with other sources of tmgan. Delete it first.")
    for seed in SEEDS:
        if any(row["seed"] == seed for row in document["rows"]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            seconds, processor_seconds = run_tmgan(["train", *options, "--seed", str(seed), "--run", str(run)])
            editor = load(run)
            if not document["baselines"]:
                document["baselines"] = {kind: score(model, test) for kind, model in baselines(editor).items()}
            own = json.loads((run / "evaluation.json").read_text("utf-8"))["trained"]["measures"]
            document["rows"].append(
                {
                    "seed": seed,
                    "seconds": round(seconds, 1),
                    "processor_seconds": round(processor_seconds, 1),
                    **score(editor, test),
                    "own": {measure: own[measure]["value"] for measure in MEASURES},
                }
            )
        if seed == SEEDS[0]:
            save_picture(strip(editor, test), path.with_suffix(".png"))
        write_json(path, document)
        print(f"{path}: seed {seed}, {processor_seconds:.0f} s of processor time")


def strip(editor: Editor, test: ColourTest) -> Image.Image:
    """The first birds of the set (rows), as they are and edited by each of SENTENCES."""
    birds = test.images[:BIRDS]
    columns = [editor.edit_tensors(birds, [sentence] * len(birds)).image for sentence in SENTENCES]
    return grid([birds, *columns], ["photo", *SENTENCES])


def _new(options: tuple[str, ...]) -> dict:
    return {
        "schema": 1,
        "kind": "quality",
        "options": list(options),
        "tuned_on": TUNED_ON,
        "evaluated": {"birds": EVALUATED, "set_seed": SET_SEED},
        "machine": describe("cpu"),
        "rows": [],
        "baselines": {},
    }


def score(editor: Editor, test: ColourTest) -> dict[str, float | None]:
    """null for the PSNR of an exact copy."""
    measures = colour_accuracy(test, lambda images, texts: editor.edit_tensors(images, texts).image)
    return {name: value if math.isfinite(value := measures[name].value) else None for name in MEASURES}


if __name__ == "__main__":
    main()
