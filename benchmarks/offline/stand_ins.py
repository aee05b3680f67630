"""Builds the two C stand-ins for CUDA's runtime and driver, and starts Python again under them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).parent
INSIDE = "TMGAN_OFFLINE"  # set in the process that runs under the stand-ins


def build(folder: Path) -> None:
    """libcuda.so.1 and shim.so in the folder, by gcc. Raises RuntimeError without a compiler or CUDA's headers."""
    nvidia = importlib.util.find_spec("nvidia")
    headers = sorted(
        path.parent
        for place in (nvidia.submodule_search_locations if nvidia else ())
        for path in Path(place).glob("*/include/cuda_runtime_api.h")
    )
    if not headers:
        raise RuntimeError("cuda_runtime_api.h not found: this needs a torch built for CUDA and its nvidia-* wheels")
    for source, library in (("runtime_shim.c", "shim.so"), ("driver_stub.c", "libcuda.so.1")):
        command = [
            "gcc",
            "-shared",
            "-fPIC",
            "-w",
            f"-I{headers[0]}",
            f"-I{HERE}",
            "-o",
            str(folder / library),
            str(HERE / source),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"gcc could not build {source}: {getattr(error, 'stderr', '') or error}") from error
    (folder / "libcuda.so").symlink_to("libcuda.so.1")


def leave() -> NoReturn:
    """Ends a process that ran under the stand-ins to its end, with status 0.

    Not by `return`: torch's threads for the described GPU may still be there when C++ destroys what they belong to,
    and then the process aborts ("terminate called without an active exception") after its work is done: in 6 of 100
    runs on a busy machine.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run_under(module: str, arguments: list[str]) -> int:
    """`python -m module` with these arguments under the stand-ins; its exit status. The module ends by `leave()`."""
    root = HERE.parents[1]
    with tempfile.TemporaryDirectory(prefix="tmgan-offline-") as name:
        build(Path(name))
        path = os.pathsep.join([str(root), str(root / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])])
        library = os.pathsep.join([name, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
        environment = {
            **os.environ,
            INSIDE: "1",
            "PYTHONPATH": path,
            "LD_PRELOAD": f"{name}/shim.so",
            "LD_LIBRARY_PATH": library,
            "TORCHINDUCTOR_CACHE_DIR": f"{name}/cache",
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("TRITON_INTERPRET", None)
        return subprocess.run([sys.executable, "-m", module, *arguments], env=environment).returncode
