"""Writes the tables of README.md from benchmarks/results/*.json: no number there is typed by hand.

    python benchmarks/report.py          # rewrite
    python benchmarks/report.py --check  # exit 1 when README.md does not match the results
"""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"


def quickstart_table() -> str:
    """One row a measured run, with the two baselines of the last one."""
    lines = ["| | colour accuracy | other parts kept | background PSNR | measured |", "|---|---|---|---|---|"]
    baselines: dict[str, dict] = {}
    for path in sorted(RESULTS.glob("quickstart-*.json")):
        result = json.loads(path.read_text())
        machine = result["machine"]
        where = (f"{_minutes(result['seconds'])}, {machine['cores']} cores of {machine['processor']}, GPU {machine['gpu']}, "
                 f"torch {machine['torch']}, {machine['date']}")
        lines.append(_row(f"`{result['command']}`", result["rows"]["trained"], where))
        baselines = {name: row for name, row in result["rows"].items() if name != "trained"}
    lines += [_row(name, row, "") for name, row in baselines.items()]
    return "\n".join(lines)


def _row(name: str, row: dict, where: str) -> str:
    psnr = "exact" if row["background_psnr"] is None else f"{row['background_psnr']:.1f} dB"
    return f"| {name} | {row['colour_accuracy']:.2f} | {row['others_kept']:.2f} | {psnr} | {where} |"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def filled(text: str) -> str:
    """README text with the part between the table markers replaced."""
    return re.sub(r"(<!-- quickstart -->\n).*?(<!-- end -->)",
                  lambda match: f"{match[1]}{quickstart_table()}\n{match[2]}", text, flags=re.S)


def main() -> None:
    text = README.read_text()
    if "--check" in sys.argv:
        sys.exit(0 if filled(text) == text else "README.md does not match benchmarks/results: run benchmarks/report.py")
    README.write_text(filled(text))


if __name__ == "__main__":
    main()
