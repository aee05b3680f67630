"""`tmgan report RUN`: a run's settings, progress and results on one page that can be shared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from safetensors import SafetensorError, safe_open

from tmgan.common.commands import command
from tmgan.common.json_text import parse_json
from tmgan.common.text import duration, edited_photos, number
from tmgan.config import configfile
from tmgan.config.settings import DamsmConfig, TrainConfig
from tmgan.models import bundle
from tmgan.reports.charts import curve
from tmgan.reports.document import Cell, Document

_GRIDS = 4  # pictures over time, the last one included
_CURVES = 60  # in a section: a training writes some twenty numbers
_SIGNS = ("changed", "contrast", "variety", "grad_g", "grad_d", "grad", "bad_steps")  # of stats.jsonl
_SPEED = "images_per_second"


def report(run: Path) -> Document:
    """The report of a run of `tmgan train` or `tmgan damsm`, finished or not.

    The run may be writing while it is read: a file that is missing or half-written costs its part of the page only.

    Raises:
        ValueError: `run` is not a run folder, or its settings are damaged.
    """
    run = Path(run)
    settings = _read_settings(run)
    stats = read_rows(run / "stats.jsonl")
    status = _status(run, stats)
    editor = "model" in settings
    name = run.resolve().name
    document = Document(
        f"{name}: {'editor' if editor else 'encoders'}, preset {settings['preset']}" if editor else f"{name}: encoders"
    )
    _summary(document, run, settings, status)
    for note in _notes(run, settings, status):
        document.note(note)
    _next_steps(document, run)
    _pictures(document, run)
    _evaluation(document, run / "evaluation.json")
    _curves(document, "Losses", stats, leave_out=(_SPEED, *_SIGNS))
    _signs(document, stats)
    _curves(
        document,
        "Metrics while training",
        read_rows(run / "metrics.jsonl"),
        leave_out=("score", "retrieval_photos", "r_precision_candidates", "r_precision_photos"),
    )
    _speed(document, stats)
    if status["status"] != bundle.IMPORTED:
        _data(document, run, settings)
    _settings(document, settings, TrainConfig() if editor else DamsmConfig())
    lines = _log(run)
    if lines:
        document.heading("Log")
        document.code("\n".join(lines[-60:]), f"The last {min(60, len(lines))} of {len(lines)} lines")
    return document


def _log(run: Path) -> list[str]:
    """The lines of log.txt; none if it is missing."""
    path = run / "log.txt"
    return path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []


def _read_settings(run: Path) -> dict:
    path = run / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{run} is no run folder: it holds no config.yaml. `tmgan train` and `tmgan damsm` make one.")
    try:
        settings = configfile.read_plain(path)
        default = configfile.to_dict(TrainConfig() if "model" in settings else DamsmConfig())
        whole = {"seed", "pretrain"} <= settings.keys()  # near the end of both kinds
        if whole and _is_like(settings, default) and ("model" not in settings or "preset" in settings):
            return settings
    except ValueError:
        pass
    raise ValueError(
        f"{path} is damaged: it does not hold the settings of a run. Start the run again to write it anew."
    )


def _is_like(value: Any, default: Any) -> bool:
    """Whether settings are of the kinds of others; of those that are in both, since versions differ in them."""
    if isinstance(default, dict):
        return isinstance(value, dict) and all(
            isinstance(key, str) and _is_like(each, default.get(key)) for key, each in value.items()
        )
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        return is_number(value)
    return default is None or type(value) is type(default)


def is_number(value: Any) -> bool:
    """Whether it is a number, finite and of a size that a chart can show."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e100


def _status(run: Path, stats: list[dict]) -> dict:
    """run.json; where it is missing or damaged, what the other files tell."""
    path = run / "run.json"
    status = _json(path)
    if status is not None and is_number(status.get("images")) and isinstance(status.get("status"), str):
        kinds: dict[str, Any] = {"files": list, "images": (int, float)}
        return {key: value for key, value in status.items() if isinstance(value, kinds.get(key, str))}
    if not path.exists() and not stats:
        return {"status": "not begun", "images": 0}
    why = "is damaged" if path.exists() else "is missing"
    return {"status": f"Unknown, since run.json {why}", "images": max((row["images"] for row in stats), default=0)}


def _summary(document: Document, run: Path, settings: dict, status: dict) -> None:
    versions = ", ".join(f"{name} {status[name]}" for name in ("tmgan", "torch") if name in status)
    written = f" {versions}; last written {status.get('updated', '-')}." if versions else ""
    if status["status"] == bundle.IMPORTED:
        document.text(f"**Imported** from files of the published code, which do not say what they saw.{written}")
        names = ("file", "is", "sha256")
        document.table(
            names,
            [[str(row.get(name, "-")) for name in names] for row in status.get("files", []) if isinstance(row, dict)],
        )
        return
    total = settings["images"] if "images" in settings else settings["pretrain"]["images"]
    state = {
        "done": "Finished",
        "running": "Running, or killed",
        "stopped": "Stopped before the end",
        "failed": "Failed",
    }.get(status["status"], status["status"])
    text = f"**{state}**: {status['images']:,} of {total:,} images seen. Seed {settings['seed']}."
    seconds = training_seconds(run)
    if seconds:
        text += f" Training took {duration(seconds)}, {status['images'] / seconds:,.1f} images/s on average."
    document.text(text + written)


def _next_steps(document: Document, run: Path) -> None:
    """Commands that make use of what is there."""
    if (run / bundle.GENERATOR).is_file():
        text = "a bird with a red head and white wings"
        edit = command("edit", run, "PHOTO.jpg", "--text", text, "--out", "edited.png")
        document.text(f"Edit with it: `{edit}`")
    if (run / "encoders" / "config.yaml").is_file():
        document.text(f"Its encoders were trained first: `{command('report', run / 'encoders')}`")


def _notes(run: Path, settings: dict, status: dict) -> list[str]:
    notes = []
    if status["status"] in ("failed", "stopped") and status.get("reason"):
        notes.append(f"The run {status['status']}: {status['reason']}")
    about = _about(run / bundle.ENCODERS)
    if about is None:
        notes.append(f"`{bundle.ENCODERS}` is damaged: it cannot be told what the encoders were made of.")
    elif bundle.random_note(str(about.get("weights", ""))):
        notes.append(f"In this run {bundle.random_note(str(about['weights']))}")
    if (run / "drawn").is_dir() or Path(settings.get("data") or "").parent.name == "drawn":
        notes.append("Trained on drawn birds: its numbers say something about the method, but nothing about photos.")
    lightweight = settings.get("model", {}).get("architecture", "lightweight") == "lightweight"
    if lightweight and settings.get("method", {}).get("mismatched_text_p") == 0:
        notes.append(
            "Every target text was the photo's own caption (`method.mismatched_text_p` 0, as published): such "
            "a run mostly learns to copy, whatever its losses say."
        )
    for line in _log(run):
        for mark in ("NOTE: ", "WARNING: "):
            if mark in line and bundle.RANDOM_NOTE not in line:
                notes.append(line.split(mark, 1)[1])
    return list(dict.fromkeys(notes))


def _pictures(document: Document, run: Path) -> None:
    pictures = sorted((run / "samples").glob("images-*.png"))
    if not pictures:
        return
    document.heading("Pictures")
    places = sorted({round(k * (len(pictures) - 1) / max(_GRIDS - 1, 1)) for k in range(_GRIDS)}, reverse=True)
    for k in places:
        try:
            images = int(pictures[k].stem.removeprefix("images-"))
            with Image.open(pictures[k], formats=("PNG",)) as file:
                picture = file.convert("RGB")
        except (OSError, ValueError, SyntaxError):  # what Pillow raises for a damaged file
            document.text(f"`samples/{pictures[k].name}` cannot be read.")
            continue
        document.picture(
            picture, f"samples-{images}", f"After {images:,} images. The photos and texts are the same in all pictures."
        )
    if len(pictures) > len(places):
        document.text(f"{len(places)} of {len(pictures)} pictures of `samples/`.")


def _evaluation(document: Document, path: Path) -> None:
    """The models' measures as `tmgan train` and `tmgan evaluate --json` write them."""
    if not path.is_file():
        return
    document.heading("Evaluation")
    try:
        _measures(document, parse_json(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, StopIteration):
        again = command("evaluate", path.parent, "--json", path)
        document.text(f"`{path.name}` is damaged, or of another version of tmgan. To measure again: `{again}`")


def _measures(document: Document, evaluations: dict) -> None:
    first = next(iter(evaluations.values()))
    rows = []
    for name, measure in first["measures"].items():
        cells = [_measure_cell(about["measures"].get(name)) for about in evaluations.values()]
        better = {"higher": "higher is better", "lower": "lower is better"}.get(measure["better"], "")
        rows.append([Cell(name, better), *cells, str(measure["n"]), measure["unit"]])
    protocol = first["protocol"]
    photos = edited_photos(len(first["images"]), protocol["split"], protocol["captions"], protocol["seed"])
    notes = dict.fromkeys([*first["notes"], *(m["note"] for m in first["measures"].values() if m["note"])])
    absent = [f"Not measured: {name}. {reason}" for name, reason in first["skipped"].items()]
    header = ["measure", *evaluations, "n", "unit"]
    document.table(header, rows, f"{photos}; 95% intervals by bootstrap over photos.")
    for note in notes:
        document.note(note)
    for line in absent:
        document.text(line)


def _measure_cell(measure: dict | None) -> Cell:
    if measure is None:
        return Cell("-")
    if measure["value"] is None:
        return Cell("exact" if measure["n"] else "-")
    # As Measure.to_json writes it, null is infinity here.
    low, high = (math.inf if measure.get(key) is None else measure[key] for key in ("low", "high"))
    interval = f"{number(low)} to {number(high)}" if "low" in measure else ""
    return Cell(number(measure["value"]), interval)


def _curves(document: Document, title: str, rows: list[dict], leave_out: tuple[str, ...]) -> None:
    names = [n for n in dict.fromkeys(k for row in rows for k in row) if n not in ("images", *leave_out)]
    if not names:
        return
    document.heading(title)
    if len(names) > _CURVES:
        document.text(f"Of {len(names):,} numbers, the first {_CURVES}.")
    names = names[:_CURVES]
    images = [row["images"] for row in rows]
    panels = {f"{title.split()[0]}-{name}": curve(name, images, [row.get(name) for row in rows]) for name in names}
    document.charts(
        panels,
        "Means over each tick. A loss of a GAN says whether it trains, not whether its edits are good."
        if title == "Losses"
        else "Measured at each checkpoint, on a few held-out photos.",
    )


def _signs(document: Document, stats: list[dict]) -> None:
    """What tells a collapse, and how many steps changed nothing because their gradients were not finite."""
    names = [name for name in _SIGNS if any(name in row for row in stats)]
    if not names:
        return
    document.heading("Signs of life")
    images = [row["images"] for row in stats]
    document.charts(
        {f"signs-{name}": curve(name, images, [row.get(name) for row in stats]) for name in names},
        "How far edits are from their photos (changed, of 255 levels; below 0.5 they copy), their contrast, and how "
        "they vary within a batch (of the photos'; below 0.05 they are one picture), the norms of gradients (grad), "
        "and how many steps since the last line were skipped because these were not finite (bad_steps).",
    )


def _speed(document: Document, stats: list[dict]) -> None:
    rates = [row[_SPEED] for row in stats if row.get(_SPEED)]
    if rates:
        document.heading("Speed")
        panel = curve("images per second", [row["images"] for row in stats], [row.get(_SPEED) for row in stats])
        document.charts(
            {"speed": panel},
            f"Median {sorted(rates)[len(rates) // 2]:,.1f}, without pictures, metrics and checkpoints.",
        )


def _data(document: Document, run: Path, settings: dict) -> None:
    document.heading("Data")
    path = Path(settings["data"]) if settings.get("data") else run / "drawn" / "pack"
    header = _json(path / "pack.json")
    if header is None:
        document.text(f"`{path}` cannot be read from here.")
        return
    rows = [
        [name, ("no", "yes")[value] if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else value]
        for name, value in header.items()
        if isinstance(value, (int, str)) and "hash" not in name and name != "source"
    ]
    document.table([f"{path.name}", ""], rows)


def _settings(document: Document, settings: dict, default: Any) -> None:
    document.heading("Settings")
    plain = configfile.to_dict(default)
    names = configfile.differences(plain, configfile.overlay(plain, settings))
    if settings.get("preset"):
        preset = (
            configfile.to_dict(configfile.from_preset(settings["preset"]))
            if settings["preset"] in configfile.presets()
            else plain
        )
        beyond = configfile.differences(preset, configfile.overlay(preset, settings))
        words = ", ".join(f"`{n}` {configfile.setting(settings, n)}" for n in beyond) or "nothing"
        document.text(f"Different from its preset: {words}.")
    document.table(
        ["setting", "here", "default"],
        [[f"`{n}`", str(configfile.setting(settings, n)), str(configfile.setting(plain, n))] for n in names],
        "What differs from the defaults of tmgan.",
    )
    document.code(yaml.safe_dump(settings, sort_keys=False).strip(), "All of config.yaml")


def training_seconds(run: Path) -> float:
    """Time spent in training steps, from each tick's rate; without drawing, measuring and saving."""
    total, before = 0.0, 0
    for row in read_rows(run / "stats.jsonl"):
        if row.get(_SPEED):
            total += (row["images"] - before) / row[_SPEED]
        before = row["images"]
    return total


def read_rows(path: Path) -> list[dict]:
    """The rows that are whole: a crash cuts the last line, and a run may be writing it. What is no number is None."""
    rows = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and is_number(row.get("images")):
            rows.append({name: value if is_number(value) else None for name, value in row.items()})
    return rows


def _json(path: Path) -> dict | None:
    """None where there is none, or it is damaged."""
    try:
        value = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _about(path: Path) -> dict | None:
    """The metadata of one of our weight files: empty if it does not exist, None if it is damaged."""
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get("tmgan", "{}"))
            return about if isinstance(about, dict) else None
    except (OSError, ValueError, SafetensorError):
        return None
