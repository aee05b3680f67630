#!/usr/bin/env bash
# A real training: preset editor on drawn birds of 256 pixels. Images/s in the loop, idle GPU, a picture, accuracy.
#
#   bash benchmarks/gpu/5-training.sh OUT [SECONDS] [TASK...] [--dry]      (from anywhere; PYTHON=python3 by default)
#
# Ends by itself after SECONDS (540), of which it trains a third. Rows go to OUT/5-training.jsonl the moment they are
# known, what is printed to OUT/5-training.log, edits to OUT/5-training.png. --dry: on a CPU, at toy sizes.
# TMGAN_COMMIT names the commit where the sources came alone.
# Exit status 1 when something failed, 2 when it could not start.
source "$(dirname "$0")/start.sh"
exec "$python" -m benchmarks.gpu.training "$out" "$@"
