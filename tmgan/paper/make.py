"""`tmgan tables` from the command to the finished page."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from tmgan.common import machine
from tmgan.common.files import write_json
from tmgan.common.version import __version__
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import DamsmConfig
from tmgan.data.drawn.drawn_pack import drawn_pack
from tmgan.data.masks import read_record
from tmgan.data.pack import Pack
from tmgan.editing.editor import load
from tmgan.evaluation.evaluate import Evaluation
from tmgan.evaluation.protocol import Protocol
from tmgan.models import bundle
from tmgan.paper.figures import edits_of, figure5, heat_maps, side_by_side
from tmgan.paper.measure import evaluation_of
from tmgan.paper.pages import document
from tmgan.paper.published import Bench, Maps, gradient_maps
from tmgan.paper.request import Request
from tmgan.paper.results import gather
from tmgan.paper.runs import Run, shared_encoders, train_all
from tmgan.paper.variants import BASE, Variant, configuration, select, variants
from tmgan.reports.run_report import training_seconds
from tmgan.training.editor_task import check_fits

_REDUCED_IMAGES = 3_200
_CHEAP = ("mask_score", "sharpness", "preserved", "colour_accuracy")

Pictures = dict[str, tuple[Image.Image, str]]  # name -> picture and caption


def make(asked: Request, command: str) -> list[Path]:
    """Train what is missing, measure, and write OUT/tables.html, .md and .json. Returns their paths.

    command: what the page says it was made by.

    runs.Stopped when a signal came; ValueError for what does not fit together, before anything is trained.
    """
    tables = sorted(set(asked.only))
    drawn, reduced = not asked.data, asked.reduced or not asked.data
    size = 64 if reduced else 256
    pack = (
        drawn_pack(asked.out / "drawn", asked.drawn_images, 0, 64, _say, replace=False)
        if drawn
        else Pack.open(Path(asked.data), size)
    )
    pre_trained = "fcn" if not drawn and read_record(pack, "fcn") is not None else "dataset"
    everything = variants(pre_trained)
    wanted = select(everything, tables, asked.as_published)
    runnable = [v for v in wanted if v.settings is not None]
    top = {
        "data": str(pack.path),
        "encoders": asked.encoders or str(asked.out / "encoders"),
        "runtime": asdict(asked.runtime),
    }
    if asked.images or reduced:
        top["images"] = asked.images or _REDUCED_IMAGES
    runs = [Run(v.name, seed, _configuration(v, asked, reduced, seed, top)) for seed in asked.seeds for v in runnable]
    for run in runs:
        check_fits(run.config, pack, None)
    encoders = _encoders(asked, pack, reduced)
    _same_as_before(asked.out, {"pack": pack.hash, "encoders": encoders.hash()})
    train_all(runs, pack, encoders, _say)
    protocol = _protocol(asked, pack, reduced, pre_trained)
    evaluations: dict[str, list[Evaluation]] = {v.name: [] for v in runnable}
    for run in runs:
        _say(f"Measuring {run.path.name}.")
        evaluations[run.variant].append(evaluation_of(run.path, pack, protocol, asked.runtime, codes=reduced))
    maps = _gradient_maps(runs, pack, encoders, pre_trained) if asked.as_published else None
    first = {run.variant: run for run in reversed(runs)}  # of the first seed
    n = len(evaluations[BASE][0].images)
    setup = {
        "command": command,
        "drawn": drawn,
        "reduced": reduced,
        "tables": tables,
        "n": n,
        "seeds": list(asked.seeds),
        "images": runs[0].config.images,
        "image_size": size,
        "pre_trained": pre_trained,
        "encoder_weights": encoders.weights,
        "seconds": {
            path.name: round(training_seconds(path), 1)
            for path in (asked.out / "encoders", *(run.path for run in runs))
        },
        "protocol": asdict(protocol),
        "photos": f"Measured on {n} photos of the {protocol.split} split, centre crops, each edited by "
        + ("a caption of a photo of another class" if protocol.captions == "other" else "its own caption")
        + "; colour accuracy on as many, with one part's colour swapped in the caption.",
    }
    pictures = _figures(first, pack, protocol, pre_trained, asked) | (_heat(maps) if maps else {})
    captions = {name: caption for name, (_, caption) in pictures.items()}
    runtime = decide(asked.runtime)
    where = {"device": runtime.describe(), **machine.describe(runtime.device.type), "tmgan": __version__}
    about = gather(setup, where, everything, evaluations, captions, maps)
    name = "tables-as-published" if asked.as_published else "tables"
    page = document(about, {name: picture for name, (picture, _) in pictures.items()}).write(asked.out, name)
    numbers = asked.out / f"{name}.json"
    write_json(numbers, about)
    return [*page, numbers]


def _configuration(variant: Variant, asked: Request, reduced: bool, seed: int, top: dict[str, Any]) -> Any:
    output = {"tick_images": 1_000, "sample_images": top["images"], "checkpoint_images": 2_000} if reduced else {}
    return configuration(
        variant, reduced, **top, output=output, seed=seed, run=str(asked.out / "runs" / f"{variant.name}-seed-{seed}")
    )


def _encoders(asked: Request, pack: Pack, reduced: bool) -> bundle.Encoders:
    """The encoders that all runs share, trained first if need be."""
    if asked.encoders:
        return bundle.load_encoders(Path(asked.encoders))
    config = DamsmConfig(data=str(pack.path), run=str(asked.out / "encoders"), runtime=asked.runtime)
    if reduced:
        quick = configfile.from_preset("quickstart")
        config = dataclasses.replace(
            config,
            encoder=quick.encoder,
            text=quick.text,
            loss=quick.loss,
            pretrain=quick.pretrain,
            output=quick.output,
        )
    return bundle.load_encoders(shared_encoders(config))


def _same_as_before(out: Path, identity: dict[str, str]) -> None:
    """Refuse to put runs of other data or encoders beside those that are there."""
    path = out / "identity.json"
    if path.exists():
        before = json.loads(path.read_text())
        changed = [name for name, value in identity.items() if before.get(name) != value]
        if changed:
            raise ValueError(
                f"The runs in {out} were made with other {' and other '.join(changed)}. Choose another --out."
            )
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)


def _protocol(asked: Request, pack: Pack, reduced: bool, pre_trained: str) -> Protocol:
    drawn = pack.parts is not None and len(pack.test) > 0
    metrics = tuple(m for m in _CHEAP if m != "colour_accuracy" or drawn) if reduced else ()
    return Protocol(metrics=metrics, count=asked.count or (200 if reduced else 1000))


def _gradient_maps(runs: list[Run], pack: Pack, encoders: bundle.Encoders, pre_trained: str) -> Maps:
    _say("Measuring gradients.")
    of = {run.variant: run.config for run in reversed(runs)}
    others = {name: of[name] for name in ("sad9", "sad-published") if name in of}
    return gradient_maps(Bench(of[BASE], pre_trained, pack, encoders, others), pre_trained)


def _figures(first: dict[str, Run], pack: Pack, protocol: Protocol, pre_trained: str, asked: Request) -> Pictures:
    """The paper's figures, of the first seed; those whose runs are there."""
    needed = {"figure 5": [BASE], "figure 6": [BASE, "nsl", "gm", "sad5", "sad9"], "figure 7": [BASE, "combined"]}
    names = [n for n in dict.fromkeys(v for which in needed.values() for v in which) if n in first]
    titles = {v.name: v.label for v in variants(pre_trained)}
    edits = {n: edits_of(load(first[n].path, asked.runtime), pack, protocol, ("histogram", pre_trained)) for n in names}
    texts = "; ".join(f"{k + 1}: {text}" for k, text in enumerate(edits[BASE].texts))
    words = (
        f"Held-out photos, the first of the evaluation, seed {first[BASE].seed}, not chosen by hand. "
        f"Texts by row: {texts}."
    )
    captions = {
        "figure 5": "Figure 5 of the paper: masks of image comparing. White is kept; under a mask the rest is black.",
        "figure 6": "Figure 6 of the paper: the sharpness methods.",
        "figure 7": "Figure 7 of the paper: the combined method.",
    }
    pictures = {}
    for name, which in needed.items():
        if all(n in edits for n in which):
            picture = (
                figure5(edits[BASE], pre_trained)
                if name == "figure 5"
                else side_by_side((titles[n], edits[n]) for n in which)
            )
            pictures[name] = (picture, f"{captions[name]} {words}")
    return pictures


def _heat(maps: Maps) -> Pictures:
    words = {
        "Lightweight GAN": "The baseline's whole gradient, for comparison.",
        "masked MAE": "Masked MAE: inside its mask it pulls the edit back to the photo. As published the "
        "histogram mask is 1 everywhere, so the bird is pulled back too. Where the target text is "
        "another photo's, a mask also says where the perceptual loss counts.",
        "NSL": "NSL: as the paper says in G's loss. As published its gradient is erased before G's update.",
        "GM": "GM: as the paper says half as much again on sharp regions. As published it never reaches the image.",
        "SAD": "SAD: photos blurred as D is shown them, and D's gradient there. As published they are grey as well.",
    }
    below = "Brightness: size of the gradient, each map by its own 99.5th percentile; black: none."
    return {f"gradient {name}": (picture, f"{words[name]} {below}") for name, picture in heat_maps(maps).items()}


def _say(line: str) -> None:
    print(f"tables: {line}", flush=True)
