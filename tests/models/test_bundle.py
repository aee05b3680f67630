"""Networks in files from anywhere: what a file says of itself must fit what it holds, before memory is taken for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from tests.conftest import write_run
from tests.fuzz.targets import join_safetensors, split_safetensors
from tmgan.models import network_file
from tmgan.models.bundle import load_encoders, load_generator


@pytest.fixture
def run(tiny, encoders, tmp_path) -> Path:
    return write_run(tmp_path / "a", tiny, encoders)


def change(path: Path, how: Callable[[dict], Any]) -> None:
    """Change what a file says of itself, in place or by what `how` returns."""
    header, body = split_safetensors(path.read_bytes())
    table = json.loads(header)
    about = json.loads(table["__metadata__"]["tmgan"])
    changed = how(about)
    table["__metadata__"]["tmgan"] = json.dumps(about if changed is None else changed)
    path.write_bytes(join_safetensors(json.dumps(table).encode(), body))


HUGE = 10**7  # as a width: 400 TB of numbers


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda about: about["encoder"].update(dim=HUGE), "do not fit its own configuration"),
        (lambda about: about["encoder"].update(width=HUGE), "do not fit its own configuration"),
        (lambda about: about["encoder"].update(word_dim=10**30), "altered"),
        (lambda about: about.update(vocabulary=[f"w{n}" for n in range(9)]), "a vocabulary starts with"),
        (lambda about: about.update(vocabulary=[1]), "its vocabulary holds what are no words"),
        (lambda about: about.update(vocabulary={}), "vocabulary is {}"),
        (lambda about: about.update(image_size="64"), "image_size is '64'"),
        (lambda about: about.update(images=-1), "images is -1"),
        (lambda about: about.update(encoder=None), "encoder is None"),
        (lambda about: about.pop("weights") and None, "weights is None"),
        (lambda about: [about], "its metadata are of another form"),
    ],
)
def test_encoders_that_were_altered_are_refused(run, how, message):
    start = time.process_time()
    change(run / "encoders.safetensors", how)
    with pytest.raises(ValueError, match="encoders.safetensors|vocabulary") as error:
        load_encoders(run)
    assert message in str(error.value)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda about: about["config"]["model"].update(g_width=HUGE), "do not fit its own configuration"),
        (lambda about: about["config"]["model"].update(g_width=2**62), "altered"),
        (lambda about: about.update(config=[]), "config is []"),
        (lambda about: about.update(images="8"), "images is '8'"),
        (lambda about: about.update(vocabulary_hash=None), "vocabulary_hash is None"),
    ],
)
def test_a_generator_that_was_altered_is_refused(run, encoders, how, message):
    change(run / "generator.safetensors", how)
    with pytest.raises(ValueError, match="generator.safetensors") as error:
        load_generator(run, encoders)
    assert message in str(error.value)


@pytest.mark.parametrize("length", [2**63, 2**40, 10])
def test_a_header_of_any_length_is_refused(run, length):
    data = (run / "encoders.safetensors").read_bytes()
    (run / "encoders.safetensors").write_bytes(length.to_bytes(8, "little") + data[8:])
    with pytest.raises(ValueError, match="is damaged or was not written by tmgan"):
        load_encoders(run)


def test_metadata_that_are_nested_deeply_are_refused(run):
    header, body = split_safetensors((run / "encoders.safetensors").read_bytes())
    table = json.loads(header) | {"__metadata__": {"tmgan": "[" * 100_000}}
    (run / "encoders.safetensors").write_bytes(join_safetensors(json.dumps(table).encode(), body))
    with pytest.raises(ValueError, match="nested too deeply"):
        load_encoders(run)


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
    network_file.write_network(tmp_path / "file", tensors, {"größe": 1})
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    about = network_file.read_network(tmp_path / "file", "")[1]
    assert about == {"größe": 1}
    assert (tmp_path / "file").read_bytes() == save(plain, metadata={"tmgan": '{"gr\\u00f6\\u00dfe": 1}'})
    assert all(torch.equal(tensor, plain[name]) for name, tensor in load_file(tmp_path / "file").items())


def test_a_network_of_other_numbers_is_no_silent_mistake(tmp_path):
    with pytest.raises(ValueError, match="bool"):
        network_file.write_network(tmp_path / "file", {"a": torch.tensor(True)}, {})
