"""Every Triton kernel compiles for sm_80 and sm_90, without a GPU, and is what the design asks of it.

An interpreted kernel may still fail to compile, spill registers, or index in 32 bits across images; nothing but the
compiler finds that out.
"""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import triton

import tmgan_kernels

from .resources import COMMAND, KERNELS, TABLE, WIDTHS, accesses, run_aot, section

# Operations whose kernels move 16 bytes an instruction in both layouts, NCHW and NHWC, where they stream.
WIDE = (
    "laplace_sharpness",
    "sharp_gradient",
    "sharpness_score",
    "sharp_regions",
    "naive_sharpness_loss",
    "masked_mae",
    "mask_score",
    "scale_gradient",
    "instance_norm_glu",
    "box_blur",
    "gaussian_blur",
    "gather_crop",
)
SMALL = ("threshold_kernel", "finish_kernel")  # these read a few numbers per image
# Of these, the ones that load less than 32 bits at a time, and what: every other narrow access is a lost vector.
NARROW = {
    "gather_crop": "bytes from anywhere",
    "masked_mae": "a plane beside NHWC",
    "mask_score": "the same",
    "scale_gradient": "the same",
}
if triton.__version__.startswith("3.6."):
    NARROW["instance_norm_glu"] = "a plane's first values, once per program: this Triton gives a lane one of them"
# 16-bit loads that do not stream: the first values of a few planes, once per program.
ONCE = {"instance_norm_glu": 4}
BEYOND = "512, 512)"  # images of more than one block of columns, the neighbours of which are loaded one by one
# Registers per thread with which as many programs run side by side as the kernels' comments promise.
REGISTERS = {"image_kernel": 64, "sum_kernel": 96, "sweep_kernel": 96, "mask_kernel": 96}
# Launches for images of 256 x 256, by operation and the number of its operator in the contract.
LAUNCHES = {
    ("sharp_regions", 0): 1,
    ("naive_sharpness_loss", 0): 4,
    ("naive_sharpness_loss", 2): 1,
    ("sharp_gradient", 0): 2,
    ("laplace_sharpness", 0): 1,
    ("laplace_sharpness", 1): 1,
    ("gather_crop", 0): 1,
}


def check(operations: list[str], rows: list[dict]) -> None:
    compiled = {(row["operation"], row["sm"]) for row in rows}
    assert compiled == {(operation, sm) for operation in operations for sm in (80, 90)}
    for row in rows:
        streams = row["large"] and row["kernel"] not in SMALL
        if streams and row["operation"] in WIDE:
            assert row["load_128"] + row["store_128"] > 0, f"no 128-bit accesses: {row}"
            if BEYOND not in row["case"]:
                loads = 0 if row["operation"] in NARROW else row["load_8"] + row["load_16"]
                assert loads <= ONCE.get(row["operation"], 0), f"narrow loads: {row}"
                assert row["store_8"] + row["store_16"] == 0, f"narrow stores: {row}"
        assert row["reg"] <= REGISTERS.get(row["kernel"], 255), f"too many registers: {row}"
        assert row["stack"] == 0 and row["local"] == 0, f"spills: {row}"
        assert row["float_atomics"] == 0, f"not repeatable: {row}"
        assert row["wide_offsets"], f"32-bit offsets across images: {row}"


@pytest.mark.parametrize("operations", [tmgan_kernels.__all__[::2], tmgan_kernels.__all__[1::2]], ids=["half", "rest"])
def test_compiles_for_a100_and_h100(operations):
    """In float32 NCHW and in bfloat16 NHWC: forward and backward. And the table says what was compiled."""
    rows = run_aot(*operations)
    check(operations, rows)
    if not TABLE.exists():
        pytest.skip(f"all is well, but no table is kept for this Triton, {TABLE.stem}: {COMMAND}")
    table = TABLE.read_text()
    for operation in operations:
        assert section(operation, rows) in table, f"{TABLE} is out of date: {COMMAND}"


def test_accesses_are_told_apart_by_width():
    code = """@P3 LDG.E.128 R36, [R10.64] ;  LDG.E.64.CONSTANT R2, [R4.64] ;  LDG.E R2, [R4.64] ;
              LDG.E R2, [R4.64+0x8] ;  LDG.E.U16 R2, [R4.64] ;  LDG.E.S8 R2, [R4.64] ;  LDGDEPBAR ;
              LDGSTS.E.BYPASS.128 [R1], [R2.64] ;  LDS.128 R4, [R8] ;  STG.E.U8 [R2.64], R4 ;
              STG.E [R2.64], R128 ;  STL.64 [R1], R6 ;"""
    expected = {"load_128": 2, "load_64": 1, "load_32": 2, "load_16": 1, "load_8": 1, "store_32": 1, "store_8": 1}
    assert accesses(code) == {f"{kind}_{bits}": 0 for kind in ("load", "store") for bits in WIDTHS} | expected


@pytest.mark.parametrize("table", sorted(TABLE.parent.glob("*.md")), ids=lambda path: path.stem)
def test_tables_have_every_kernel_on_both_gpus(table):
    sources = "".join(path.read_text() for path in KERNELS.glob("*/*.py"))
    defined = set(re.findall(r"^@jit.*\ndef (\w+_kernel)\(", sources, re.M))
    for sm in (80, 90):
        assert set(re.findall(rf"^\| `(\w+)` \|.*\| sm_{sm} \|", table.read_text(), re.M)) == defined


@pytest.mark.slow
@pytest.mark.parametrize("operation", tmgan_kernels.__all__)
def test_every_variant_compiles_for_a100_and_h100(operation):
    check([operation], run_aot(operation, "--every"))


def test_launches_fit_the_grid_and_no_batch_size_needs_a_kernel_of_its_own():
    """CUDA's limits, which the interpreter lacks, on a large photo and many small ones; and neither a last, smaller
    batch nor one more image compiles anything: that would stall a loop, and end the capture of a graph."""
    variants: dict[tuple, dict[int, list[str]]] = {}
    for row in run_aot(*tmgan_kernels.__all__, "--launches"):
        x, y, z = (*row["grid"], 1, 1)[:3]
        assert 0 < x < 2**31 and 0 < y < 2**16 and 0 < z < 2**16, row
        batch, *rest = row["shape"]
        if rest[1:] == [256, 256]:
            call = variants.setdefault((row["operation"], row["call"]), {})
            call.setdefault(batch, []).append(row["kernel"] + row["variant"])
    assert {name for name, _ in variants} == set(tmgan_kernels.__all__)
    for call, by_batch in variants.items():
        assert len(by_batch) == 5
        assert len(by_batch[1]) <= LAUNCHES.get(call, 99), (call, by_batch[1])
        for one, other in pairwise(by_batch.values()):
            assert one == other, call
