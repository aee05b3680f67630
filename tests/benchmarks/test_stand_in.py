"""What the GPU that computes nothing refuses, as CUDA does: each rule by its error."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.stand_in import build

pytestmark = pytest.mark.skipif(bool(build.missing()), reason=build.missing())

# Without torch, which would say less about which call was refused. A process for each rule: an error breaks a capture.
BEFORE = """
import ctypes, threading
cuda = ctypes.CDLL(None)
def handle(make, *arguments):
    made = ctypes.c_void_p()
    assert make(ctypes.byref(made), *arguments) == 0
    return made
def end():
    return cuda.cudaStreamEndCapture(stream, ctypes.byref(ctypes.c_void_p()))
stream, side, event = handle(cuda.cudaStreamCreate), handle(cuda.cudaStreamCreate), handle(cuda.cudaEventCreate)
memory, page_locked = handle(cuda.cudaMalloc, ctypes.c_size_t(64)), handle(cuda.cudaHostAlloc, ctypes.c_size_t(64), 0)
host, size, GLOBAL, THREAD_LOCAL, RELAXED = ctypes.create_string_buffer(64), ctypes.c_size_t(64), 0, 1, 2
def allocate(size=64):
    return cuda.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(size))
def elsewhere():
    found = []
    thread = threading.Thread(target=lambda: found.append(allocate()))
    thread.start()
    thread.join()
    return found[0]
def graph():
    recorded, executable = ctypes.c_void_p(), ctypes.c_void_p()
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(recorded)) == 0
    assert cuda.cudaGraphInstantiateWithFlags(ctypes.byref(executable), recorded, ctypes.c_ulonglong(0)) == 0
    return executable
def begin(mode=GLOBAL):
    assert cuda.cudaStreamBeginCapture(stream, mode) == 0
def fork():
    assert cuda.cudaEventRecord(event, stream) == 0 and cuda.cudaStreamWaitEvent(side, event, 0) == 0
    assert cuda.cudaMemsetAsync(memory, 1, size, side) == 0
def join():
    assert cuda.cudaEventRecord(event, side) == 0 and cuda.cudaStreamWaitEvent(stream, event, 0) == 0
"""
RULES = {
    "no allocation in a capture": ("begin(); print(allocate(), end())", "900 901"),
    "but in a relaxed one": ("begin(RELAXED); print(allocate(), end())", "0 0"),
    "no wait for the captured stream": ("begin(RELAXED); print(cuda.cudaStreamSynchronize(stream), end())", "900 901"),
    "no wait for the card": ("begin(THREAD_LOCAL); print(cuda.cudaDeviceSynchronize(), end())", "900 901"),
    "another thread may beside a capture of this thread": ("begin(THREAD_LOCAL); print(elsewhere(), end())", "0 0"),
    "but not beside a global one": ("begin(GLOBAL); print(elsewhere(), end())", "900 901"),
    "no copy from memory that is not page-locked": (
        "begin(); print(cuda.cudaMemcpyAsync(memory, host, size, 4, stream), end())",
        "900 901",
    ),
    "a copy from page-locked memory": (
        "begin(); print(cuda.cudaMemcpyAsync(memory, page_locked, size, 4, stream), end())",
        "0 0",
    ),
    "a fork that is not joined": ("begin(); fork(); print(end())", "904"),
    "a fork that is joined": ("begin(); fork(); join(); print(end())", "0"),
    "no wait for what is outside": (
        "cuda.cudaEventRecord(event, side); begin(); print(cuda.cudaStreamWaitEvent(stream, event, 0), end())",
        "905 901",
    ),
    "a grid's second axis": (
        "print(cuda.standInLaunch(1, 65535, 1, 32, size, stream), cuda.standInLaunch(1, 65536, 1, 32, size, stream))",
        "0 9",
    ),
    "threads of a block": (
        "print(cuda.standInLaunch(1, 1, 1, 1024, size, stream), cuda.standInLaunch(1, 1, 1, 1025, size, stream))",
        "0 9",
    ),
    "a kernel's arguments": (
        "print(cuda.standInHas(memory), cuda.standInHas(page_locked), cuda.standInHas(host))",
        "1 1 0",
    ),
    "no more memory than the card has": ("print(allocate(142 << 30))", "2"),
    "what a graph copies": (
        "begin(); cuda.cudaMemcpyAsync(memory, page_locked, size, 4, stream); executable = graph(); "
        "ctypes.memset(page_locked, 7, 64); before = ctypes.string_at(memory, 1); "
        "cuda.cudaGraphLaunch(executable, stream); print(before, ctypes.string_at(memory, 1))",
        r"b'\x00' b'\x07'",
    ),
}


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    build.build(folder)
    return build.environment(folder)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_refused(rule, card):
    code, said = RULES[rule]
    process = subprocess.run([sys.executable, "-c", f"{BEFORE}\n{code}"], env=card, capture_output=True, text=True)
    assert process.stdout.strip() == said, process.stderr
