"""A file of weights from anywhere is a plain state dict, or a sentence."""

import gzip
import io
import os
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from tests.old_torch import old_file
from tmgan.published.state_file import read_state

STATE = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.num_batches_tracked": torch.tensor(3)}


@pytest.mark.parametrize("present", [True, False], ids=["zip", "before 1.6"])
def test_both_formats_of_torch_are_read(tmp_path, present):
    torch.save(STATE, tmp_path / "x.pth", _use_new_zipfile_serialization=present)
    state = read_state(tmp_path / "x.pth")
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], value) and state[key].dtype == value.dtype for key, value in STATE.items())


def test_a_file_of_python_2_and_of_torch_before_0_4_is_read(tmp_path):
    """As those of AttnGAN's time: torch's own reader reads them too."""
    state = OrderedDict(STATE)
    state._metadata = OrderedDict([("", {"version": 1}), ("layer", {"version": 2})])
    data = old_file(state)
    assert b"_rebuild_tensor\n" in data and b"U\x0clayer.weight" in data and b"OrderedDict\nq\x00]" in data
    (tmp_path / "x.pth").write_bytes(data)
    found = read_state(tmp_path / "x.pth")
    assert [*found] == [*STATE] and all(torch.equal(found[key], value) for key, value in STATE.items())


def test_the_prefix_of_parallel_training_is_taken_off(tmp_path):
    torch.save({f"module.{key}": value for key, value in STATE.items()}, tmp_path / "x.pth")
    assert read_state(tmp_path / "x.pth").keys() == STATE.keys()


class Hostile:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("form", ["zip", "before 1.6", "pickle"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, form):
    path, witness = tmp_path / "x.pth", tmp_path / "witness"
    content = {"layer.weight": torch.zeros(2), "extra": Hostile(witness)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content["extra"], protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match=r"x\.pth is refused: it is not a plain state dict .*system"):
        read_state(path)
    assert not witness.exists()


def damaged(tmp_path, change) -> str:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    (tmp_path / "x.pth").write_bytes(change(buffer.getvalue()))
    with pytest.raises(ValueError) as error:
        read_state(tmp_path / "x.pth")
    return str(error.value)


@pytest.mark.parametrize(
    "change",
    [lambda data: data[: len(data) // 2], lambda data: data[:10], lambda data: b"", lambda data: b"<html>404</html>"],
    ids=["half", "ten bytes", "empty", "a web page"],
)
def test_a_broken_file_is_refused(tmp_path, change):
    message = damaged(tmp_path, change)
    assert "x.pth is truncated, damaged, or no file of torch" in message
    assert "weights_only" not in message, "torch advises to switch it off"


def test_a_web_page_and_an_archive_are_called_so(tmp_path):
    """Some servers send a page in place of a large file."""
    assert "it is a web page" in damaged(tmp_path, lambda data: b"<!DOCTYPE html><html>")
    assert "it is an archive: unpack it" in damaged(tmp_path, lambda data: gzip.compress(data))


def test_a_byte_that_changed_is_noticed(tmp_path):
    weight = STATE["layer.weight"].numpy().tobytes()
    assert "checksum" in damaged(tmp_path, lambda data: data.replace(weight, b"\1" + weight[1:]))


def test_a_compressed_archive_is_refused(tmp_path):
    """It might grow without bounds."""

    def compress(data):
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.namelist():
                new.writestr(entry, old.read(entry))
        return out.getvalue()

    assert "compressed" in damaged(tmp_path, compress)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "is no state dict, tensors by name, but of type list"),
        ({}, "of type empty dict"),
        ({1: torch.zeros(1)}, "is no state dict"),
        (torch.zeros(3), "of type Tensor"),
        ({"format": 1, "task": {}}, "is a checkpoint of tmgan"),
        ({"epoch": 3}, "'epoch' is of type int, not a tensor"),
        ({"w": torch.zeros(2, dtype=torch.float16)}, "'w' is a tensor of torch.float16"),
        ({"w": torch.eye(2).to_sparse()}, "it asks for GLOBAL torch._utils._rebuild_sparse_tensor"),
        ({"w": torch.tensor([1.0, float("nan")])}, "'w' holds numbers that are not finite"),
        ({"w": torch.zeros(1).expand(10**12)}, "'w' claims to have 1,000,000,000,000 numbers, more than the file"),
    ],
)
def test_what_is_not_the_weights_of_a_network_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth") as error:
        read_state(tmp_path / "x.pth")
    assert message in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is missing"):
        read_state(tmp_path / "x.pth")
    with pytest.raises(ValueError, match="a folder: name the files in it"):
        read_state(tmp_path)
