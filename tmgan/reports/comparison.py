"""`tmgan compare RUN RUN ...`: what tells runs apart, in numbers, words and pictures, on one page."""

from __future__ import annotations

from tmgan.common.text import columns, console_number, edited_photos, number, signed
from tmgan.evaluation.comparison import Difference, RunComparison
from tmgan.evaluation.metrics.measure import Measure
from tmgan.reports.charts import MOST, curves
from tmgan.reports.document import Cell, Document
from tmgan.reports.pictures import grid
from tmgan.reports.run_report import read_rows


def comparison_page(comparison: RunComparison) -> Document:
    """The page of a comparison. The runs' folders are read once more, for their curves only."""
    names = list(comparison.runs)
    document = Document(f"{', '.join(names[1:])} against {names[0]}")
    document.text(how_measured(comparison))
    for note in notes_of(comparison):
        document.note(note)
    for sentence in sentences(comparison):
        document.text(sentence)
    document.heading("Edits")
    _pictures(document, comparison)
    document.heading("Measures")
    _measures(document, comparison)
    for line in not_measured(comparison):
        document.text(line)
    document.heading("Settings")
    _settings(document, comparison)
    _curves(document, comparison, "Metrics while training", "metrics", leave_out=("score",))
    _curves(document, comparison, "Losses", "stats", leave_out=())
    return document


def sentences(comparison: RunComparison) -> list[str]:
    """What the comparison says, in words, with **bold** verdicts: one sentence per run and verdict."""
    lines = []
    for name in comparison.differences:
        for verdict, measures in comparison.by_verdict(name).items():
            lines.append(f"{name} against {comparison.first}, **{verdict}**: {', '.join(measures)}.")
    return lines


def how_measured(comparison: RunComparison) -> str:
    """On which photos, and how to read the verdicts."""
    evaluation = comparison.runs[comparison.first].evaluation
    protocol = evaluation.protocol
    intervals = [
        d for of in comparison.differences.values() for d in of.values() if d.change and d.verdict != "the same"
    ]
    where = f"pack {comparison.pack}{', which all runs were trained on' if comparison.own_pack else ''}"
    photos = edited_photos(len(evaluation.images), protocol.split, protocol.captions, protocol.seed)
    chance = max(1, round(len(intervals) / 20))
    by_chance = f"Of {len(intervals)} such intervals, {chance} or so would do that by chance if nothing differed. "
    by_chance = by_chance if intervals else ""
    return (
        f"{photos}; {where}. A difference counts when its 95% interval, by bootstrap over the photos with both runs at "
        f"once, leaves out 0. {by_chance}They are about other photos and say nothing about other seeds of training."
    )


def notes_of(comparison: RunComparison) -> list[str]:
    """What a reader must not overlook: of the comparison, of each run, and of their measures."""
    notes = list(comparison.notes)
    for name, run in comparison.runs.items():
        notes += [f"{name}: {note}" for note in run.notes]
    for run in comparison.runs.values():
        notes += [*run.evaluation.notes, *(m.note for m in run.evaluation.values() if m.note)]
    return list(dict.fromkeys(notes))


def not_measured(comparison: RunComparison) -> list[str]:
    """What is missing and why: one sentence per reason."""
    reasons: dict[str, dict[str, None]] = {}
    for run in comparison.runs.values():
        for name, reason in run.evaluation.skipped.items():
            reasons.setdefault(reason, {})[name] = None
    return [f"Not measured: {', '.join(names)}. {reason}" for reason, names in reasons.items()]


def _table(comparison: RunComparison) -> str:
    """Measures (rows) of the runs (columns), then the differences with intervals and verdicts, for the console."""
    others = list(comparison.differences)
    rows = [["", *comparison.runs, *(f"{name} - {comparison.first}" for name in others), "unit"]]
    for name in comparison.measures():
        measures = [run.evaluation.get(name) for run in comparison.runs.values()]
        values = ["-" if each is None else console_number(each.value) for each in measures]
        known = next(each for each in measures if each is not None)
        better = {"lower": " (lower is better)", "higher": " (higher is better)", "": ""}[known.better]
        rows.append(
            [
                name,
                *values,
                *(_cell(comparison.differences[other].get(name)) for other in others),
                (known.unit + better).strip(),
            ]
        )
    return columns(rows)


def _cell(each: Difference | None) -> str:
    if each is None or each.verdict == "the same":
        return "-" if each is None else "the same"
    if each.change is None:
        return each.verdict
    value, low, high, _ = each.change
    return f"{signed(value)} ({signed(low)} to {signed(high)}) {each.verdict}"


def console_text(comparison: RunComparison) -> str:
    """All of the comparison that text can say, for the console."""
    notes = [f"NOTE: {note}" for note in notes_of(comparison)]
    lines = [how_measured(comparison), *notes, *not_measured(comparison), *sentences(comparison)]
    return "\n".join([_table(comparison), *(line.replace("**", "") for line in lines)])


def _pictures(document: Document, comparison: RunComparison) -> None:
    runs = comparison.runs
    edits = [run.edits for run in runs.values()]
    document.picture(
        grid([edits[0].photos, *(each.edits for each in edits)], ["photo", *runs], edits[0].texts),
        "edits",
        "The first photos of the evaluation, not chosen by hand, each edited by every run with the same text.",
    )


def _measures(document: Document, comparison: RunComparison) -> None:
    others = list(comparison.differences)
    rows: list[list[str | Cell]] = []
    for name in comparison.measures():
        measures = [run.evaluation.get(name) for run in comparison.runs.values()]
        known = next(each for each in measures if each is not None)
        better = {"higher": "higher is better", "lower": "lower is better"}.get(known.better, "")
        differences = [_difference(comparison.differences[other].get(name)) for other in others]
        rows.append([Cell(name, better), *map(_value, measures), *differences, str(known.n), known.unit])
    header = ["measure", *comparison.runs, *(f"{name} - {comparison.first}" for name in others), "n", "unit"]
    document.table(
        header, rows, "In small print: 95% intervals, those of a difference over the same photos of both runs."
    )


def _value(measure: Measure | None) -> Cell:
    if measure is None or not measure.n:
        return Cell("-")
    interval = "" if measure.low is None or measure.high is None else f"{number(measure.low)} to {number(measure.high)}"
    return Cell(number(measure.value), interval)


def _difference(each: Difference | None) -> Cell:
    if each is None:
        return Cell("-")
    if each.change is None:
        return Cell(each.verdict, each.why)
    if each.verdict == "the same":
        return Cell("the same")
    value, low, high, _ = each.change
    return Cell(f"{signed(value)} **{each.verdict}**", f"{signed(low)} to {signed(high)}")


def _settings(document: Document, comparison: RunComparison) -> None:
    settings = comparison.settings()
    if not settings:
        document.text("All settings are the same.")
        return
    rows = [[f"`{name}`", *(str(value) or "(none)" for value in values)] for name, values in settings.items()]
    document.table(["setting", *comparison.runs], rows, "What differs; all other settings are the same.")


def _curves(document: Document, comparison: RunComparison, title: str, file: str, leave_out: tuple[str, ...]) -> None:
    """Curves of the runs' FILE.jsonl, one chart per number with a line per run."""
    runs = dict(list(comparison.runs.items())[:MOST])
    rows = {name: read_rows(run.path / f"{file}.jsonl") for name, run in runs.items()}
    names = dict.fromkeys(key for each in rows.values() for row in each for key in row)
    numbers = [name for name in names if name not in ("images", *leave_out)]
    if not numbers:
        return
    document.heading(title)
    charts = {
        f"{file}-{n}": curves(
            n, {name: ([row["images"] for row in each], [row.get(n) for row in each]) for name, each in rows.items()}
        )
        for n in numbers
    }
    more = f" Of {len(comparison.runs)} runs, the first {MOST}." if len(comparison.runs) > MOST else ""
    document.charts(charts, f"As each run wrote them while it trained, in its own `{file}.jsonl`.{more}")
