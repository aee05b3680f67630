"""Builds the C stand-ins for CUDA, and starts Python again under them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INSIDE = "TMGAN_STAND_IN"  # set in the process that runs under the stand-ins
LIBRARIES = {
    "runtime.so": ("card.c", "streams.c", "memory.c", "kernels.c"),
    "libraries.so": ("libraries.c",),
    "libcuda.so.1": ("driver.c",),
}


def missing() -> str:
    """What is not there that the stand-ins need; empty where they can be built."""
    import torch

    if torch.version.cuda is None or not torch.version.cuda.startswith("13."):
        return f"needs a torch built for CUDA 13; this one is for {torch.version.cuda or 'no CUDA'}"
    return "" if shutil.which("gcc") else "needs gcc"


def build(folder: Path) -> None:
    """The libraries in the folder, by gcc. Raises RuntimeError where that fails."""
    if reason := missing():
        raise RuntimeError(f"the stand-in GPU {reason}")
    nvidia = importlib.util.find_spec("nvidia")
    headers = sorted(
        path.parent
        for place in (nvidia.submodule_search_locations if nvidia else ())
        for path in Path(place).glob("*/include/cuda_runtime_api.h")
    )
    if not headers:
        raise RuntimeError("cuda_runtime_api.h not found: this needs a torch built for CUDA and its nvidia-* wheels")
    for library, sources in LIBRARIES.items():
        command = ["gcc", "-O1", "-shared", "-fPIC", "-w", f"-I{headers[0]}", f"-I{HERE}", f"-Wl,-soname,{library}"]
        try:
            command += ["-o", str(folder / library), *(str(HERE / source) for source in sources)]
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"gcc could not build {library}: {getattr(error, 'stderr', '') or error}") from error
    (folder / "libcuda.so").symlink_to("libcuda.so.1")


def environment(folder: Path) -> dict[str, str]:
    """Of a process that runs under the stand-ins in `folder`."""

    def before(variable: str, *values: str | Path) -> str:
        return os.pathsep.join([*map(str, values), *filter(None, [os.environ.get(variable)])])

    values = {
        **os.environ,
        INSIDE: "1",
        "PATH": before("PATH", HERE),  # nvidia-smi
        "PYTHONPATH": before("PYTHONPATH", ROOT, ROOT / "kernels"),
        "LD_PRELOAD": f"{folder / 'runtime.so'}:{folder / 'libraries.so'}",
        "LD_LIBRARY_PATH": before("LD_LIBRARY_PATH", folder),
        "TRITON_LIBCUDA_PATH": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TMGAN_CACHE": str(folder / "tmgan"),
        "OMP_NUM_THREADS": "1",
    }
    for variable in ("TRITON_INTERPRET", "CUDA_VISIBLE_DEVICES"):
        values.pop(variable, None)
    return values


def leave() -> NoReturn:
    """Ends a process that ran under the stand-ins to its end, with status 0.

    Not by `return`: torch's threads for the described GPU may still be there when C++ destroys what they belong to,
    and then the process aborts ("terminate called without an active exception") after its work is done: in 6 of 100
    runs on a busy machine. Where memory of the card was taken, memory.c sees to it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run_under(module: str, arguments: list[str], **variables: str) -> int:
    """`python -m module` with these arguments under the stand-ins; its exit status.

    Args:
        variables: of the environment, beside those that the stand-ins need.
    """
    with tempfile.TemporaryDirectory(prefix="tmgan-stand-in-") as name:
        folder = Path(name)
        build(folder)
        return subprocess.run(
            [sys.executable, "-m", module, *arguments], env=environment(folder) | variables
        ).returncode
