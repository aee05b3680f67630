"""Where a number was measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path


def describe(device: str) -> dict[str, str | int]:
    """Processor, cores, GPU, versions and date.

    Args:
        device: "cuda" when the measured run used the GPU.
    """
    import torch

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "not used",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "triton": version("triton"),
        "date": datetime.date.today().isoformat(),
    }


def version(distribution: str) -> str:
    """The version of an installed distribution, or "not installed"."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name as Linux reports it, which platform.processor() does not know."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
