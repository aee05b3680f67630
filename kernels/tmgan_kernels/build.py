"""Build the CUDA C++ kernels of csrc/: `python -m tmgan_kernels.build`.

    python -m tmgan_kernels.build            libtmgan.so, by nvcc, for sm_80, sm_90 and later GPUs
    python -m tmgan_kernels.build --host     libtmgan_host.so, by g++: the same kernels on the CPU, for tests only
    python -m tmgan_kernels.build --table    csrc/resources.md anew: registers and spills of every kernel

The libraries lie beside this file, where `_native.py` looks for them, and are made only when a source is newer. The
sources come with the package: beside this file too, in a checkout as a link to csrc/. nvcc is CUDA_HOME's, else the one
on the PATH, else that of the nvidia-cuda-nvcc wheel (with it: nvidia-cuda-crt, nvidia-nvvm, nvidia-cuda-runtime,
nvidia-cuda-cccl, all of one CUDA version; the extra `cuda`).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = (HERE / "csrc").resolve()
LIBRARY = HERE / "libtmgan.so"
HOST_LIBRARY = HERE / "libtmgan_host.so"
TABLE = SOURCES / "resources.md"
# No --use_fast_math: it flushes denormals and approximates divisions everywhere, whatever the error analysis says.
NVCC_OPTIONS = [
    "-O3",
    "-std=c++17",
    "-lineinfo",
    "--resource-usage",
    "-cudart",
    "static",
    "-shared",
    "-Xcompiler",
    "-fPIC,-fvisibility=hidden,-Wall,-Wextra",
    "-gencode",
    "arch=compute_80,code=sm_80",
    "-gencode",
    "arch=compute_90,code=[sm_90,compute_90]",
]
# -O1: a build that runs small images only is compiled more often than it is run for long.
HOST_OPTIONS = [
    "-O1",
    "-std=c++17",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-x",
    "c++",
]


class BuildError(RuntimeError):
    """A compiler is missing or failed; the message says what to do."""


class MissingCompiler(BuildError):
    """There is no compiler for this library here."""


def find_nvcc() -> Path:
    """The nvcc to use. Raises MissingCompiler if there is none."""
    candidates = [Path(os.environ["CUDA_HOME"]) / "bin/nvcc"] if os.environ.get("CUDA_HOME") else []
    if on_path := shutil.which("nvcc"):
        candidates.append(Path(on_path))
    for folder in map(Path, sys.path):
        candidates += sorted(folder.glob("nvidia/cu*/bin/nvcc"), reverse=True)
    for nvcc in candidates:
        if nvcc.is_file():
            return nvcc
    raise MissingCompiler(
        "no nvcc: set CUDA_HOME, put it on the PATH, or pip install 'tmgan[cuda]' (or 'tmgan-kernels[cuda]')"
    )


def nvcc_version(nvcc: Path) -> str:
    """As V13.0.88: what registers depend on, beside the sources."""
    said = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"V\d[\d.]*\d", said)[-1]


def kernel_files() -> list[Path]:
    files = sorted(SOURCES.glob("*.cu"))
    if not files:
        raise BuildError(f"no sources in {SOURCES}: install the package again; in a checkout it is a link to csrc/")
    return files


def is_current(library: Path) -> bool:
    """Whether library is newer than everything that it is made of."""
    inputs = [path for path in SOURCES.rglob("*") if path.suffix in (".cu", ".cuh", ".h", ".cpp")] + [Path(__file__)]
    return library.exists() and all(path.stat().st_mtime <= library.stat().st_mtime for path in inputs)


def compile_library(command: list[str], library: Path) -> str:
    """Run a compiler; library appears whole or not at all. Returns what it printed."""
    unfinished = library.with_suffix(f".{os.getpid()}.so")
    done = subprocess.run([*command, "-o", str(unfinished)], cwd=SOURCES, capture_output=True, text=True)
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    unfinished.replace(library)
    return done.stdout + done.stderr


def build(host: bool = False, table: bool = False) -> Path:
    """Make a library unless it is current. Several processes may call this at once: one compiles, the others wait."""
    library = HOST_LIBRARY if host else LIBRARY
    try:
        lock = open(library.with_suffix(".lock"), "w")  # noqa: SIM115, closed below
    except OSError as error:
        raise BuildError(f"cannot write into {HERE} ({error.strerror}): install into an environment of yours") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_current(library) and not table:
            return library
        names = [path.name for path in kernel_files()]
        if host:
            compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
            if compiler is None:
                raise MissingCompiler("no C++ compiler: install g++, or set CXX")
            compile_library([compiler, *HOST_OPTIONS, *names, "host/simt.cpp"], library)
        else:
            nvcc = find_nvcc()
            # Wheels keep the runtime library in lib; where the toolkit keeps it elsewhere, nvcc knows.
            printed = compile_library([str(nvcc), *NVCC_OPTIONS, f"-L{nvcc.parents[1] / 'lib'}", *names], library)
            if table:
                TABLE.write_text(resource_table(printed, nvcc_version(nvcc)))
    return library


# ------------------------------------------------------------ resource table
def resources(printed: str) -> list[dict]:
    """What ptxas said of each kernel: name, sm, registers, spilled and stack bytes."""
    rows = []
    pattern = re.compile(
        r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?(\d+) bytes stack frame, (\d+) bytes "
        r"spill stores, (\d+) bytes spill loads.*?Used (\d+) registers[^\n]*",
        re.S,
    )
    for name, sm, stack, stores, loads, registers in pattern.findall(printed):
        rows.append(
            {
                "kernel": name,
                "sm": int(sm),
                "registers": int(registers),
                "spilled": int(stores) + int(loads),
                "stack": int(stack),
            }
        )
    names = [row["kernel"] for row in rows]
    readable = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    for row, name in zip(rows, readable.splitlines(), strict=True):
        name = re.sub(r"\(.*|^void |tmgan::|__nv_", "", re.sub(r"\((int|bool)\)", "", name)).replace(
            "__half", "float16"
        )
        row["kernel"] = name
    return sorted(rows, key=lambda row: (row["kernel"], row["sm"]))


def resource_table(printed: str, version: str) -> str:
    rows = resources(printed)
    lines = [
        "# What the kernels take",
        "",
        f"Written by `python -m tmgan_kernels.build --table` from what ptxas reports, here that of nvcc {version}, and",
        "held against a library of the same compiler by `tests/tmgan_kernels/test_library.py`. Shared memory is asked",
        "for by each launch, see the sources. Kernels of clusters do nothing on sm_80, and take next to nothing there.",
        "",
        "| kernel | GPU | registers | spilled bytes | stack bytes |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row['kernel']}` | sm_{row['sm']} | {row['registers']} | {row['spilled']} | {row['stack']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tmgan_kernels.build", description="Build the kernels of csrc/.")
    parser.add_argument("--host", action="store_true", help="for the CPU, by g++: for tests")
    parser.add_argument("--table", action="store_true", help="compile in any case and write csrc/resources.md")
    given = parser.parse_args()
    if given.host and given.table:
        parser.error("--table describes the GPU library")
    try:
        print(build(given.host, given.table))
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
