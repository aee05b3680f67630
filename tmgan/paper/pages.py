"""The results as one page: tables beside the paper's numbers, what each method changes, figures, gradient maps.

Made from the JSON and the pictures alone, so that a page never says what its JSON does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from PIL import Image

from tmgan.common.text import duration
from tmgan.models.bundle import RANDOM_NOTE
from tmgan.paper.cells import (
    Json,
    change_cell,
    improvement,
    interval_of,
    interval_words,
    label,
    measure_cell,
    paper_cell,
    rows_of,
    sentence,
)
from tmgan.paper.measure import CODES
from tmgan.paper.obedience import obedience
from tmgan.paper.results import COMPARED
from tmgan.paper.variants import BASE, OBEDIENCE
from tmgan.reports.charts import intervals
from tmgan.reports.document import Cell, Document

_MASKS = {"dataset": "true masks", "fcn": "FCN masks", "histogram": "histogram masks"}


def document(about: Json, pictures: Mapping[str, Image.Image]) -> Document:
    """The whole page.

    Args:
        about: what results.gather returned.
        pictures: those that about["captions"] names.
    """
    setup = about["setup"]
    page = Document("The paper's tables, rebuilt" + (" on drawn birds" if setup["drawn"] else ""))
    _opening(page, setup)
    for note in about["notes"]:
        page.note(note)
    for run, reason in setup.get("failures", {}).items():
        page.note(f"`{run}` failed, so its method is not shown. {reason}")
    if about["changes"]:
        _what_moves(page, about)
    for which, table, figure in (
        (1, _table1, "figure 5"),
        (2, _table2, "figure 6"),
        (3, _table3, "figure 7"),
        (OBEDIENCE, obedience, "obedience"),
    ):
        if which in setup["tables"]:
            table(page, about)
        if figure in pictures:
            page.picture(pictures[figure], figure, about["captions"][figure])
    if "gradients" in about:
        _as_published(page, about, pictures)
    _method(page, about)
    return page


def _opening(page: Document, setup: Json) -> None:
    seeds = setup["seeds"]
    words = f"seed {seeds[0]}" if len(seeds) == 1 else "seeds " + " and ".join(map(str, seeds))
    page.text(
        f"{setup['n']} held-out photos per model, {words}, {setup['images']:,} training images per run, "
        f"{setup['image_size']} pixels. Runs that are compared began from the same weights and saw the same "
        "photos, crops, captions and noise; only the method differs."
        + (
            " Ours and its ablation saw as many images, with another network, other batches and other losses."
            if OBEDIENCE in setup["tables"]
            else ""
        )
    )
    small = f"small networks and encoders, {setup['images']:,} images where the paper has 885,500"
    if setup["drawn"]:
        page.note(
            f"Drawn birds are not CUB, and the runs are reduced: {setup['image_size']} pixels, {small}. The "
            "numbers show what each method changes against the baseline beside it. They cannot be compared with "
            "the paper's, which are here for orientation."
        )
    elif setup["reduced"]:
        page.note(f"Reduced: {small}. The numbers cannot be compared with the paper's.")
    if len(seeds) == 1:
        page.note(
            "One seed: its intervals leave out the luck of training, which can be larger. `--seeds 0 1` trains a "
            "second time, and reports a change only where both agree."
        )
    if setup["encoder_weights"] == "random":
        page.note(RANDOM_NOTE[0].upper() + RANDOM_NOTE[1:])
    if setup["pre_trained"] == "dataset":
        page.note(
            "True masks of the data set stand in for those of FCN-ResNet101: the best that such a network could do."
        )


def _what_moves(page: Document, about: Json) -> None:
    page.heading("What each method changes")
    changes = about["changes"]
    dots = {name: _dots(about, name) for name in COMPARED}
    names = [name for name in COMPARED if dots[name]]
    plots = {}
    for name in names:
        plots[f"change-{name}"] = intervals(
            COMPARED[name], dots[name], f"difference, {about['runs'][BASE][name]['unit']}"
        )
    page.charts(
        plots,
        "Difference to Lightweight GAN on the same photos and seeds, with its 95% interval (bootstrap "
        "over photos, of the mean over seeds). Filled: the interval leaves out zero, and all seeds "
        "agree.",
    )
    for name in names:
        page.text(sentence(about, COMPARED[name], name, "changes"))
    rows: list[list[str | Cell]] = [
        [label(about, v), *(change_cell(each.get(n, {})) for n in names)] for v, each in changes.items()
    ]
    page.table(
        ["method", *(COMPARED[n] for n in names)],
        rows,
        "Change against the baseline, and its interval. **up**, **down**: the interval leaves out zero and "
        "every seed agrees on the direction. **=**: no change can be told, as the interval contains zero or the "
        "seeds disagree. An interval covers other photos, not other seeds: training again would move the numbers "
        "too.",
    )


def _dots(about: Json, name: str) -> list[tuple[str, float, float, float, bool]]:
    """What each method changes in a measure, where that is a finite number with an interval."""
    rows = []
    for variant, each in about["changes"].items():
        value, low, high = interval_of(each.get(name, {}))
        if all(map(math.isfinite, (value, low, high))):
            rows.append((label(about, variant), value, low, high, bool(each[name]["moves"])))
    return rows


def _table1(page: Document, about: Json) -> None:
    page.heading("Table I: mask score")
    runs, base = about["runs"], about["runs"][BASE]
    names = [n for n in COMPARED if n.startswith("mask_score/") and n in base]
    rows = []
    for variant in rows_of(about, 1):
        cells: list[str | Cell] = []
        for name in names:
            cells += [measure_cell(runs[variant].get(name)), improvement(runs[variant].get(name), base[name], variant)]
        rows.append([label(about, variant), *cells])
    header = [title for n in names for title in (_MASKS[n.split("/")[1]], "improves")]
    page.table(
        ["method", *header],
        rows,
        "Mean of ((photo - edit) x mask) squared over all pixels, in levels of 255 "
        "squared; "
        f"lower is better. Every model is scored under every mask. {interval_words(about)} A histogram mask "
        "depends on the model's own edits, and leaves out what changed much: the true masks are the fair "
        "column.",
    )
    table, source = about["paper"]["table1"]["mask_score"], about["paper"]["source"]
    page.table(
        ["the paper, each under its own mask", "Lightweight GAN", "with the mask", "improves"],
        [
            [
                {"histogram": "histogram masks", "masks": "FCN masks"}[name],
                f"{row['lightweight']:.2f}",
                f"{row['ours']:.2f}",
                f"{row['improve']:+.1%}",
            ]
            for name, row in table.items()
        ],
        f"{source}, Table I.",
    )


def _table2(page: Document, about: Json) -> None:
    page.heading("Table II: realism and sharpness")
    table, runs = about["paper"]["table2"], about["runs"]
    realism = _realism(about)
    rows: list[list[str | Cell]] = [
        [
            "the photos",
            *("-" for _ in realism),
            measure_cell(runs[BASE]["sharpness_photo"]),
            "-",
            f"{table['sharpness']['original']:.3f}",
        ]
    ]
    for variant in rows_of(about, 2):
        measures = runs[variant]
        rows.append(
            [
                label(about, variant),
                *(measure_cell(measures.get(n)) for n in realism),
                measure_cell(measures["sharpness"]),
                paper_cell(table["fid"], variant),
                paper_cell(table["sharpness"], variant),
            ]
        )
    page.table(
        ["method", *(COMPARED[n] for n in realism), "sharpness", "paper: FID", "paper: sharpness"],
        rows,
        "Sharpness: mean absolute Laplacian of the grey picture in levels of 255, zero border. "
        f"{_sharper(about)}{interval_words(about)} {_notes(about, realism)} {about['paper']['source']}, Table "
        "II.",
    )


def _sharper(about: Json) -> str:
    """A baseline that is sharper than its photos is noisy: then more is not better."""
    base = about["runs"][BASE]
    if base["sharpness"]["value"] <= base["sharpness_photo"]["value"]:
        return ""
    return (
        "The baseline's edits are already sharper than the photos, because they are noisy: here closer to the "
        "photos is better, not more. "
    )


def _table3(page: Document, about: Json) -> None:
    page.heading("Table III: the combined method")
    table, runs = about["paper"]["table3"], about["runs"]
    others = ("inception_score", "mask_score/dataset", "sharpness", "colour_accuracy")
    names = [*_realism(about), *(n for n in others if n in runs[BASE])]
    rows: list[list[str | Cell]] = []
    for variant in rows_of(about, 3):
        rows.append(
            [
                label(about, variant),
                *(measure_cell(runs[variant].get(n)) for n in names),
                *(paper_cell(table[n], variant) for n in ("fid", "inception_score")),
            ]
        )
    page.table(
        ["method", *(COMPARED[n] for n in names), "paper: FID", "paper: Inception score"],
        rows,
        f"{_notes(about, names)} Higher Inception scores are better; the paper reads them the other way round. "
        f"{about['paper']['source']}, Table III.",
    )


def _as_published(page: Document, about: Json, pictures: Mapping[str, Image.Image]) -> None:
    gradients = about["gradients"]
    page.heading("As published: where each method's gradient goes")
    page.text(
        "The paper's published code differs from its text. Here each method is wired both ways, and what it adds "
        "to the gradient of the generator's pictures is measured, on one training batch of the baseline's "
        "trained networks. For SAD it is the gradient of the discriminator on what it is shown as fake."
    )
    rows = []
    for one in gradients["maps"]:
        shares = ["-" if one[s] is None else f"{one[s]:.0%}" for s in ("sharp", "bird", "frame")]
        strength = (
            "-"
            if one["method"].startswith("SAD")
            else f"{one['strength']:.3f}"
            if one["strength"]
            else Cell("**0**", "exactly")
        )
        rows.append([one["method"], one["as"], one["about"], strength, *shares])
    page.table(
        ["method", "as", "", "strength", "on sharp regions", "on the bird", "on the frame"],
        rows,
        "Strength: L2 norm over that of the baseline's whole gradient. Then shares of the absolute gradient on "
        "the sharp regions of the edits, on the bird, and on the frame of the outermost 4 pixels; an even "
        "gradient would have " + ", ".join(f"{area:.0%}" for area in gradients["areas"].values()) + ".",
        wordy=(2,),
    )
    for name in pictures:
        if name.startswith("gradient "):
            page.picture(pictures[name], name, about["captions"][name])
    page.heading("What does a discriminator call real?", 3)
    kinds = list(next(iter(gradients["answers"].values())))
    page.table(
        ["discriminator of", *kinds],
        [[label(about, v), *(f"{answers[k]:.2f}" for k in kinds)] for v, answers in gradients["answers"].items()],
        "Mean probability of real, with the photo's own text, on one training batch. Sharpness-aware is one "
        "that calls a blurred photo fake, and a grey sharp one no less real than the baseline does.",
    )
    for variant, answers in gradients["answers"].items():
        if answers["blurred"] > answers["photo"] / 2 > answers["grey and sharp"] and variant != BASE:
            page.text(
                f"The discriminator of **{label(about, variant)}** takes blurred photos for as real as sharp "
                f"ones ({answers['blurred']:.2f} against {answers['photo']:.2f}), and grey ones for fake however "
                f"sharp ({answers['grey and sharp']:.2f}): it learnt the colour of what it was shown, and not "
                "the blur."
            )
    page.text(
        "NSL and GM as published need no runs of their own: their gradient is zero, so they are the baseline's "
        "run. The other published variants are rows of the tables above."
    )


def _method(page: Document, about: Json) -> None:
    setup = about["setup"]
    page.heading("How this was made")
    page.code(setup["command"])
    page.table(
        ["run", "what it is", "training"],
        [
            [
                label(about, v),
                about["variants"][v]["about"],
                duration(sum(s for n, s in setup["seconds"].items() if n.rsplit("-seed-", 1)[0] == v)),
            ]
            for v in about["runs"]
        ],
        wordy=(1,),
    )
    machine = about["machine"]
    page.text(
        f"{machine['device']}, {machine['cores']} cores of {machine['processor']}, GPU {machine['gpu']}; tmgan "
        f"{machine['tmgan']}, torch {machine['torch']}, {machine['date']}. Time in training steps: "
        f"{duration(sum(setup['seconds'].values()))} in all, of which encoders "
        f"{duration(sum(s for n, s in setup['seconds'].items() if n.startswith('encoders')))}. "
        f"{setup['photos']}"
    )
    for name, reason in about["skipped"].items():
        page.text(f"Not measured: {name}. {reason}")


def _realism(about: Json) -> list[str]:
    """FID and KID, against whichever photos they were measured, and what stands in for them."""
    names = sorted(COMPARED, key=lambda name: name == CODES)
    return [n for n in names if n.split("/")[0] in ("fid", "kid", CODES) and n in about["runs"][BASE]]


def _notes(about: Json, names: list[str]) -> str:
    base = about["runs"][BASE]
    measured = {name.split("/")[0] for name in base}
    missing = [
        title for name, title in (("fid", "FID"), ("inception_score", "Inception score")) if name not in measured
    ]
    absent = [f"{' and '.join(missing)} {'were' if len(missing) > 1 else 'was'} not measured here."] if missing else []
    return " ".join(dict.fromkeys(absent + [base[n]["note"] for n in names if base[n]["note"]]))
