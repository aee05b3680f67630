# Sourced by the scripts beside this: where the sources and the caches are. Nothing is installed.
set -u
[ $# -ge 1 ] || { sed -n '2,20s/^# \{0,1\}//p' "$0"; exit 2; }
out=$(mkdir -p "$1" && cd "$1" && pwd) || exit 2
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
if [ -z "${TMGAN_COMMIT:-}" ] && ! git rev-parse --quiet --verify HEAD >/dev/null 2>&1; then
  echo "git tells no commit of $PWD: set TMGAN_COMMIT to the one that these sources are of" >&2
  exit 2
fi
python=${PYTHON:-python3}
export PYTHONPATH=$PWD:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
# At fixed places, so that runs one after the other compile once.
caches=${TMGAN_CACHES:-${TMPDIR:-/tmp}/tmgan-caches}
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$caches/inductor}
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$caches/triton}
mkdir -p "$TORCHINDUCTOR_CACHE_DIR" "$TRITON_CACHE_DIR"
unset TRITON_INTERPRET
case " $* " in *" --dry "*) export TRITON_INTERPRET=1 CUDA_VISIBLE_DEVICES= ;; esac
"$python" - <<'PYTHON' || exit 2
import importlib.util, sys
needed = {"torch": "torch", "triton": "triton", "torchvision": "torchvision", "numpy": "numpy", "scipy": "scipy",
          "yaml": "pyyaml", "safetensors": "safetensors", "PIL": "pillow", "pytest": "pytest"}
missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
sys.exit(f"missing packages: {' '.join(missing)}" if missing else 0)
PYTHON
