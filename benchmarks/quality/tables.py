"""README's tables of quality, of drawn birds and of photographs, from results/quality-*.json."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

from benchmarks.quality.budgets import BUDGETS

_HEAD = (
    "| | processor time | colour accuracy | on its own birds | other parts kept | background PSNR | measured |",
    "|---|---|---|---|---|---|---|",
)
_PHOTOGRAPHS = (
    "| | processor time | named colours: photo / edit / real | of the way | preserved PSNR | held out |",
    "|---|---|---|---|---|---|",
)


def table(results: Path) -> str:
    """One row for each budget that was measured, with the baselines of the last one."""
    lines, baselines = list(_HEAD), {}
    for name in BUDGETS:
        path = results / f"quality-{name}.json"
        if not path.exists():
            continue
        document = json.loads(path.read_text("utf-8"))
        rows, machine = document["rows"], document["machine"]
        seeds = ", ".join(str(row["seed"]) for row in rows)
        where = (
            f"seeds {seeds}; one core of {machine['processor']}, GPU {machine['gpu']}, torch {machine['torch']}, "
            f"{machine['date']}"
        )
        cells = [
            f"{mean(row['processor_seconds'] for row in rows):.0f} s",
            _cell(rows, "colour_accuracy", "{:.2f}"),
            _cell([row["own"] for row in rows], "colour_accuracy", "{:.2f}"),
            _cell(rows, "others_kept", "{:.2f}"),
            f"{_cell(rows, 'background_psnr', '{:.1f}')} dB",
        ]
        lines.append(f"| `tmgan train {' '.join(document['options'])}` | {' | '.join(cells)} | {where} |")
        baselines = document["baselines"]
    for name, row in baselines.items():
        psnr = "exact" if row["background_psnr"] is None else f"{row['background_psnr']:.1f} dB"
        lines.append(f"| {name} | | {row['colour_accuracy']:.2f} | | {row['others_kept']:.2f} | {psnr} | |")
    return "\n".join(lines)


def photographs(results: Path) -> str:
    """One row for each size of photographs that was measured, and each strength."""
    lines = list(_PHOTOGRAPHS)
    for path in sorted(results.glob("quality-photographs-*.json"), key=lambda path: int(path.stem.split("-")[-1])):
        document = json.loads(path.read_text("utf-8"))
        rows, machine = document["rows"], document["machine"]
        size, kinds = path.stem.split("-")[-1], sum(len(row["held_out"]) for row in rows)
        seconds = f"{mean(row['processor_seconds'] for row in rows):.0f} s"
        held_out = f"{len(rows)} x {kinds // len(rows)} kinds"
        where = f"{held_out}; one core of {machine['processor']}, GPU {machine['gpu']}, {machine['date']}"
        for key, name in (("as_is", f"{size} pixels"), ("bold", "the same, `--strength 1.5`")):
            scores = [row[key] for row in rows]
            named = " / ".join(
                f"{mean(s[name] for s in scores):.2f}"
                for name in ("colour_words_photo", "colour_words", "colour_words_real")
            )
            cells = [_cell(scores, "colour_words_way", "{:.2f}"), f"{_cell(scores, 'preserved_psnr', '{:.1f}')} dB"]
            lines.append(f"| {name} | {seconds} | {named} | {' | '.join(cells)} | {where} |")
            seconds = where = ""
    return "\n".join(lines)


def _cell(rows: list[dict], measure: str, shape: str) -> str:
    """The mean over the seeds, and the least and the greatest."""
    values = [row[measure] for row in rows]
    low, middle, high = (shape.format(value) for value in (min(values), mean(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
