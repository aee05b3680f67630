"""libtmgan.so as a binary, without a GPU: what it exports and needs, what its code takes, and what it refuses."""

from __future__ import annotations

import ctypes
import glob
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import triton

import tmgan_kernels
from tmgan_kernels import _native, box_blur, build
from tmgan_kernels._dispatch import choose

from .cuda import built, floats, status_of  # noqa: F401

ROOT = Path(__file__).parents[2]
HEADER = (build.SOURCES / "include/tmgan.h").read_text()
CUOBJDUMP = glob.glob(os.path.join(os.path.dirname(triton.__file__), "backends/nvidia/bin/cuobjdump"))
DECLARED = dict(re.findall(r"^TMGAN_API [\w ]+?\W?(tmgan_\w+)\(([^)]*)\);", HEADER, re.M | re.S))
LETTERS = {"int32_t": "i", "int64_t": "l", "float": "f", "double": "d"}


@pytest.fixture(scope="module")
def library() -> Path:
    """The GPU's library, built by nvcc: the test extra brings one along."""
    try:
        return build.build()
    except build.MissingCompiler as error:
        pytest.skip(f"the GPU library is not tested: {error}")


def output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_exports_what_the_header_declares(library):
    exported = re.findall(r" [A-Z] (\w+)$", output("nm", "-D", "--defined-only", library), re.M)
    assert sorted(exported) == sorted(DECLARED)


def test_needs_nothing_but_the_c_and_cpp_libraries(library):
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-d", library)))
    assert needed <= {
        "libc.so.6",
        "libm.so.6",
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "ld-linux-x86-64.so.2",
        "libpthread.so.0",
        "libdl.so.2",
        "librt.so.1",
    }, needed


def test_loads_and_checks_arguments_without_a_driver(library):
    """In a process that sees no GPU: an empty batch succeeds, and only work asks for a device."""
    code = f"""
import ctypes
library = ctypes.CDLL({str(library)!r})
weights = (ctypes.c_float * 8)(1.0)
def blur(batch, radius, pointer):
    batch = ctypes.c_int64(batch)
    return library.tmgan_blur(pointer, pointer, None, 0, weights, radius, 1, 0, batch, 3, 8, 8, 0, 0, 0, None)
print(library.tmgan_abi_version(), library.tmgan_on_host(), blur(0, 2, None), blur(1, 2, None),
      blur(1, 9, ctypes.c_void_p(4096)), blur(1, 2, ctypes.c_void_p(4096)) > 0)
"""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert process.stdout.split() == [str(_native.ABI_VERSION), "0", "0", "-1", "-4", "True"]


def test_holds_both_architectures_and_ptx_for_later_ones(library):
    elves = output(CUOBJDUMP[0], "--list-elf", library)
    assert "sm_80" in elves and "sm_90" in elves
    assert "sm_90" in output(CUOBJDUMP[0], "--list-ptx", library)


def test_no_kernel_spills_and_the_table_says_so(library):
    rows = re.findall(r"\| `(.+?)` \| sm_(\d+) \| (\d+) \| (\d+) \| (\d+) \|", build.TABLE.read_text())
    listed = sorted((int(sm), int(registers)) for _, sm, registers, _, _ in rows)
    assert all(int(spilled) == 0 and int(stack) == 0 for *_, spilled, stack in rows)
    usage = output(CUOBJDUMP[0], "--dump-resource-usage", library)
    real, sm = [], 0
    for line in usage.splitlines():
        if match := re.search(r"arch = sm_(\d+)", line):
            sm = int(match[1])
        if match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            registers, stack, _, local = map(int, match.groups())
            assert stack == 0 and local == 0, line
            real.append((sm, registers))
    assert {sm for sm, _ in real} == {80, 90}
    version = build.nvcc_version(build.find_nvcc())
    if f"nvcc {version}," not in build.TABLE.read_text():
        pytest.skip(f"nothing spills, and the table is of another nvcc than {version}, which is here")
    assert listed == sorted(real), "csrc/resources.md is out of date: python -m tmgan_kernels.build --table"


def test_moves_16_bytes_at_once_and_adds_only_integers_atomically(library):
    code = output(CUOBJDUMP[0], "--dump-ptx", library)
    for access in ("ld.global.v4.u32", "st.global.v4.u32"):
        assert code.count(access) > 100, access
    atomics = set(re.findall(r"\b(?:atom|red)\.[\w.:]*", code))
    assert atomics == {"atom.shared.add.u32"}, f"others may not be repeatable: {atomics}"


def test_python_declares_the_functions_of_the_header():
    for name, letters in _native.FUNCTIONS.items():
        parameters = [p.strip() for p in DECLARED[name].split(",")]
        assert "".join("p" if "*" in p else LETTERS[p.split()[0]] for p in parameters) == letters, name
    bare = {"tmgan_abi_version", "tmgan_on_host", "tmgan_error_string"}
    assert set(_native.FUNCTIONS) == set(DECLARED) - bare
    assert f"#define TMGAN_ABI_VERSION {_native.ABI_VERSION}\n" in HEADER


# ------------------------------------------------------------- the Python side
def test_another_version_of_the_interface_is_refused(tmp_path, monkeypatch):
    old = tmp_path / "old.so"
    source = tmp_path / "old.c"
    source.write_text("int tmgan_abi_version(void) { return 0; } const char *tmgan_error_string(int s) { return 0; }")
    subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", str(source), "-o", str(old)], check=True)
    monkeypatch.setattr(_native, "PATH", old)
    _native.library.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"version 0 of the interface, this package wants 1; run `python -m"):
            box_blur(torch.zeros(1, 1, 4, 4), 3, impl="cuda")
    finally:
        _native.library.cache_clear()


def test_a_library_that_is_missing_or_damaged_says_what_to_do(tmp_path, monkeypatch):
    for content, message in ((None, "not built; run `python -m tmgan_kernels.build"), (b"rubbish", "does not load")):
        path = tmp_path / "libtmgan.so"
        if content:
            path.write_bytes(content)
        monkeypatch.setattr(_native, "PATH", path)
        _native.library.cache_clear()
        try:
            with pytest.raises(RuntimeError, match=message):
                box_blur(torch.zeros(1, 1, 4, 4), 3, impl="cuda")
        finally:
            _native.library.cache_clear()


def test_statuses_have_words():
    words = {status: _native.library().tmgan_error_string(status).decode() for status in range(-6, 1)}
    assert len(set(words.values())) == 7 and "unknown status" not in words.values()
    assert _native.library().tmgan_error_string(-99) == b"unknown status"


@pytest.mark.parametrize("name", sorted(set(tmgan_kernels.__all__) - set(_native.OPERATIONS)))
def test_operations_without_cuda_kernels_say_so(name):
    with pytest.raises(RuntimeError, match=f"{name}: there is no CUDA C"):
        choose(name, "cuda", torch.zeros(1))


def test_float64_is_refused():
    with pytest.raises(RuntimeError, match="takes no float64 tensors"):
        box_blur(torch.zeros(1, 1, 4, 4, dtype=torch.float64), 3, impl="cuda")


# ----------------------------------------------------- every argument of every function
SOME = torch.zeros(1 << 16)
GOOD = {
    "tmgan_blur": dict(
        x=SOME,
        out=SOME,
        sizes=None,
        size_bytes=0,
        weights=floats(1, 0, 0),
        radius=2,
        border=1,
        adjoint=0,
        batch=1,
        channels=3,
        height=8,
        width=8,
        nhwc=0,
        dtype=0,
        device=0,
        stream=None,
    ),
    "tmgan_sharpness_loss": dict(
        image=SOME,
        labels=None,
        float_labels=0,
        local=SOME,
        loss=SOME,
        scale=SOME,
        workspace=SOME,
        gamma=1.0,
        only_sharp=0,
        batch=1,
        channels=3,
        height=8,
        width=8,
        nhwc=0,
        dtype=0,
        device=0,
        sm=90,
        stream=None,
    ),
    "tmgan_sharpness_loss_backward": dict(
        grad=SOME,
        scale=SOME,
        local=SOME,
        out=SOME,
        batch=1,
        channels=3,
        height=8,
        width=8,
        nhwc=0,
        dtype=0,
        device=0,
        stream=None,
    ),
    "tmgan_sharp_regions": dict(
        plane=SOME,
        mask=SOME,
        threshold=SOME,
        steps=5,
        batch=1,
        height=8,
        width=8,
        dtype=0,
        device=0,
        sm=90,
        stream=None,
    ),
    "tmgan_norm_glu": dict(
        x=SOME,
        out=SOME,
        mean=SOME,
        rstd=SOME,
        workspace=SOME,
        eps=1e-5,
        batch=1,
        channels=2,
        height=8,
        width=8,
        nhwc=1,
        dtype=0,
        device=0,
        sm=90,
        stream=None,
    ),
    "tmgan_norm_glu_backward": dict(
        grad=SOME,
        x=SOME,
        mean=SOME,
        rstd=SOME,
        dx=SOME,
        workspace=SOME,
        batch=1,
        channels=2,
        height=8,
        width=8,
        nhwc=1,
        dtype=0,
        device=0,
        sm=90,
        stream=None,
    ),
    "tmgan_match_histogram": dict(
        source=SOME,
        reference=SOME,
        sorted=None,
        out=SOME,
        workspace=SOME,
        low=0.0,
        high=1.0,
        by_level=0,
        quantize=1,
        batch=1,
        channels=3,
        height=8,
        width=8,
        source_nhwc=0,
        reference_nhwc=0,
        out_nhwc=0,
        source_dtype=0,
        reference_dtype=0,
        out_dtype=3,
        device=0,
        stream=None,
    ),
    "tmgan_change_mask": dict(
        matched=SOME,
        generated=SOME,
        keep=SOME,
        low=0.0,
        high=1.0,
        threshold=1.0,
        ceiling=2.0,
        batch=1,
        channels=3,
        height=8,
        width=8,
        nhwc=0,
        matched_levels=1,
        dtype=0,
        device=0,
        stream=None,
    ),
}
COMMON = [
    ({"dtype": 3}, -3),
    ({"dtype": -1}, -3),
    ({"device": -1}, -6),
    ({"batch": -1}, -2),
    ({"height": 0}, -2),
    ({"width": 0}, -2),
    ({"height": 1 << 30, "width": 4}, -2),
]


def nulls(*names: str) -> list[tuple[dict, int]]:
    return [({name: None}, -1) for name in names]


BAD = {
    "tmgan_blur": [
        *COMMON,
        ({"channels": 0}, -2),
        *nulls("x", "out", "weights"),
        ({"radius": 0}, -4),
        ({"radius": 8}, -4),
        ({"border": 3}, -4),
        ({"adjoint": 2}, -4),
        ({"nhwc": 2}, -4),
        ({"sizes": SOME, "size_bytes": 4}, -4),
        ({"sizes": SOME, "size_bytes": 2, "radius": 7}, -4),
        ({"border": 2, "height": 2}, -2),
    ],
    "tmgan_sharpness_loss": [
        *COMMON,
        *nulls("image", "local", "loss", "scale", "workspace"),
        ({"gamma": 0.0}, -4),
        ({"gamma": float("nan")}, -4),
        ({"only_sharp": 2}, -4),
        ({"float_labels": 2}, -4),
        ({"nhwc": 2}, -4),
        ({"workspace": SOME[1:]}, -5),
        ({"batch": 1 << 30}, -2),
    ],
    "tmgan_sharpness_loss_backward": [
        *COMMON,
        *nulls("grad", "scale", "local", "out"),
        ({"nhwc": -1}, -4),
        ({"batch": 1 << 40}, -2),
    ],
    "tmgan_sharp_regions": [
        *COMMON,
        *nulls("plane", "mask", "threshold"),
        ({"steps": -1}, -4),
        ({"batch": 1 << 30}, -2),
    ],
    "tmgan_norm_glu": [
        *COMMON,
        *nulls("x", "out", "mean", "rstd", "workspace"),
        ({"channels": 0}, -2),
        ({"height": 1, "width": 1}, -2),
        ({"nhwc": 2}, -4),
        ({"eps": -1.0}, -4),
        ({"x": SOME[1:]}, -5),
        ({"out": SOME[1:]}, -5),
        ({"workspace": SOME[1:]}, -5),
        ({"batch": 1 << 40}, -2),
    ],
    "tmgan_norm_glu_backward": [
        *COMMON,
        *nulls("grad", "x", "mean", "rstd", "dx", "workspace"),
        ({"nhwc": 2}, -4),
        ({"height": 1, "width": 1}, -2),
        ({"grad": SOME[1:]}, -5),
        ({"x": SOME[1:]}, -5),
    ],
    "tmgan_match_histogram": [
        *COMMON[2:],
        *nulls("source", "reference", "out", "workspace"),
        ({"source_dtype": 3}, -3),
        ({"reference_dtype": 3}, -3),
        ({"out_dtype": 4}, -3),
        ({"channels": 0}, -2),
        ({"quantize": 0, "out_dtype": 0}, -1),  # then sorted is wanted
        ({"quantize": 0, "by_level": 1}, -4),
        ({"low": 1.0}, -4),
        ({"by_level": 2}, -4),
        ({"out_nhwc": 2}, -4),
        ({"workspace": SOME[1:]}, -5),
        ({"batch": 1 << 40}, -2),
    ],
    "tmgan_change_mask": [
        *COMMON,
        *nulls("matched", "generated", "keep"),
        ({"low": 1.0}, -4),
        ({"ceiling": 1.0}, -4),
        ({"threshold": float("nan")}, -4),
        ({"nhwc": 2}, -4),
        ({"matched_levels": 2}, -4),
        ({"batch": 1 << 40}, -2),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_arguments_are_taken_and_bad_ones_named(name):
    order = [p.split()[-1].lstrip("*") for p in DECLARED[name].split(",")]
    assert list(GOOD[name]) == order
    if not torch.cuda.is_available():  # there these pointers would be the device's
        assert status_of(name, *GOOD[name].values()) == 0
    for change, status in BAD[name]:
        assert status_of(name, *(GOOD[name] | change).values()) == status, change
    assert set(GOOD) == {name for name in _native.FUNCTIONS if not name.endswith("_workspace")}


# ---------------------------------------------------------- shared memory of every GPU
MOST_SHARED = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 120: 99}  # KB a block, CUDA's programming guide


@pytest.mark.skipif(not _native.INTERPRETED, reason="asks the host build")
@pytest.mark.parametrize("sm", MOST_SHARED)
def test_no_block_asks_for_more_shared_memory_than_a_gpu_has(sm):
    """Of planes of any size: GeForce cards from Ampere on have less than the A100 and the H100 that come before."""
    library = _native.library()
    library.tmgan_host_shared.restype = ctypes.c_int64
    try:
        library.tmgan_host_idle(1)
        for edge in range(8, 480, 8):
            size = {"height": edge, "width": edge, "sm": sm}
            for name in ("tmgan_norm_glu", "tmgan_norm_glu_backward", "tmgan_sharpness_loss", "tmgan_sharp_regions"):
                for dtype in (0, 1):
                    changes = size | {"dtype": dtype} | ({"nhwc": 0} if "nhwc" in GOOD[name] else {})
                    assert status_of(name, *(GOOD[name] | changes).values()) == 0
                    assert library.tmgan_host_shared() <= MOST_SHARED[sm] * 1024, (name, edge, dtype)
    finally:
        library.tmgan_host_idle(0)
