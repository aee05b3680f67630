"""Read a `.pth` file of unknown origin: a plain state dict of dense float32 tensors, or a refusal in a sentence.

Nothing that a file contains is run (`weights_only=True`), and no tensor is taken that is larger than what it holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmgan.common.plain_pickle import Refused
from tmgan.common.torch_file import check_torch_file

_PARALLEL = "module."  # what DataParallel puts before every name


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a file, in torch's present format or the one before 1.6.

    Raises:
        ValueError: the file is missing, truncated, asks for code to be run, or holds something else than a state dict
            of finite float32 tensors (and int64 counters).
    """
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder: name the files in it' if path.is_dir() else 'missing'}.")
    try:
        check_torch_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Refused as error:
        if "GLOBAL" not in str(error):
            raise ValueError(_damaged(path, _beginning(path) or f"it asks for {error}")) from None
        raise ValueError(
            f"{path} is refused: it is not a plain state dict (it asks for {str(error)[:200]}). Weights need no "
            "code; do not load it by other means either, and get it again from where it was published."
        ) from None
    except Exception as error:  # a damaged file raises nearly anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = _beginning(path) or lines[0].split(". ")[0][:200].rstrip(". ")
        raise ValueError(_damaged(path, why)) from None
    if isinstance(state, dict) and {"format", "task"} <= state.keys():
        raise ValueError(f"{path} is a checkpoint of tmgan: its run edits as it is, and is trained on with --from.")
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        raise ValueError(f"{path} is no state dict, tensors by name, but of type {_kind_of(state)}.")
    for key, value in state.items():
        problem = _problem(value)
        if problem:
            raise ValueError(f"{path}: {key!r} {problem}.")
    if all(key.startswith(_PARALLEL) for key in state):
        return {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    return dict(state)


def _problem(value: Any) -> str:
    """Why an entry is no tensor of a published network; "" if it is one."""
    if not isinstance(value, Tensor):
        return f"is of type {_kind_of(value)}, not a tensor: it is no state dict, or more than one"
    if value.dtype not in (torch.float32, torch.int64):
        return f"is a tensor of {value.dtype}; the published networks are of torch.float32"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"claims to have {value.numel():,} numbers, more than the file holds"
    if value.is_floating_point() and not torch.isfinite(value).all():
        return "holds numbers that are not finite"
    return ""


def _beginning(path: Path) -> str:
    """What a file that is none of torch's seems to be; "" if that cannot be told."""
    with open(path, "rb") as file:
        start = file.read(16).lstrip().lower()
    if start.startswith(b"<"):
        return "it is a web page, as some servers send in place of a large file"
    if start.startswith(b"\x1f\x8b"):
        return "it is an archive: unpack it"
    return ""


def _kind_of(value: Any) -> str:
    return f"{'empty ' if isinstance(value, dict) and not value else ''}{type(value).__name__}"


def _damaged(path: Path, why: str) -> str:
    return f"{path} is truncated, damaged, or no file of torch ({why}). Get it again."
