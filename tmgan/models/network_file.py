"""The files of networks: safetensors, with what they are as JSON. They may come from anywhere: read with care."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tmgan.common.files import write_atomically
from tmgan.common.json_text import parse_json
from tmgan.common.text import shown

_NAMES = {torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


def filled(build: Callable[[], nn.Module], tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """The network that a file's configuration describes, with the numbers of that file.

    It is built without memory first: a configuration of a few bytes may describe a network of any size.

    Raises:
        ValueError: numbers and configuration do not fit each other.
    """
    try:
        with torch.device("meta"):
            empty = build()
        _fill(empty, {key: value.to("meta") for key, value in tensors.items()}, path)
        module = build()
    except (ArithmeticError, IndexError, RuntimeError, TypeError) as error:  # sizes that no network has
        raise altered(path, f"its configuration describes no network ({error})") from None
    _fill(module, tensors, path)
    return module


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise altered(path, f"the numbers do not fit its own configuration ({error})") from None


def write_network(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write the bytes of `safetensors.torch.save`, which would hold up other threads: a training that goes on."""
    header: dict[str, Any] = {"__metadata__": {"tmgan": json.dumps(about)}}
    end, parts, order = 0, [], list(_NAMES)
    for name, tensor in sorted(tensors.items(), key=lambda item: (order.index(item[1].dtype), item[0])):
        parts.append(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the numbers

    def write(file: BinaryIO) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            file.write(part)

    write_atomically(path, write, 8 + len(text) + end)


def read_network(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by name, and what it says of them. ValueError with the remedy when it cannot be read."""
    if not path.exists():
        raise ValueError(f"There is no {path}. {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {})["tmgan"])
            if not isinstance(about, dict):
                raise ValueError("its metadata are of another form")
            return {k: file.get_tensor(k) for k in list(file.keys())}, about
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged or was not written by tmgan ({error}). {remedy}") from None


def entry(about: dict[str, Any], name: str, kind: type, path: Path) -> Any:
    """An entry of a file's metadata, of its kind; `of` is missing in files of earlier versions, and counts are not
    negative."""
    value = about.get(name, 0) if name == "of" else about.get(name)
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**63):
        raise altered(path, f"{name} is {shown(value)}")
    return value


def altered(path: Path, why: str) -> ValueError:
    """The error about a file whose parts do not fit each other."""
    return ValueError(f"{path} was altered, or written by another version of tmgan: {why}.")
