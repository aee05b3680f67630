"""Trains the editor on photographs, measures it on kinds it has not seen: results/quality-photographs-SIZE.json.

    python -m benchmarks.quality.photographs FOLDER               # a folder as CUB's: a few hundred photos, true masks
    python -m benchmarks.quality.photographs FOLDER --size 128

Cross-validation by kinds: the classes that served no choice of settings are dealt into three parts, and each run
leaves one out of the training of encoders and editor. Each held-out photo is edited by a caption of every other class,
those of the training photos included; once as the network says and once bolder (`tmgan edit --strength 1.5`). A
repeated command goes on with the parts that are missing; delete the file to begin again.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import describe
from benchmarks.quality.command import run_tmgan
from tmgan.common.files import write_json
from tmgan.common.progress import Progress
from tmgan.data.crops import centre_crops
from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor, load
from tmgan.evaluation.metrics.colour_words import ColourWords
from tmgan.evaluation.metrics.edits import Pairs, make_edits
from tmgan.evaluation.metrics.per_image import Preserved
from tmgan.reports.pictures import grid, save_picture

RESULTS = Path(__file__).parents[1] / "results"
TUNED_ON = ("003.Duck", "005.Lark", "010.Rainbow_Lorikeet")  # held out, with seed 0, when the settings were chosen
PARTS = 3  # of the other classes
ENCODERS = "--encoder.kind small --encoder.dim 64 --encoder.word-dim 64 --pretrain.images 40000 --pretrain.recolour 0.8"
# Options of `tmgan train --preset editor`: small networks for a processor, and few photographs.
OPTIONS = (
    "--images 24000 --batch 8 --optim.lr-g 3e-3 --optim.lr-d 1e-3 --optim.ema-half-life 2000 "
    "--model.g-width 24 --model.top-width 12 --model.d-width 16 --model.affine-dim 24 --model.residual-blocks 0 "
    f"{ENCODERS} --pretrain.lr 5e-3 --pretrain.lr-decay 0.99 --pretrain.dropout 0 --runtime.threads 1"
)
BOLD = 1.5
TEXTS = (
    "a bird with a red head and white wings",
    "a small black bird with a yellow belly",
    "this bird is black with an orange beak",
    "this large bird is white with pink wings",
    "a bird with green wings and a red belly",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.photographs", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("folder", type=Path, help="as CUB's: CUB_200_2011/ with images and segmentations, and text/")
    parser.add_argument("--size", type=int, default=64, choices=(64, 128), help="edge of the images")
    options = parser.parse_args()
    torch.set_num_threads(1)  # two threads on a busy processor wait for each other at every step of the LSTM
    measure(options.folder.resolve(), options.size, RESULTS / f"quality-photographs-{options.size}.json")


def measure(source: Path, size: int, path: Path) -> None:
    """Train and measure the parts that the file does not have yet, and write each at once."""
    document = json.loads(path.read_text("utf-8")) if path.exists() else _new(source)
    if (
        document["photos"] != source.name
        or document["options"] != OPTIONS
        or document["machine"]["sources"] != describe("cpu")["sources"]
    ):
        raise SystemExit(f"{path} was measured with other photos, options or sources of tmgan. Delete it first.")
    for part in range(1, PARTS + 1):
        if any(row["part"] == part for row in document["rows"]):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder, pack, run = (Path(scratch) / name for name in ("photos", "pack", "run"))
            held_out = link_split(source, folder, part)
            run_tmgan(["data", "prepare", str(folder), str(pack), "--image-size", str(size)])
            train = ["train", "--preset", "editor", "--data", str(pack), "--run", str(run), "--seed", str(part)]
            seconds, processor_seconds = run_tmgan([*train, "--model.image-size", str(size), *OPTIONS.split()])
            editor, photos = load(run), Pack.open(pack)
            row = {"part": part, "held_out": held_out, "seconds": round(seconds, 1)}
            row["processor_seconds"] = round(processor_seconds, 1)
            row |= {"as_is": score(editor, photos), "bold": score(editor, photos, BOLD)}
            document["rows"].append(row)
            save_picture(picture(editor, photos), path.with_name(f"{path.stem}-{part}.png"))
        write_json(path, document)
        print(f"{path}: {', '.join(held_out)}: {row['as_is']}; with strength {BOLD:g}: {row['bold']}")


def link_split(source: Path, folder: Path, part: int) -> list[str]:
    """A folder with the photos of `source` that leaves the classes of a part out of training, and their names."""
    classes = sorted(f.name for f in (source / "CUB_200_2011" / "images").iterdir() if f.is_dir())
    if not set(TUNED_ON) <= set(classes):
        raise SystemExit(
            f"{source} has not the classes {', '.join(TUNED_ON)}: the settings were chosen on another set."
        )
    held_out = [name for name in classes if name not in TUNED_ON][part - 1 :: PARTS]
    for name in ("CUB_200_2011", "text"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(source / name)
    for split, names in (("train", sorted(set(classes) - set(held_out))), ("test", held_out)):
        (folder / split).mkdir()
        photos = [
            photo for name in names for photo in sorted((source / "CUB_200_2011" / "images" / name).glob("*.jpg"))
        ]
        lists = {
            "filenames": [f"{photo.parent.name}/{photo.stem}" for photo in photos],
            "class_info": [classes.index(photo.parent.name) + 1 for photo in photos],
        }
        for name, entries in lists.items():
            (folder / split / f"{name}.pickle").write_bytes(pickle.dumps(entries))
    return held_out


@torch.no_grad()
def score(editor: Editor, pack: Pack, strength: float = 1.0) -> dict[str, float]:
    """Colour words and preserved PSNR of the test photos, each edited by a caption of every other class."""
    if strength != 1.0:
        editor = copy.copy(editor)  # the metrics call edit_tensors without a strength
        editor.edit_tensors = functools.partial(editor.edit_tensors, strength=strength)  # type: ignore[method-assign]
    random = np.random.default_rng(0)
    rows = []
    for image in pack.test.tolist():
        for label in sorted(set(pack.class_ids.tolist()) - {int(pack.class_ids[image])}):
            other = int(random.choice((pack.class_ids == label).nonzero().flatten().numpy()))
            rows.append((image, *(int(random.integers(pack.first[i], pack.first[i + 1])) for i in (image, other))))
    pairs = Pairs(*torch.tensor(rows).unbind(1))
    metrics = (ColourWords(pack, ("dataset",)), Preserved())
    for batch in make_edits(editor, pack, pairs, ("dataset",), 0, 30):
        for metric in metrics:
            metric.add(batch)
    found = {name: m.value for metric in metrics for name, m in metric.measures(Progress(visible=False)).items()}
    names = ("colour_words", "colour_words_photo", "colour_words_real", "colour_words_way", "preserved_psnr/dataset")
    return {name.removesuffix("/dataset"): round(found[name], 4) for name in names}


def picture(editor: Editor, pack: Pack) -> torch.Tensor:
    """Two photos of each held-out class, edited by TEXTS."""
    kinds = sorted(set(pack.class_ids[pack.test].tolist()))
    index = torch.cat([pack.test[pack.class_ids[pack.test] == kind][[0, -1]] for kind in kinds])
    photos = centre_crops(pack.tiles, index, editor.image_size)
    edits = [editor.edit_tensors(photos, [text] * len(photos)).image.float() for text in TEXTS]
    return grid([photos, *edits], ["photo", *TEXTS])


def _new(source: Path) -> dict:
    return {
        "schema": 1,
        "kind": "quality-photographs",
        "photos": source.name,
        "options": OPTIONS,
        "tuned_on": list(TUNED_ON),
        "machine": describe("cpu"),
        "rows": [],
    }


if __name__ == "__main__":
    main()
