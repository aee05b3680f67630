"""Every Triton kernel compiles for sm_80 and sm_90, without a GPU, and is what the design asks of it.

An interpreted kernel may still fail to compile, spill registers, or index in 32 bits across images; nothing but the
compiler finds that out.
"""
from __future__ import annotations

import re

import pytest
import tmgan_kernels

from .resources import COMMAND, KERNELS, TABLE, WIDTHS, accesses, run_aot, section

# Layouts in which every kernel of an operation that streams must move 16 bytes an instruction. A stencil over the
# channel mean reads interleaved channels one by one.
BOTH = ("contiguous", "channels_last")
WIDE = {"laplace_sharpness": BOTH[:1], "sharp_gradient": BOTH[:1], "masked_mae": BOTH, "mask_score": BOTH,
        "scale_gradient": BOTH, "instance_norm_glu": BOTH, "box_blur": BOTH, "gaussian_blur": BOTH,
        "gather_crop": BOTH, "sharp_regions": BOTH}
SMALL = ("threshold_kernel", "finish_kernel")  # these read a few numbers an image


def check(operations: list[str], rows: list[dict]) -> None:
    compiled = {(row["operation"], row["sm"]) for row in rows}
    assert compiled == {(operation, sm) for operation in operations for sm in (80, 90)}
    for row in rows:
        streams = row["large"] and row["kernel"] not in SMALL
        if streams and row["case"].split()[-1] in WIDE.get(row["operation"], ()):
            assert row["load_128"] + row["store_128"] > 0, f"no 128-bit accesses: {row}"
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
        for one, other in zip(by_batch.values(), list(by_batch.values())[1:], strict=False):
            assert one == other, call
