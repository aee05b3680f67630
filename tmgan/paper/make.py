"""`tmgan tables` from the command to the finished page."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from tmgan.common import machine
from tmgan.common.files import write_json
from tmgan.common.lock import only_one
from tmgan.common.progress import say
from tmgan.common.text import edited_photos
from tmgan.common.version import __version__
from tmgan.config.runtime import decide
from tmgan.config.settings import DamsmConfig, TrainConfig
from tmgan.data.comparable import comparison_notes
from tmgan.data.drawn.drawn_pack import drawn_pack
from tmgan.data.masks import read_record
from tmgan.data.pack import Pack
from tmgan.editing.editor import load
from tmgan.evaluation.evaluate import Evaluation
from tmgan.evaluation.metrics.edits import first_edits
from tmgan.evaluation.protocol import Protocol
from tmgan.models import bundle, weights
from tmgan.paper.figures import figure5, heat_maps, side_by_side
from tmgan.paper.measure import evaluation_of
from tmgan.paper.pages import document
from tmgan.paper.published import Bench, Maps, gradient_maps
from tmgan.paper.request import Request
from tmgan.paper.results import gather
from tmgan.paper.runs import Run, shared_encoders, train_all, unless_baseline
from tmgan.paper.variants import (
    BASE,
    OBEDIENCE,
    OURS,
    Pair,
    PreTrained,
    Variant,
    baseline,
    configuration,
    ours,
    select,
    variants,
)
from tmgan.reports.run_report import training_seconds
from tmgan.training.editor_task import check_fits

_REDUCED_IMAGES = 3_200
_CHEAP = ("mask_score", "sharpness", "preserved")
_ROWS = 4  # of the pictures

Pictures = dict[str, tuple[Image.Image, str]]  # name -> picture and caption


def make(request: Request, command: str) -> list[Path]:
    """Train what is missing, measure, and write OUT/tables.html, .md and .json, if no other process is doing that.

    Args:
        command: the command line that the page names as its origin.

    Returns:
        The paths of the three files.

    Raises:
        Interrupted: when a signal came; the same command goes on from there.
        ValueError: for what does not fit together, before anything is trained.
        FloatingPointError: when a run diverged: at once for one of the baseline, else after the page of the others.
    """
    out = Path(os.path.realpath(request.out))
    busy = f"Another process is making tables in {request.out}. Wait for it, or choose another --out."
    with only_one(out.with_name(f".{out.name}.lock"), busy):
        return _make(request, command)


def _make(request: Request, command: str) -> list[Path]:
    tables = sorted(set(request.only))
    drawn, reduced = not request.data, request.reduced or not request.data
    size = 64 if reduced else 256
    pack = (
        drawn_pack(request.out / "drawn", request.drawn_images, 0, 64, _say, replace=False)
        if drawn
        else Pack.open(Path(request.data), size)
    )
    pre_trained: PreTrained = "fcn" if not drawn and read_record(pack, "fcn") is not None else "dataset"
    everything = variants(pre_trained)
    selection = select(everything, tables, request.as_published, one_pair=bool(request.encoders))
    top: dict[str, Any] = {"data": str(pack.path), "runtime": asdict(request.runtime)}
    if request.images or reduced:
        top["images"] = request.images or _REDUCED_IMAGES
    runs = [
        Run(v.name, seed, _configuration(v, request, reduced, seed, top), v.encoders)
        for seed in request.seeds
        for v in selection
    ]
    for v, run in zip(selection * len(request.seeds), runs, strict=True):
        with _unless_ours(v.ours):
            check_fits(run.config, pack, None)
    for masks in {run.config.method.stored_masks for run in runs if not run.path.exists()}:
        comparison_notes(pack, masks=masks)  # refuse what could only be trained in vain
    encoders = _encoders(request, pack, reduced, dict.fromkeys(v.encoders for v in selection), pre_trained)
    shared = encoders["shared"]
    _same_as_before(request.out, {"pack": pack.hash} | {_folder(pair): each.hash() for pair, each in encoders.items()})
    failures = train_all(runs, pack, encoders, _say)
    protocol = _protocol(request, pack, reduced)
    codes = {pair for pair, each in encoders.items() if reduced and each is shared}  # by other encoders: not comparable
    evaluations = _evaluations(runs, pack, protocol, request, codes, failures)
    # A variant is shown with all its seeds or not at all: it is compared with the baseline's of the same seeds.
    runs = [run for run in runs if run.variant in evaluations]
    maps = _gradient_maps(runs, pack, shared, pre_trained) if request.as_published else None
    first = {run.variant: run for run in reversed(runs)}  # of the first seed
    n = len(evaluations[BASE][0].images)
    setup = {
        "command": command,
        "drawn": drawn,
        "reduced": reduced,
        "tables": tables,
        "n": n,
        "seeds": list(request.seeds),
        "images": runs[0].config.images,
        "image_size": size,
        "failures": failures,
        "pre_trained": pre_trained,
        "encoder_weights": shared.weights,
        "encoders_given": bool(request.encoders),
        "seconds": {
            path.name: round(training_seconds(path), 1)
            for path in (*(request.out / _folder(pair) for pair in encoders), *(run.path for run in runs))
        },
        "protocol": asdict(protocol),
        "photos": f"Measured on {edited_photos(n, protocol.split, protocol.captions, protocol.seed)}; colour accuracy "
        "on as many, with one part's colour swapped in the caption.",
    }
    pictures = _figures(first, pack, protocol, pre_trained, request) | (_heat(maps) if maps else {})
    captions = {name: caption for name, (_, caption) in pictures.items()}
    runtime = decide(request.runtime)
    where = {"device": runtime.describe(), **machine.describe(runtime.device.type), "tmgan": __version__}
    about = gather(setup, where, everything, evaluations, captions, maps)
    name = "tables-as-published" if request.as_published else "tables"
    page = document(about, {name: picture for name, (picture, _) in pictures.items()}).write(request.out, name)
    numbers = request.out / f"{name}.json"
    write_json(numbers, about)
    if failures:
        raise FloatingPointError(
            f"These runs failed: {', '.join(failures)}. {page[0]} shows the others, and says why these failed. The "
            "same command tries them again."
        )
    return [*page, numbers]


def _evaluations(
    runs: list[Run], pack: Pack, protocol: Protocol, request: Request, codes: set[Pair], failures: dict[str, str]
) -> dict[str, list[Evaluation]]:
    """One evaluation per seed by variant, without the variants of which a run failed; what fails here is noted too.

    Args:
        codes: the encoders whose runs have their code_distance measured.
    """
    evaluations: dict[str, list[Evaluation]] = {run.variant: [] for run in runs}
    for run in runs:
        if run.path.name not in failures:
            _say(f"Measuring {run.path.name}.")
            with unless_baseline(run, failures, _say):
                evaluations[run.variant].append(
                    evaluation_of(run.path, pack, protocol, request.runtime, run.encoders in codes)
                )
    incomplete = {run.variant for run in runs if run.path.name in failures}
    return {variant: seeds for variant, seeds in evaluations.items() if variant not in incomplete}


def _configuration(variant: Variant, request: Request, reduced: bool, seed: int, top: dict[str, Any]) -> TrainConfig:
    output = {"tick_images": 1_000, "sample_images": top["images"], "checkpoint_images": 2_000} if reduced else {}
    runs = request.out / "runs"
    if variant.after:  # whose encoders it takes
        top = {**top, "from": str(runs / f"{variant.after}-seed-{seed}")}
    else:
        top = {**top, "encoders": request.encoders or str(request.out / _folder(variant.encoders))}
    return configuration(
        variant, reduced, **top, output=output, seed=seed, run=str(runs / f"{variant.name}-seed-{seed}")
    )


@contextmanager
def _unless_ours(applies: bool) -> Iterator[None]:
    """What table 4 alone cannot be made without is refused with the way to make the others."""
    try:
        yield
    except ValueError as error:
        if not applies:
            raise
        raise ValueError(f"{error}\nOr make the paper's tables without ours (table 4): --only 1 2 3.") from None


def _folder(pair: Pair) -> str:
    return {"shared": "encoders", "hard": "encoders-hard"}[pair]


def _encoders(
    request: Request, pack: Pack, reduced: bool, pairs: Iterable[Pair], pre_trained: PreTrained
) -> dict[Pair, bundle.Encoders]:
    """The encoders that runs share, trained first if necessary; those that were given serve all."""
    if request.encoders:
        encoders = bundle.load_encoders(Path(request.encoders))
        bundle.require_finished(encoders, Path(request.encoders))
        return dict.fromkeys(pairs, encoders)
    bases = {pair: {"shared": baseline, "hard": ours}[pair](reduced) for pair in pairs}
    if "hard" in bases and bases["hard"].encoder.kind == "efficientnet":
        with _unless_ours(True):
            weights.require("efficientnet")
    found: dict[Pair, bundle.Encoders] = {}
    for pair, base in bases.items():
        config = DamsmConfig(
            data=str(pack.path),
            run=str(request.out / _folder(pair)),
            encoder=base.encoder,
            text=base.text,
            loss=base.loss,
            pretrain=dataclasses.replace(base.pretrain, masks=pre_trained) if base.pretrain.recolour else base.pretrain,
            output=base.output,
            runtime=request.runtime,
        )
        found[pair] = bundle.load_encoders(shared_encoders(config))
    return found


def _same_as_before(out: Path, identity: dict[str, str]) -> None:
    """Refuse to add runs of other data or encoders to those that are there."""
    path = out / "identity.json"
    if path.exists():
        try:
            before = dict(json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError):
            raise ValueError(
                f"{path} is damaged, so it does not say what the runs in {out} were made with. Choose another --out."
            ) from None
        added = _folder("hard")  # which the paper's tables do without
        differences = [
            name for name, value in identity.items() if before.get(name, value if name == added else "") != value
        ]
        if differences:
            raise ValueError(
                f"The runs in {out} were made with other {' and other '.join(differences)}. Choose another --out."
            )
        identity = before | identity
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)


def _protocol(request: Request, pack: Pack, reduced: bool) -> Protocol:
    drawn = pack.parts is not None and len(pack.test) > 0
    obeys = ("colour_accuracy",) if drawn else ("colour_words",) if OBEDIENCE in request.only else ()
    metrics = (*_CHEAP, *obeys) if reduced else ()
    return Protocol(metrics=metrics, count=request.count or (200 if reduced else 1000))


def _gradient_maps(runs: list[Run], pack: Pack, encoders: bundle.Encoders, pre_trained: PreTrained) -> Maps:
    _say("Measuring gradients.")
    of = {run.variant: run.config for run in reversed(runs)}
    others: dict[str, TrainConfig] = {name: of[name] for name in ("sad9", "sad-published") if name in of}
    return gradient_maps(Bench(of[BASE], pre_trained, pack, encoders, others), pre_trained)


def _figures(
    first: dict[str, Run], pack: Pack, protocol: Protocol, pre_trained: PreTrained, request: Request
) -> Pictures:
    """The paper's figures and one of our table, of the first seed, as far as their runs are there."""
    models = {
        "figure 5": [BASE],
        "figure 6": [BASE, "nsl", "gm", "sad5", "sad9"],
        "figure 7": [BASE, "combined"],
        "obedience": [BASE, OURS, "ours-network", "ours-mismatched"],
    }
    names = [n for n in dict.fromkeys(v for which in models.values() for v in which) if n in first]
    titles = {v.name: v.label for v in variants(pre_trained)}
    edits = {
        n: first_edits(load(first[n].path, request.runtime), pack, protocol, ("histogram", pre_trained), _ROWS)
        for n in names
    }
    texts = "; ".join(f"{k + 1}: {text}" for k, text in enumerate(edits[BASE].texts))
    words = (
        f"Held-out photos, the first of the evaluation, seed {first[BASE].seed}, not chosen by hand. "
        f"Texts by row: {texts}."
    )
    captions = {
        "figure 5": "Figure 5 of the paper: masks of image comparing. White is kept; under a mask the rest is black.",
        "figure 6": "Figure 6 of the paper: the sharpness methods.",
        "figure 7": "Figure 7 of the paper: the combined method.",
        "obedience": "The baseline, ours, and ours without two of its parts.",
    }
    pictures = {}
    for name, which in models.items():
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
    say(f"tables: {line}")
