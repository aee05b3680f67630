"""The loaders' section of docs/data.md, from benchmarks/results/loaders-*.json."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import schema
from benchmarks.markdown import table


def section(results: Path) -> str:
    """The newest run on each machine that had a GPU, and the newest without one."""
    newest: dict[tuple[str, str], tuple[str, dict]] = {}
    for path in sorted(results.glob("loaders-*.json")):
        document = json.loads(path.read_text())
        schema.check_loaders(document)
        about = document["machine"]
        newest[about["gpu"], _pillow(about)] = path.name, document  # dates are in the names, in order
    parts = [] if any(gpu != "not used" for gpu, _ in newest) else ["No GPU has been measured yet."]
    for name, document in newest.values():
        about, data = document["machine"], document["data"]
        gpu = f"{about['gpu']}, driver {about['driver']}, " if schema.on_gpu(document) else ""
        busy = (
            f" **The machine was busy: {about['load']:.0f} other processes were computing, so these are too low.**"
            if about["load"] > about["cores"] / 2
            else ""
        )
        parts.append(
            f"{gpu}{about['cores']} cores of {about['processor']}, torch {about['torch']}, DALI "
            f"{about['dali']}, {_pillow(about)} {about['pillow']}, {about['date']} (`{name}`): JPEGs of "
            f"{data['width']}x{data['height']} and {data['bytes_per_file'] / 1e3:.0f} kB, from the page cache "
            f"to batches of {document['rows'][0]['batch']} crops of {data['size']}.{busy}"
        )
        body = [
            (
                f"`{row['loader']}`",
                f"{row['images_per_second']:,.0f}",
                f"{row['iqr_images_per_second']:,.0f}",
                f"{row['images_per_core_second']:,.0f}",
            )
            for row in document["rows"]
        ]
        parts.append(table(("", "images/s", "interquartile range", "images per second of a busy core"), body))
    return "\n\n".join(parts)


def _pillow(about: dict) -> str:
    return "pillow-simd" if ".post" in about["pillow"] else "Pillow"
