"""Where a number was measured: goes into every file of benchmarks/results/."""
from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import torch


def describe(device: str) -> dict[str, str | int]:
    """Processor, cores, GPU, versions and date; device: "cuda" when the measured run used the GPU."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines()
                      if line.startswith("model name")), model)
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = "not installed"
    return {"processor": model, "cores": len(os.sched_getaffinity(0)),
            "gpu": torch.cuda.get_device_name() if device == "cuda" else "not used",
            "python": platform.python_version(), "torch": torch.__version__, "triton": triton,
            "date": datetime.date.today().isoformat()}
