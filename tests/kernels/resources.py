"""What each Triton kernel takes of a GPU, as a committed table: kernels/resources/triton-VERSION.md.

    python -m kernels.resources     (from tests/)  writes the table of the Triton that is installed

aot.py compiles, in a process of its own: here Triton may be interpreting. test_aot.py holds the table against what it
compiles.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tmgan_kernels
import triton

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels"
TABLE = KERNELS / f"resources/triton-{triton.__version__}.md"
COMMAND = "cd tests && python -m kernels.resources"
WIDTHS = (128, 64, 32, 16, 8)


def run_aot(*arguments: str) -> list[dict]:
    """The rows that `python -m kernels.aot ARGUMENTS` prints. Fails with the compiler's last words."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(KERNELS), str(HERE.parents[1])])
    done = subprocess.run([sys.executable, "-m", "kernels.aot", *arguments], cwd=HERE.parent, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def section(operation: str, rows: list[dict]) -> str:
    """The part of the table that one operation has. Launches that compile to the same share a line."""
    lines = {}
    for row in rows:
        if row["operation"] == operation:
            case = row["case"].removeprefix(f"{operation} ").replace(" {}", "")
            accesses = [", ".join(f"{row[f'{kind}_{bits}']} x {bits}" for bits in WIDTHS if row[f"{kind}_{bits}"])
                        for kind in ("load", "store")]
            cells = [f"`{row['kernel']}`", case, f"sm_{row['sm']}", row["warps"], row["reg"], row["stack"],
                     row["shared"], *(access or "none" for access in accesses)]
            lines["| " + " | ".join(map(str, cells)) + " |"] = None
    return "\n".join([f"## {operation}", "",
                      "| kernel | compiled for | GPU | warps | registers | stack | shared | loads | stores |",
                      "|---|---|---|---|---|---|---|---|---|", *lines, ""])


def ptxas() -> str:
    """The version of the assembler that Triton brings along."""
    from triton.backends.nvidia import __file__ as backend
    printed = subprocess.run([Path(backend).parent / "bin/ptxas", "--version"], capture_output=True, text=True,
                             check=True).stdout
    return re.search(r"V([\d.]+)", printed)[1]


def main() -> None:
    rows = run_aot(*tmgan_kernels.__all__)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(f"""# What the Triton kernels take: Triton {triton.__version__}, ptxas {ptxas()}

Written by `{COMMAND}` from what the compiler made, without a GPU, and held against it by
`tests/kernels/test_aot.py` wherever this Triton is installed. Registers are a thread's; stack (bytes a thread) is
where registers are spilled to; shared memory is a block's, in bytes. Loads and stores are instructions to global
memory in the compiled code, by the bits that each moves for one thread: unrolled, not executed.

""" + "\n".join(section(operation, rows) for operation in tmgan_kernels.__all__))
    print(TABLE)


if __name__ == "__main__":
    main()
