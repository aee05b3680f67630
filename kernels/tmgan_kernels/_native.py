"""The CUDA C++ kernels of csrc/: a library with a C interface that ctypes loads. An accelerator, never a requirement.

`python -m tmgan_kernels.build` makes the library; csrc/include/tmgan.h documents its functions. It knows nothing of
torch: pointers, sizes, a device and a stream go in, a status comes out. Where Triton's interpreter stands in for a GPU,
the host build of the same kernels does so here.
"""

import ctypes
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from tmgan_kernels._triton import INTERPRETED

ABI_VERSION = 1  # TMGAN_ABI_VERSION of the header that the calls below were written for
PATH = Path(__file__).with_name("libtmgan_host.so" if INTERPRETED else "libtmgan.so")
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.uint8: 3}
BORDERS = {"zeros": 0, "replicate": 1, "reflect": 2}
BUILD = "python -m tmgan_kernels.build" + (" --host" if INTERPRETED else "")

# What has impl="cuda".
OPERATIONS = (
    "box_blur",
    "change_mask",
    "gaussian_blur",
    "instance_norm_glu",
    "match_histogram",
    "naive_sharpness_loss",
    "sharp_regions",
)
# The parameters of every function: p a pointer, i int32, l int64, f float, d double. They return an int, int64 where
# the name ends with _workspace.
FUNCTIONS = {
    "tmgan_blur": "pppipiiiliiiiiip",
    "tmgan_sharpness_loss_workspace": "liii",
    "tmgan_sharpness_loss": "ppippppfiliiiiiiip",
    "tmgan_sharpness_loss_backward": "ppppliiiiiip",
    "tmgan_sharp_regions": "pppiliiiiip",
    "tmgan_norm_glu_workspace": "liiiiiii",
    "tmgan_norm_glu": "pppppfliiiiiiip",
    "tmgan_norm_glu_backward": "ppppppliiiiiiip",
    "tmgan_match_histogram_workspace": "liii",
    "tmgan_match_histogram": "pppppddiiliiiiiiiiiip",
    "tmgan_change_mask": "pppddffliiiiiiip",
}
_CTYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int32, "l": ctypes.c_int64, "f": ctypes.c_float, "d": ctypes.c_double}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The library, loaded and checked. Raises RuntimeError with the reason and the cure."""
    if not PATH.exists():
        raise RuntimeError(
            f"the CUDA C++ kernels are not built; run `{BUILD}` (needs {'g++' if INTERPRETED else 'nvcc'})"
        )
    try:
        loaded = ctypes.CDLL(str(PATH))
    except OSError as error:
        raise RuntimeError(f"{PATH} does not load: {error}; run `{BUILD}` on this machine") from None
    loaded.tmgan_error_string.restype = ctypes.c_char_p
    if loaded.tmgan_abi_version() != ABI_VERSION:
        raise RuntimeError(
            f"{PATH} has version {loaded.tmgan_abi_version()} of the interface, this package wants "
            f"{ABI_VERSION}; run `{BUILD}` again"
        )
    for name, parameters in FUNCTIONS.items():
        function = getattr(loaded, name)
        function.argtypes = [_CTYPES[letter] for letter in parameters]
        function.restype = ctypes.c_int64 if name.endswith("_workspace") else ctypes.c_int
    return loaded


@torch.compiler.assume_constant_result
def missing() -> str | None:
    """Why the library cannot be used, None if it can."""
    try:
        library()
    except RuntimeError as error:
        return str(error)
    return None


@cache
def _function(name: str):
    return getattr(library(), name)


def call(name: str, *arguments) -> None:
    """Call a function of the library; RuntimeError with its words if it refuses."""
    status = _function(name)(*arguments)
    if status:
        raise RuntimeError(f"{name}: {library().tmgan_error_string(status).decode()} (status {status})")


def workspace(name: str, x: Tensor, *arguments) -> Tensor:
    """What a function wants to have beside its results, from torch's allocator."""
    return torch.empty(_function(f"{name}_workspace")(*arguments), dtype=torch.uint8, device=x.device)


def aligned(x: Tensor) -> Tensor:
    """x, or a copy of it if it does not begin at a multiple of 16 bytes (a slice of a batch may not)."""
    return x if x.data_ptr() % 16 == 0 else x.clone()


def place(x: Tensor) -> tuple[int, int, int | None]:
    """dtype, device and stream for a call that works on x: the current stream of its device."""
    if not x.is_cuda:
        return DTYPES[x.dtype], 0, None
    # The private name costs a tenth of torch.cuda.current_stream; Triton and Inductor use it too.
    return DTYPES[x.dtype], x.device.index, torch._C._cuda_getCurrentRawStream(x.device.index)


@cache
def capability(device: torch.device) -> int:
    """10 * major + minor of a GPU; the host build has clusters, as a GPU from 90 on."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
