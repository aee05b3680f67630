#!/usr/bin/env bash
# Do the kernels agree with their definitions on this GPU, and how fast are they? And DALI?
#
#   bash benchmarks/gpu/3-kernels.sh OUT [SECONDS] [TASK...] [--dry]      (from anywhere; PYTHON=python3 by default)
#
# Ends by itself after SECONDS (540). Rows go to OUT/3-kernels.jsonl the moment they are known, what is printed to
# OUT/3-kernels.log. --dry: on a CPU, at toy sizes. TMGAN_COMMIT names the commit where the sources came alone.
# Exit status 1 when something failed, 2 when it could not start.
source "$(dirname "$0")/start.sh"
exec "$python" -m benchmarks.gpu.kernels "$out" "$@"
