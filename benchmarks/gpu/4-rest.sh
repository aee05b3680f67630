#!/usr/bin/env bash
# What 1 to 3 leave out: published step, torch.compile, sanitizer, 2^31 values, loaders, rivals, starts.
#
#   bash benchmarks/gpu/4-rest.sh OUT [SECONDS] [TASK...] [--dry]      (from anywhere; PYTHON=python3 by default)
#
# Ends by itself after SECONDS (540). Rows go to OUT/4-rest.jsonl the moment they are known, what is printed to
# OUT/4-rest.log. --dry: on a CPU, at toy sizes. TMGAN_COMMIT names the commit where the sources came alone.
# Exit status 1 when something failed, 2 when it could not start.
source "$(dirname "$0")/start.sh"
exec "$python" -m benchmarks.gpu.rest "$out" "$@"
