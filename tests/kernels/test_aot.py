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


# Layouts in which every kernel of an operation that streams must move 16 bytes an instruction. A stencil over the
# channel mean reads interleaved channels one by one.
BOTH = ("contiguous", "channels_last")
WIDE = {"laplace_sharpness": BOTH[:1], "sharp_gradient": BOTH[:1], "masked_mae": BOTH, "mask_score": BOTH,
        "scale_gradient": BOTH, "instance_norm_glu": BOTH, "box_blur": BOTH, "gaussian_blur": BOTH,
        "gather_crop": BOTH, "sharp_regions": BOTH}
SMALL = ("threshold_kernel", "finish_kernel")  # these read a few numbers an image


def check(operation: str, rows: list[dict]) -> None:
    assert {row["sm"] for row in rows} == {80, 90}
    for row in rows:
        if row["case"].split()[-1] in WIDE.get(operation, ()) and row["kernel"] not in SMALL:
            assert row["load_128"] + row["store_128"] > 0, f"no 128-bit accesses: {row}"
        assert row["stack"] == 0 and row["local"] == 0, f"spills: {row}"
        assert row["float_atomics"] == 0, f"not repeatable: {row}"
        assert row["wide_offsets"], f"32-bit offsets across images: {row}"


@pytest.mark.parametrize("operation", tmgan_kernels.__all__)
def test_compiles_for_a100_and_h100(operation):
    """The first variant in float32 NCHW and in bfloat16 NHWC: forward and backward."""
    check(operation, compile_for_gpus(operation))


@pytest.mark.slow
@pytest.mark.parametrize("operation", tmgan_kernels.__all__)
def test_every_variant_compiles_for_a100_and_h100(operation):
    check(operation, compile_for_gpus(operation, "--every"))
