#!/usr/bin/env bash
# The training step on a GPU: does it run, how fast is each engine, which kernels take the time?
#
#   bash benchmarks/gpu/1-step.sh OUT [SECONDS] [TASK...] [--dry]      (from anywhere; PYTHON=python3 by default)
#
# Ends by itself after SECONDS (540). Rows go to OUT/1-step.jsonl the moment they are known, what is printed to
# OUT/1-step.log. --dry: on a CPU, at toy sizes. TMGAN_COMMIT names the commit where the sources came alone.
# Exit status 1 when something failed, 2 when it could not start.
source "$(dirname "$0")/start.sh"
exec "$python" -m benchmarks.gpu.step "$out" "$@"
