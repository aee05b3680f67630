"""What `python -m tmgan_kernels.verify` found on this card, as `auto` reads it.

A verdict is one JSON file. It holds for the card, the versions and the kernels' sources that its fingerprint names, and
for nothing else; CUDA C++ kernels, moreover, for the library that was verified. A file that cannot be read, or is not
whole, is no verdict.

Verdicts of ours for some cards come with the package, in verdicts/. Where a machine has none of its own they hold for
the same card, Triton and sources, whatever the driver and the versions of torch and CUDA.
"""

import hashlib
import json
import logging
import math
import os
import re
import warnings
from functools import lru_cache
from pathlib import Path

import torch

from tmgan_kernels import _native, _triton

FORMAT = 1
SHIPPED = Path(__file__).with_name("verdicts")
SHARED = ("card", "capability", "triton", "sources")  # what a shipped verdict has in common with the machine it serves
COMMAND = "python -m tmgan_kernels.verify"
IMPLEMENTATIONS = ("triton", "cuda")  # what is verified; "eager" is the definition
# What another implementation must win by to be taken before Triton: less is noise of the clock.
LEAD = 1.05

log = logging.getLogger("tmgan_kernels")


# --------------------------------------------------------------- fingerprint
def folder() -> Path:
    """Where verdicts lie: TMGAN_CACHE, else XDG_CACHE_HOME/tmgan, else ~/.cache/tmgan."""
    if chosen := os.environ.get("TMGAN_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tmgan"


def driver() -> str:
    """The version of NVIDIA's driver, "unknown" where the system does not tell."""
    try:
        found = re.search(r"Kernel Module\D*([\d.]+)", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        found = None
    return found[1] if found else "unknown"


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def library_digest() -> str | None:
    """Of the library of CUDA C++ kernels; None where there is none that loads."""
    return None if _native.missing() else _digest(_native.PATH)


@lru_cache(maxsize=1)
def sources_digest() -> str:
    return _digest(*sorted(Path(__file__).parent.glob("*.py")))


def fingerprint(index: int | None) -> dict[str, str] | None:
    """What a verdict depends on, for this GPU; None if there is no such GPU."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(index)
    return {
        "card": torch.cuda.get_device_name(index),
        "capability": f"sm_{major}{minor}",
        "torch": torch.__version__,
        "triton": _triton.triton.__version__ if _triton.triton is not None else "none",
        "cuda": torch.version.cuda,
        "driver": driver(),
        "sources": sources_digest(),
    }


def _prefix(key: dict[str, str]) -> str:
    return "verdict-" + re.sub(r"[^A-Za-z0-9]+", "-", f"{key['card']}-{key['capability']}").strip("-")


def path_of(key: dict[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder() / f"{_prefix(key)}-{digest[:12]}.json"


def others_of(key: dict[str, str]) -> list[Path]:
    """Verdicts on such a card with other versions or sources."""
    return sorted(path for path in folder().glob(f"{_prefix(key)}-*.json") if path != path_of(key))


# ------------------------------------------------------------ reading, writing
def write(verdict: dict) -> Path:
    """Put a verdict in its place, whole or not at all."""
    path = path_of(verdict["fingerprint"])
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(unfinished, "w") as file:
            json.dump(verdict, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def read(key: dict[str, str]) -> dict | None:
    """The verdict for this fingerprint: the machine's own, else one that comes with the package; None if there is none.

    A file that is damaged is named and not believed. CUDA C++ kernels of another library than the one here are left out
    of it.
    """
    own = _read(path_of(key), key, tuple(key))
    if own is not None:
        return own
    for path in sorted(SHIPPED.glob(f"{_prefix(key)}-*.json")):
        if _written_for(path, key) and (shipped := _read(path, key, SHARED)) is not None:
            return shipped
    return None


def is_shipped(verdict: dict, key: dict[str, str]) -> bool:
    """Whether what `read` gave for this fingerprint was found on another machine."""
    return verdict["fingerprint"] != key


def _written_for(path: Path, key: dict[str, str]) -> bool:
    """Whether a shipped file says that it is of this card, Triton and sources: all others are silently no verdict."""
    try:
        fingerprint = json.loads(path.read_text())["fingerprint"]
        return all(fingerprint[name] == key[name] for name in SHARED)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read(path: Path, key: dict[str, str], shared: tuple[str, ...]) -> dict | None:
    """The verdict in a file, if it is whole and its fingerprint is this one in what is `shared`."""
    try:
        verdict = json.loads(path.read_text())
        fingerprint = verdict["fingerprint"]
        if (
            set(fingerprint) != set(key)
            or any(fingerprint[name] != key[name] for name in shared)
            or verdict["format"] != FORMAT
        ):
            raise ValueError("it is of another card, version or source than its name says")
        for found in verdict["parity"].values():
            if not set(found) <= set(IMPLEMENTATIONS) or not all(isinstance(r, str | None) for r in found.values()):
                raise ValueError("its findings are none")
        for row in verdict["race"]:
            if not isinstance(row["operation"], str) or not all(0 < t < math.inf for t in row["microseconds"].values()):
                raise ValueError("its times are none")
        if not isinstance(verdict["finished"], str):
            raise ValueError("it has no date")
        library = verdict["library"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged and ignored (%s: %s); run `%s` again", path, type(error).__name__, error, COMMAND)
        return None
    if library is None or library != library_digest():
        verdict["parity"] = {
            name: {impl: reason for impl, reason in found.items() if impl != "cuda"}
            for name, found in verdict["parity"].items()
        }
    return verdict


# ------------------------------------------------------------------- ranking
def ranking(verdict: dict, operation: str) -> tuple[str, ...]:
    """The implementations that `auto` may take, best first; "eager" is always one of them.

    Those that passed, by the geometric mean of their times relative to eager's; last those without times.
    """
    found = verdict["parity"].get(operation, {})
    passed = [impl for impl in IMPLEMENTATIONS if found.get(impl, "") is None]
    rows = [row["microseconds"] for row in verdict["race"] if row["operation"] == operation]
    raced = [impl for impl in (*passed, "eager") if rows and all(impl in row for row in rows)]
    if "eager" not in raced:
        return *passed, "eager"

    def slowness(impl: str) -> float:
        ratio = math.exp(sum(math.log(row[impl] / row["eager"]) for row in rows) / len(rows))
        return ratio if impl == "triton" else ratio * LEAD

    return *sorted(raced, key=slowness), *(impl for impl in passed if impl not in raced)


# -------------------------------------------------------- what `auto` asks for
_loaded: dict[int | None, dict | None] = {}
_rankings: dict[tuple[str, int | None], tuple[str, ...]] = {}
_offered = False


def forget() -> None:
    """Read the verdicts anew when they are next asked for."""
    _loaded.clear()
    _rankings.clear()


def _load(index: int | None) -> dict | None:
    global _offered
    if index not in _loaded:
        key = fingerprint(index)
        _loaded[index] = read(key) if key is not None else None
        if key is not None and _loaded[index] is None and not _offered:
            _offered = True
            log.warning(
                "the fused kernels have not been verified on this %s with these versions; run `%s` to do it",
                key["card"],
                COMMAND,
            )
    return _loaded[index]


def _rank(operation: str, index: int | None) -> tuple[str, ...]:
    verdict = _load(index)
    plain = ("triton", "eager") if _triton.triton is not None else ("eager",)
    if verdict is None or operation not in verdict["parity"]:
        return plain  # never CUDA C++: no compiler has proven anything about it on this card
    reason = verdict["parity"][operation].get("triton")
    ranked = ranking(verdict, operation)
    if reason is not None:
        warnings.warn(
            f"{operation}: its Triton kernels failed on this GPU ({reason}); impl='auto' is {ranked[0]!r} "
            f"instead. `{COMMAND}` checks again",
            RuntimeWarning,
            stacklevel=2,
        )
    return ranked


@torch.compiler.assume_constant_result
def automatic(operation: str, index: int | None, without_cuda: bool = False) -> str:
    """The implementation that "auto" means for tensors on GPU `index`: by its verdict; Triton while there is none."""
    key = operation, index
    if key not in _rankings:
        _rankings[key] = _rank(operation, index)
    ranked = _rankings[key]
    return ranked[1] if without_cuda and ranked[0] == "cuda" else ranked[0]
