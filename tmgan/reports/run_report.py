"""`tmgan report RUN`: a run's settings, progress and results on one page that can be shared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from safetensors import safe_open

from tmgan.common.text import duration, number
from tmgan.config import configfile
from tmgan.config.settings import DamsmConfig, TrainConfig
from tmgan.models import bundle
from tmgan.reports.charts import curve
from tmgan.reports.document import Cell, Document

_GRIDS = 4  # pictures over time, the last one included
_SPEED = "images_per_second"


def report(run: Path) -> Document:
    """The report of a run of `tmgan train` or `tmgan damsm`, finished or not. ValueError if `run` is not one."""
    run = Path(run)
    if not (run / "config.yaml").is_file():
        raise ValueError(f"{run} is no run folder: it holds no config.yaml. `tmgan train` and `tmgan damsm` make one.")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    status = _json(run / "run.json") or {"status": "not begun", "images": 0}
    stats = _rows(run / "stats.jsonl")
    editor = "model" in settings
    name = run.resolve().name
    document = Document(
        f"{name}: {'editor' if editor else 'encoders'}, preset {settings['preset']}" if editor else f"{name}: encoders"
    )
    _summary(document, run, settings, status)
    for note in _notes(run, settings, status):
        document.note(note)
    _pictures(document, run)
    _evaluation(document, _json(run / "evaluation.json"))
    _curves(document, "Losses", stats, leave_out=(_SPEED,))
    _curves(document, "Metrics while training", _rows(run / "metrics.jsonl"), leave_out=("n", "score"))
    _speed(document, stats)
    _data(document, run, settings)
    _settings(document, settings, TrainConfig() if editor else DamsmConfig())
    if (run / "log.txt").is_file():
        lines = (run / "log.txt").read_text(errors="replace").splitlines()
        document.heading("Log")
        document.code("\n".join(lines[-60:]), f"The last {min(60, len(lines))} of {len(lines)} lines")
    return document


def _summary(document: Document, run: Path, settings: dict, status: dict) -> None:
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
    versions = ", ".join(f"{name} {status[name]}" for name in ("tmgan", "torch") if name in status)
    document.text(text + (f" {versions}; last written {status['updated']}." if versions else ""))


def _notes(run: Path, settings: dict, status: dict) -> list[str]:
    notes = []
    if status["status"] in ("failed", "stopped") and status.get("reason"):
        notes.append(f"The run {status['status']}: {status['reason']}")
    about = _about(run / bundle.ENCODERS)
    if about.get("weights") == "random":
        notes.append(f"In this run {bundle.RANDOM_NOTE}")
    if (run / "drawn").is_dir():
        notes.append("Trained on drawn birds: its numbers say something about the method, but nothing about photos.")
    if settings.get("method", {}).get("mismatched_text_p") == 0:
        notes.append(
            "Every target text was the photo's own caption (`method.mismatched_text_p` 0, as published): such "
            "a run mostly learns to copy, whatever its losses say."
        )
    for line in (run / "log.txt").read_text(errors="replace").splitlines() if (run / "log.txt").is_file() else ():
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
        images = int(pictures[k].stem.removeprefix("images-"))
        with Image.open(pictures[k]) as picture:
            document.picture(
                picture.convert("RGB"),
                f"samples-{images}",
                f"After {images:,} images. The photos and texts are the same in all pictures.",
            )
    if len(pictures) > len(places):
        document.text(f"{len(places)} of {len(pictures)} pictures of `samples/`.")


def _evaluation(document: Document, evaluations: dict | None) -> None:
    """The models' measures as `tmgan train` and `tmgan evaluate --json` write them."""
    if not evaluations:
        return
    document.heading("Evaluation")
    first = next(iter(evaluations.values()))
    rows = []
    for name, measure in first["measures"].items():
        cells = [_measure_cell(about["measures"].get(name)) for about in evaluations.values()]
        better = {"higher": "higher is better", "lower": "lower is better"}.get(measure["better"], "")
        rows.append([Cell(name, better), *cells, str(measure["n"]), measure["unit"]])
    protocol = first["protocol"]
    caption = (
        f"{len(first['images'])} photos of the {protocol['split']} split, seed {protocol['seed']}, each edited "
        "by "
        + ("a caption of another photo" if protocol["captions"] == "other" else "its own caption")
        + "; 95% intervals by bootstrap over photos."
    )
    document.table(["measure", *evaluations, "n", "unit"], rows, caption)
    for note in dict.fromkeys([*first["notes"], *(m["note"] for m in first["measures"].values() if m["note"])]):
        document.note(note)
    for name, reason in first["skipped"].items():
        document.text(f"Not measured: {name}. {reason}")


def _measure_cell(measure: dict | None) -> Cell:
    if measure is None:
        return Cell("-")
    if measure["value"] is None:
        return Cell("exact" if measure["n"] else "-")
    interval = f"{number(measure['low'])} to {number(measure['high'])}" if "low" in measure else ""
    return Cell(number(measure["value"]), interval)


def _curves(document: Document, title: str, rows: list[dict], leave_out: tuple[str, ...]) -> None:
    names = [n for n in dict.fromkeys(k for row in rows for k in row) if n not in ("images", *leave_out)]
    if not names:
        return
    document.heading(title)
    images = [row["images"] for row in rows]
    panels = {f"{title.split()[0]}-{name}": curve(name, images, [row.get(name) for row in rows]) for name in names}
    document.charts(
        panels,
        "Means over each tick. A loss of a GAN says whether it trains, not whether its edits are good."
        if title == "Losses"
        else "Measured at each checkpoint, on a few held-out photos.",
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
        [name, f"{value:,}" if isinstance(value, int) else str(value)]
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
    for row in _rows(run / "stats.jsonl"):
        if row.get(_SPEED):
            total += (row["images"] - before) / row[_SPEED]
        before = row["images"]
    return total


def _rows(path: Path) -> list[dict]:
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # a crash cut the last line
            continue
    return rows


def _json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None


def _about(path: Path) -> dict:
    """The metadata of one of our weight files; empty if it does not exist."""
    if not path.is_file():
        return {}
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("tmgan", "{}"))
