"""What the compiled training step will do on a GPU, counted without one, and the time that this predicts.

    python -m benchmarks.offline --preset combined --batch 40 [--only generate] [--json FILE]

Nothing runs. Dynamo, AOTAutograd and Inductor compile the step's three functions on fake tensors of a described H200
(described.py, under two C stand-ins that gcc builds into a temporary folder); each kernel that comes out is asked for
its bytes and FLOPs (counting.py); rates.py and predict.py turn these into a predicted time on three cards. No number
here was seen on a GPU. One to five minutes for the whole step.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.stand_in import build as stand_in
from tmgan.config import configfile


def main() -> int:  # of the process outside the stand-ins; the one inside leaves
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offline", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--preset", default="combined", choices=configfile.presets())
    parser.add_argument("--batch", type=int, default=40, help="images per step, 2 or more")
    parser.add_argument("--only", choices=("generate",), help="this function only")
    parser.add_argument("--json", type=Path, help="also write the report there, kernel by kernel")
    parser.add_argument("--thin", type=int, help="channels of both networks in place of the preset's, for tests")
    arguments = parser.parse_args()
    if arguments.batch < 2:
        parser.error(f"--batch is {arguments.batch}; batch norm and mismatched pairs need 2 or more")
    if stand_in.INSIDE not in os.environ:
        return stand_in.run_under("benchmarks.offline", sys.argv[1:])
    from . import count  # torch must be imported under the stand-ins

    report = count.report(arguments.preset, arguments.batch, arguments.only is not None, arguments.thin)
    if arguments.json is not None:
        arguments.json.write_text(count.dumps(report))
    from . import text

    print(text.plain(report))
    stand_in.leave()


if __name__ == "__main__":
    sys.exit(main())
