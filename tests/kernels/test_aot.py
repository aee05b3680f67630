"""Every Triton kernel compiles for sm_80 and sm_90, without a GPU, and is what the design asks of it.

An interpreted kernel may still fail to compile, spill registers, or index in 32 bits across images; nothing but the
compiler finds that out.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tmgan_kernels

HERE = Path(__file__).parent


def compile_for_gpus(*arguments: str) -> list[dict]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1] / "kernels"), str(HERE.parents[1])])
    done = subprocess.run([sys.executable, "-m", "kernels.aot", *arguments], cwd=HERE.parent, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(rows: list[dict]) -> None:
    assert {row["sm"] for row in rows} == {80, 90}
    for row in rows:
        assert row["stack"] == 0 and row["local"] == 0, f"spills: {row}"
        assert row["float_atomics"] == 0, f"not repeatable: {row}"
        assert row["wide_offsets"], f"32-bit offsets across images: {row}"


@pytest.mark.parametrize("operation", tmgan_kernels.__all__)
def test_compiles_for_a100_and_h100(operation):
    """The first variant in float32 NCHW and in bfloat16 NHWC: forward and backward."""
    check(compile_for_gpus(operation))


@pytest.mark.slow
@pytest.mark.parametrize("operation", tmgan_kernels.__all__)
def test_every_variant_compiles_for_a100_and_h100(operation):
    check(compile_for_gpus(operation, "--every"))
