"""Where a number was measured: goes into every file of benchmarks/results/."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tmgan.common import machine
from tmgan.common.machine import version as version

ROOT = Path(__file__).parents[1]


def describe(device: str) -> dict[str, str | int]:
    """Processor, cores, GPU, versions, date and source.

    Args:
        device: "cuda" when the measured run used the GPU.
    """
    import torch

    gpu = device == "cuda"
    return {
        **machine.describe(device),
        "driver": _nvidia_smi("driver_version") if gpu else "not used",
        "cuda": torch.version.cuda or "none",
        "commit": commit(),
        "sources": sources(),
    }


def gpu_state() -> str:
    """Clocks, power and temperature, read and never set: a card that throttled shows here."""
    return _nvidia_smi("clocks.sm,clocks.mem,power.draw,temperature.gpu")


def gpu_name() -> str:
    """Name of the first card, "unknown" where there is none; does not import torch."""
    return _nvidia_smi("name") or "unknown"


def gpu_gigabytes() -> float:
    """Memory of the first card."""
    return float(_nvidia_smi("memory.total").split()[0]) * 2**20 / 1e9


def sources() -> str:
    """Twelve digits that change with any byte of the kernels' source: what was measured, commit or not."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "kernels" / "tmgan_kernels").glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str:
    """TMGAN_COMMIT where the sources were copied without their history."""
    name = os.environ.get("TMGAN_COMMIT") or _output("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    changes = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "kernels", "tmgan")
    return name if changes in ("", "unknown") else f"{name} with changes"


def _nvidia_smi(query: str) -> str:
    return _output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")


def _output(*command: str) -> str:
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return process.stdout.strip().splitlines()[0] if process.stdout.strip() else ""
