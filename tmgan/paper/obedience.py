"""Table 4, not of the paper: does the edit obey its text, and what of our editor matters for that?"""

from __future__ import annotations

from tmgan.paper.cells import Json, change_cell, interval_words, label, measure_cell, rows_of, sentence
from tmgan.paper.results import OBEYED
from tmgan.paper.variants import BASE, OBEDIENCE
from tmgan.reports.document import Cell, Document

_DRAWN = ("colour_accuracy", "others_kept", "background_psnr")  # what only drawn birds can have measured


def obedience(page: Document, about: Json) -> None:
    """Numbers of the baseline, ours and its ablation; then what each row changes against ours."""
    page.heading("Ours: does the edit obey its text?")
    if about["setup"]["encoders_given"]:
        page.note(
            "All runs have the encoders that `--encoders` named: a row of ours with those of the baseline would be "
            "ours once more, and is left out."
        )
    base, variants = about["runs"][BASE], rows_of(about, OBEDIENCE)
    names = _measured(about)
    photos: list[str | Cell] = ["the photos", *(measure_cell(base.get(f"{name}_photo")) for name in names)]
    rows: list[list[str | Cell]] = [
        [label(about, v), *(measure_cell(about["runs"][v].get(name)) for name in names)] for v in variants
    ]
    missing = [OBEYED[name].removesuffix(", dB") for name in _DRAWN if name not in names]
    page.table(
        ["method", *(OBEYED[name] for name in names)],
        [photos, *rows],
        "Not in the paper. Higher is better; of sharpness, closer to that of the photos. "
        + (f"Not measured here, as that takes drawn birds: {', '.join(missing)}. " if missing else "")
        + interval_words(about),
    )
    changes = about["ablation"]
    if not changes:
        return
    for name in names:
        page.text(sentence(about, f"{OBEYED[name]} against ours", name, "ablation"))
    page.table(
        ["in place of ours", *(OBEYED[name] for name in names)],
        [[label(about, v), *(change_cell(each.get(name, {})) for name in names)] for v, each in changes.items()],
        "Change against ours on the same photos and seeds, and its interval. **up**, **down**: the interval leaves out "
        "zero and every seed agrees on the direction. **=**: no change can be told.",
    )


def _measured(about: Json) -> list[str]:
    """The measures of the table that the baseline has; the background once, by the test of colours if there is one."""
    base = about["runs"][BASE]
    return [
        name
        for name in OBEYED
        if name in base and not (name.startswith("preserved_psnr/") and "background_psnr" in base)
    ]
