"""Which implementation of an operation runs, and the checks that every operation shares."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from tmgan_kernels import _native, _triton, _verdict

IMPLEMENTATIONS = ("auto", "eager", "triton", "cuda")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


_preferred: dict[str, str] = {}  # operation, or "" for all others -> what "auto" means


@contextlib.contextmanager
def prefer(impl: str, *operations: str) -> Iterator[None]:
    """While this is active, impl="auto" means `impl` for these operations (for all, when none is named).

    For whoever calls networks that call the operations. A function compiled before is compiled anew.
    """
    check_one_of("prefer", "impl", impl, IMPLEMENTATIONS)
    before = dict(_preferred)
    _preferred.update(dict.fromkeys(operations or ("",), impl))
    try:
        yield
    finally:
        _preferred.clear()
        _preferred.update(before)


def choose(operation: str, impl: str, *tensors: Tensor, auto_without_cuda: bool = False) -> str:
    """Resolve `impl` to "eager", "triton" or "cuda" for these tensors: its meaning is the same everywhere.

    "auto" is eager on a CPU and for float64. On a GPU it is the fastest that passed `python -m tmgan_kernels.verify`
    there; Triton until that has been run; and not CUDA C++ where it cannot do this call (auto_without_cuda). An
    explicit choice is never replaced: ValueError for a name that is no implementation, RuntimeError for one that
    cannot run here, with the reason.
    """
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1:
        raise ValueError(f"{operation}: tensors on different devices: {', '.join(sorted(map(str, devices)))}")
    on_gpu = tensors[0].is_cuda
    if impl == "auto":
        impl = _preferred.get(operation, _preferred.get("", "auto"))
    if impl == "auto":
        narrow = all(tensor.dtype != torch.float64 for tensor in tensors)
        if not (on_gpu and narrow):
            return "eager"
        return _verdict.automatic(operation, tensors[0].device.index, auto_without_cuda)
    if impl == "eager":
        return impl
    if impl == "triton":
        if _triton.triton is None:
            raise RuntimeError(f"{operation}: impl='triton', but Triton is not installed; pip install triton")
        if not (on_gpu or _triton.INTERPRETED):
            raise RuntimeError(
                f"{operation}: impl='triton' needs tensors on an NVIDIA GPU, these are on "
                f"{tensors[0].device}; move them, use impl='auto', or set TRITON_INTERPRET=1 before "
                "Python starts to run the kernel slowly on the CPU"
            )
        return impl
    if impl == "cuda":
        if operation not in _native.OPERATIONS:
            raise RuntimeError(f"{operation}: there is no CUDA C++ implementation of it; use impl='auto'")
        if reason := _native.missing():
            raise RuntimeError(f"{operation}: impl='cuda', but {reason}")
        if not (on_gpu or _triton.INTERPRETED):
            raise RuntimeError(
                f"{operation}: impl='cuda' needs tensors on an NVIDIA GPU, these are on "
                f"{tensors[0].device}; move them, or use impl='auto'"
            )
        if any(tensor.dtype == torch.float64 for tensor in tensors):
            raise RuntimeError(
                f"{operation}: impl='cuda' computes in float32 and takes no float64 tensors; use "
                "impl='eager' or 'triton'"
            )
        return impl
    raise ValueError(f"{operation}: impl={impl!r} is not an implementation; use one of {', '.join(IMPLEMENTATIONS)}")


def check_image(operation: str, name: str, image: Tensor) -> None:
    """Raise ValueError unless `image` is a floating (B, C, H, W) tensor of a supported dtype with C, H, W >= 1."""
    if image.dim() != 4 or image.dtype not in DTYPES or 0 in image.shape[1:]:
        raise ValueError(
            f"{operation}: {name} must be a (B, C, H, W) tensor of float32, bfloat16, float16 or float64 "
            f"with at least one pixel, got {tuple(image.shape)} {image.dtype}"
        )
    if image.shape[1] * image.shape[2] * image.shape[3] >= 2**31:
        raise ValueError(f"{operation}: one image of {name} has 2^31 values or more: {tuple(image.shape)}")


def check_plane(operation: str, name: str, plane: Tensor, image: Tensor) -> None:
    """Raise ValueError unless `plane` has one channel and otherwise the shape of `image`."""
    wanted = (image.shape[0], 1, *image.shape[2:])
    if plane.shape != wanted:
        raise ValueError(
            f"{operation}: {name} must be {tuple(wanted)} for an image {tuple(image.shape)}, got {tuple(plane.shape)}"
        )


def check_one_of(operation: str, name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{operation}: {name}={value!r} is not one of {', '.join(map(repr, allowed))}")
