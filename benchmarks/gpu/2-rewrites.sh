#!/usr/bin/env bash
# What is each change of the step worth? Without a GPU: on thin networks, one after the other.
#
#   bash benchmarks/gpu/2-rewrites.sh OUT [SECONDS] [TASK...] [--dry]      (from anywhere; PYTHON=python3 by default)
#
# Ends by itself after SECONDS (540). Rows go to OUT/2-rewrites.jsonl the moment they are known, what is printed to
# OUT/2-rewrites.log. --dry: on a CPU, at toy sizes. TMGAN_COMMIT names the commit where the sources came alone.
# Exit status 1 when something failed, 2 when it could not start.
source "$(dirname "$0")/start.sh"
exec "$python" -m benchmarks.gpu.rewrites "$out" "$@"
