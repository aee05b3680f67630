#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: do the kernels agree with their definitions, and how fast are they?
#
#   bash benchmarks/gpu.sh OUT [SECONDS]      (from anywhere; PYTHON=python3 by default)
#
# Runs from source: nothing is installed. Leaves logs, parity.xml and kernels-*.json in OUT, and stops by itself after
# SECONDS (480) with what it has: the benchmarks start with what matters most. TMGAN_COMMIT names the commit where the
# sources came without their history. Exit status 1 when a test, a benchmark or the sanitizer failed, 2 when it could
# not start.
set -u

[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
seconds=${2:-480}
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3}
export PYTHONPATH=.:kernels PYTHONUNBUFFERED=1
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-${TMPDIR:-/tmp}/tmgan-inductor}
unset TRITON_INTERPRET
mkdir -p "$TORCHINDUCTOR_CACHE_DIR"

"$python" - <<'PYTHON' || exit 2
import importlib.util, sys
needed = {"torch": "torch", "triton": "triton", "numpy": "numpy", "scipy": "scipy", "pytest": "pytest",
          "pytest_benchmark": "pytest-benchmark", "cpuinfo": "py-cpuinfo2"}
useful = {"xdist": "pytest-xdist", "kornia": "kornia", "skimage": "scikit-image"}
missing = [wheel for module, wheel in needed.items() if importlib.util.find_spec(module) is None]
if missing:
    sys.exit(f"missing wheels: {' '.join(missing)}")
absent = [wheel for module, wheel in useful.items() if importlib.util.find_spec(module) is None]
if absent:
    print(f"will do without: {' '.join(absent)}")
import torch
if not torch.cuda.is_available():
    sys.exit("torch sees no GPU")
PYTHON

# The CUDA C++ kernels, where an nvcc can be found: else their tests say that they are skipped.
"$python" -m tmgan_kernels.build >"$out/csrc.log" 2>&1 && echo "== csrc: built" || { echo "== csrc:"; tail -n 5 "$out/csrc.log"; }

if "$python" -c "import xdist" 2>/dev/null; then
    cores=$(nproc)
    some="-n $((cores / 3 > 1 ? cores / 3 : 1))" many="-n $((cores / 2 > 1 ? cores / 2 : 1))"
else
    some="" many=""
fi
# Stopped as by Ctrl-C, once, so that pytest still reports; for good 15 seconds later
limited() { local limit=$1; shift; timeout --foreground --signal=INT --kill-after=15 "$limit" "$@"; }
first=$((seconds * 2 / 5))

# What takes no times runs side by side: parity, the sanitizer, and the compilers, so that the benchmarks find their
# caches full.
limited "$first" "$python" -m pytest tests/kernels --noconftest --ignore=tests/kernels/test_aot.py -m 'not slow' -q \
    -p no:cacheprovider $some --durations=10 --junitxml="$out/parity.xml" >"$out/parity.log" 2>&1 &
parity=$!
TORCHINDUCTOR_COMPILE_THREADS=1 limited "$first" "$python" -m pytest benchmarks --compile-only -q -p no:cacheprovider \
    $many >"$out/compile.log" 2>&1 &
compile=$!
sanitize=""
if command -v compute-sanitizer >/dev/null; then
    (
        status=0
        # Without torch's allocator, whose blocks hide what lies beyond a tensor. initcheck would report torch's own.
        for tool in memcheck racecheck; do
            echo "== $tool"
            PYTORCH_NO_CUDA_MEMORY_CACHING=1 limited $((first / 2 - 10)) compute-sanitizer --tool "$tool" \
                --error-exitcode 9 --target-processes application-only "$python" -m pytest tests/kernels \
                --noconftest --ignore=tests/kernels/test_aot.py -q -p no:cacheprovider -k 'parity and float32 or every_route or every_team or tiles or every_size'
            [ $? -eq 9 ] && status=9
        done
        exit $status
    ) >"$out/sanitizer.log" 2>&1 &
    sanitize=$!
else
    echo "no compute-sanitizer on the PATH" >"$out/sanitizer.log"
fi
wait $parity; parity=$?
wait $compile; compile=$?
sanitized=0
[ -z "$sanitize" ] || { wait "$sanitize"; sanitized=$?; }
# One process with the GPU to itself: up to 50 GB.
limited 60 "$python" -m pytest tests/kernels --noconftest -m slow -k beyond_two_billion -q -p no:cacheprovider \
    >"$out/large.log" 2>&1
large=$?
echo "== parity: status $parity after $SECONDS s"; tail -n 15 "$out/parity.log"
echo "== images beyond 2^31 values: status $large"; tail -n 3 "$out/large.log"
echo "== sanitizer: status $sanitized"; grep -E '^==|ERROR SUMMARY|RACECHECK SUMMARY|passed|failed' "$out/sanitizer.log"
echo "== compilers: status $compile"; tail -n 1 "$out/compile.log"

# What the compilers tuned side by side was tuned on a busy GPU: keep the code, tune again.
find "$TORCHINDUCTOR_CACHE_DIR" -name '*.best_config' -delete
budget=$((seconds - SECONDS - 45))  # leaves time for the row that is under way, and to write
limited $((budget + 35)) "$python" -m pytest benchmarks -q --tb=short -p no:cacheprovider --results "$out" \
    --budget "$budget" >"$out/benchmarks.log" 2>&1
measured=$?
echo "== benchmarks: status $measured after $SECONDS s"; tail -n 100 "$out/benchmarks.log"
ls -l "$out"
[ $parity -eq 0 ] && [ $large -eq 0 ] && [ $measured -eq 0 ] && [ $sanitized -eq 0 ] || exit 1
