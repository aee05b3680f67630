"""The files of networks are those of safetensors, though they are written without it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save

from tmgan.models import bundle


def test_the_bytes_are_those_of_safetensors(tmp_path):
    numbers = torch.arange(24.0).view(2, 3, 4)
    tensors = {
        "weight": numbers.mT,
        "a": torch.tensor(5),
        "half": numbers.bfloat16(),
        "other": numbers.half()[:, ::2],
        "none": numbers[:0],
        "exact": numbers.double(),
    }
    bundle._save(tmp_path / "file", tensors, {"größe": 1})
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    about = bundle._load(tmp_path / "file", "")[1]
    assert about == {"größe": 1}
    assert (tmp_path / "file").read_bytes() == save(plain, metadata={"tmgan": '{"gr\\u00f6\\u00dfe": 1}'})
    assert all(torch.equal(tensor, plain[name]) for name, tensor in load_file(tmp_path / "file").items())


def test_a_network_of_other_numbers_is_no_silent_mistake(tmp_path):
    with pytest.raises(ValueError, match="bool"):
        bundle._save(tmp_path / "file", {"a": torch.tensor(True)}, {})
