"""The contract of every operation for impl="cuda": on a GPU the real library, elsewhere its host build."""

from __future__ import annotations

import ctypes

import pytest
import torch

from tmgan_kernels import _native, build

from .contract import GPU, KernelContract


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """Makes the library that this machine can run, if a source is newer than it.

    Only a machine without a compiler skips: sources that do not compile are a failure, not a reason to test nothing.
    """
    try:
        build.build(host=not GPU)
    except build.MissingCompiler as error:
        pytest.skip(f"impl='cuda' cannot be tested here: {error}")


def contract_in_cuda(source: type[KernelContract], **changes) -> type[KernelContract]:
    """The settings of an operation's own test class, without the tests that only it has, for impl="cuda"."""
    only_its_own = {
        name: None for name in vars(source) if name.startswith("test_") and not hasattr(KernelContract, name)
    }
    # Without float64 there is no gradcheck: gradients are held against those of the definition in float64.
    own = {"impl": "cuda", "layout_dtype": torch.float32, "test_gradcheck": None}
    return type(f"{source.__name__}InCuda", (source,), only_its_own | own | changes)


def pointer(x: torch.Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def status_of(name: str, *arguments) -> int:
    """What a function of the library returns, by its C interface."""
    converted = [pointer(a) if isinstance(a, torch.Tensor) else a for a in arguments]
    return getattr(_native.library(), name)(*converted)


def floats(*values: float) -> ctypes.Array:
    return (ctypes.c_float * len(values))(*values)
