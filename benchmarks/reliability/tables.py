"""The tables of docs/reliability.md, from benchmarks/results/reliability-*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.markdown import machine_line, table
from tmgan.common.text import duration


def kills(results: Path) -> str:
    """What killing at random moments has cost."""
    found, where = _read(results / "reliability-kills.json")
    places = ", ".join(f"{count} {place}" for place, count in found["kills_by_place"].items())
    rows = [
        ("kill -9", f"{found['kills']}: {places}"),
        (
            "inside a file",
            f"{found['kills_inside_save']} in a checkpoint, {found['kills_inside_other_file']} in others",
        ),
        ("commands that resumed", f"{found['commands_resumed']}, to {found['runs_finished']} finished runs"),
        ("checkpoints read after a kill", f"{found['checkpoints_checked']:,}, all of them whole"),
        (
            "most that was lost",
            f"{found['most_images_lost']} images, where a save comes every {found['interval_images']}",
        ),
        ("the same while a save was being written", f"{found['most_images_lost_inside_save']} images"),
    ]
    return f"{_list(rows)}\n\n{where}"


def saves(results: Path) -> str:
    """How long saves hold the training up, one row per machine."""
    parts = []
    for path in sorted(results.glob("reliability-saves*.json")):
        found, where = _read(path)
        calls = [row["call_seconds"] + row.get("wait_seconds", 0) for row in found["rows"]]
        turns = [row["turn_seconds"] for row in found["rows"] if "turn_seconds" in row]
        beside = [row["step_seconds"] for row in found["rows"] if "step_seconds" in row]
        durable = [row["durable_seconds"] for row in found["rows"]]
        sigterm = found["sigterm"]
        rows = [
            ("checkpoint", f"{found['checkpoint_bytes'] / 1e9:.2f} GB, as much memory on the host"),
            ("the step waits", f"{1e3 * max(calls):.1f} ms at most"),
            ("the interpreter is held", f"{1e3 * max(turns):.0f} ms at most"),
            ("a step", f"{found['step_seconds']:.1f} s"),
            ("a step beside a save", f"{min(beside):.1f} to {max(beside):.1f} s"),
            ("on the disk after", f"{min(durable):.1f} to {max(durable):.1f} s"),
            (
                "SIGTERM in a step to on the disk",
                f"{sigterm['seconds']:.1f} s, of which the step took {sigterm['step_seconds']:.1f} s",
            ),
        ]
        about = f"Preset {found['preset']}, {found['image_size']} pixels, batch {found['batch']}."
        parts.append(f"{_list(rows)}\n\n{about} {where}")
    return "\n\n".join(parts)


def endurance(results: Path) -> str:
    """What grows in a long training."""
    found, where = _read(results / "reliability-endurance.json")
    first, last = found["samples"][len(found["samples"]) // 2], found["samples"][-1]
    body = [
        [
            name.replace("_", " "),
            f"{first[name]:,}",
            f"{last[name]:,}",
            f"{growth:,.1f}",
            f"{found['bounds_per_1000_steps'][name]:,g}",
        ]
        for name, growth in found["growth_per_1000_steps"].items()
    ]
    head = (f"{found['steps']:,} steps", "half-way", "at the end", "growth per 1,000 steps", "allowed")
    return f"{table(head, body)}\n\nThe growth is a line through the second half. {where}"


def fuzz(results: Path) -> str:
    """What every reader did with hostile files."""
    found, where = _read(results / "reliability-fuzz.json")
    body = [
        [
            row["target"],
            f"{row['cases']:,}",
            f"{row['outcomes'].get('read', 0):,}",
            str(sum(failure["count"] for failure in row["failures"])),
            f"{row['memory_multiple']} x file + {row['memory_constant'] / 2**20:.0f} MiB",
            f"{row['most_of_limit']:.0%}",
            f"{row['slowest_seconds']:.2f} s",
        ]
        for row in found["rows"]
    ]
    head = ("reader", "cases", "read", "failures", "memory allowed", "most of it", "slowest")
    long, engines = duration(60 * found["minutes"]), " and ".join(found["engines"])
    about = f"{found['cases']:,} cases in {long} by {engines}; what is not read is refused with a sentence."
    return f"{about}\n\n{table(head, body)}\n\n{where}"


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """A document, and where it was measured."""
    document = json.loads(path.read_text())
    return document, machine_line(document, path.name)


def _list(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
