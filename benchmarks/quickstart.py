"""Does the built-in default learn? Trains it from scratch and writes results/quickstart-<name>.json.

python -m benchmarks.quickstart default                  # what `tmgan train` does
python -m benchmarks.quickstart longer --images 40000    # anything else is passed on to `tmgan train`
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    name, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tmgan", "train", *options, "--run", str(run)], check=True)
        seconds = time.perf_counter() - start
        log = (run / "log.txt").read_text().splitlines()[0]
        result = {
            "command": " ".join(["tmgan train", *options]),
            "seconds": round(seconds, 1),
            "machine": describe("cuda" if " on cuda " in log else "cpu"),
            "rows": _rows(json.loads((run / "evaluation.json").read_text())),
        }
        pictures = sorted((run / "samples").glob("*.png"))
        picture = pictures[-1].read_bytes()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"quickstart-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / f"quickstart-{name}.png").write_bytes(picture)
    print(f"{RESULTS / f'quickstart-{name}.json'}: {seconds:.0f} s")


def _rows(evaluations: dict) -> dict[str, dict]:
    """Colour accuracy of each model, {model: {measure: value}}; null for the PSNR of an exact copy."""
    names = ("colour_accuracy", "others_kept", "background_psnr")
    return {
        model: {
            **{name: about["measures"][name]["value"] for name in names},
            "n": about["measures"]["colour_accuracy"]["n"],
        }
        for model, about in evaluations.items()
    }


if __name__ == "__main__":
    main()
