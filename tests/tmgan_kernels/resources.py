"""What each Triton kernel takes of a GPU, as a committed table: kernels/resources/triton-VERSION.md.

    python -m tests.tmgan_kernels.resources     writes the table of the Triton that is installed

aot.py compiles, in a process of its own: here Triton may be interpreting. test_aot.py holds the table against what it
compiles.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import triton

import tmgan_kernels

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels"
TABLE = KERNELS / f"resources/triton-{triton.__version__}.md"
COMMAND = "python -m tests.tmgan_kernels.resources"
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
WIDTHS = (128, 64, 32, 16, 8)


def run_aot(*arguments: str) -> list[dict]:
    """The rows that `python -m tests.tmgan_kernels.aot ARGUMENTS` prints. Fails with the compiler's last words."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(KERNELS), str(HERE.parents[1])])
    process = subprocess.run(
        [sys.executable, "-m", "tests.tmgan_kernels.aot", *arguments],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return [json.loads(line) for line in process.stdout.splitlines()]


def resources(cubin: bytes) -> dict:
    """Of one compiled kernel: registers, stack and local bytes of a thread, barriers, loads and stores by width."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        code = subprocess.run(
            [TOOLS / "cuobjdump", "-res-usage", "-sass", file.name], capture_output=True, text=True, check=True
        ).stdout
    counts = {name.lower(): int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", code)}
    assert len(counts) == 3, code[:1000]
    return counts | accesses(code) | {"barrier": len(re.findall(r"\bBAR\b", code))}


def accesses(code: str) -> dict[str, int]:
    """How many instructions load from and store to global memory, by the bits each moves for a thread: `load_128`."""
    counts = {}
    for kind, instruction in (("load", "LDG(?:STS)?"), ("store", "STG")):  # LDGSTS: straight to shared memory
        suffixes = re.findall(rf"\b{instruction}\b(\S*)", code)  # .E.128, .E.U8.CONSTANT; 32 bits where none are named
        named = [re.search(r"\.[US]?(8|16|64|128)\b", suffix) for suffix in suffixes]
        widths = Counter(int(match[1]) if match else 32 for match in named)
        counts |= {f"{kind}_{bits}": widths[bits] for bits in WIDTHS}
    return counts


def section(operation: str, rows: list[dict]) -> str:
    """The part of the table that one operation has. Launches that compile to the same share a line."""
    lines = {}
    for row in rows:
        if row["operation"] == operation:
            case = row["case"].removeprefix(f"{operation} ").replace(" {}", "")
            moves = [
                ", ".join(f"{row[f'{kind}_{bits}']} x {bits}" for bits in WIDTHS if row[f"{kind}_{bits}"])
                for kind in ("load", "store")
            ]
            cells = [
                f"`{row['kernel']}`",
                case,
                f"sm_{row['sm']}",
                row["warps"],
                row["reg"],
                row["stack"],
                row["shared"],
                *(move or "none" for move in moves),
            ]
            lines["| " + " | ".join(map(str, cells)) + " |"] = None
    return "\n".join(
        [
            f"## {operation}",
            "",
            "| kernel | compiled for | GPU | warps | registers | stack | shared | loads | stores |",
            "|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    rows = run_aot(*tmgan_kernels.__all__)
    version = subprocess.run([TOOLS / "ptxas", "--version"], capture_output=True, text=True, check=True).stdout
    ptxas = re.search(r"V([\d.]+)", version)[1]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(
        f"""# What the Triton kernels take: Triton {triton.__version__}, ptxas {ptxas}

Written by `{COMMAND}` from what the compiler made, without a GPU, and held against it by
`tests/tmgan_kernels/test_aot.py` wherever this Triton is installed. Registers are a thread's; stack (bytes a thread) is
where registers are spilled to; shared memory is a block's, in bytes. Loads and stores are instructions to global
memory in the compiled code, by the bits that each moves for one thread: unrolled, not executed.

"""
        + "\n".join(section(operation, rows) for operation in tmgan_kernels.__all__)
    )
    print(TABLE)


if __name__ == "__main__":
    main()
