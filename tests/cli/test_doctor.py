"""`tmgan doctor` tells how to mend each thing that it finds missing."""

from __future__ import annotations

import shutil

import pytest
import torch

from tmgan.cli import main
from tmgan.common import machine
from tmgan.models import weights


def remedies(capsys) -> list[str]:
    main(["doctor"])
    return [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("->")]


def test_each_missing_file_has_a_command_that_fetches_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TMGAN_WEIGHTS", str(tmp_path / "my weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    said = remedies(capsys)
    for key, file in weights.KNOWN.items():
        assert (f"-> tmgan weights get {key}" in said) == (not file.extra), key
    main(["doctor", "--weights-dir", str(tmp_path / "it's mine")])
    assert "-> tmgan weights get fcn --weights-dir" in capsys.readouterr().out


def test_it_shows_what_the_command_for_weights_shows(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TMGAN_WEIGHTS", str(tmp_path))
    (tmp_path / weights.KNOWN["fcn"].name).write_bytes(b"half")
    main(["doctor"])
    doctor = capsys.readouterr().out
    main(["weights"])
    listing = capsys.readouterr().out.rpartition("Found by name")[0]
    assert "has 4 bytes" in listing and listing in doctor


def test_each_missing_package_has_its_extra(capsys, monkeypatch):
    monkeypatch.setattr(machine, "version", lambda name: "not installed")
    said = remedies(capsys)
    for extra in ("dali", "pretrained", "tb", "pos", "clip"):
        assert f"-> pip install 'tmgan[{extra}]'" in said


def test_a_missing_compiler(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert any("apt install g++" in line for line in remedies(capsys))


@pytest.mark.parametrize(
    "cuda, hidden, remedy",
    [
        (None, None, "-> there is an NVIDIA driver: install a torch with CUDA"),
        ("13.0", "", "-> CUDA_VISIBLE_DEVICES is empty and hides the GPUs"),
        ("13.0", None, "a driver for CUDA 13.0 or newer?"),
    ],
)
def test_a_gpu_that_torch_does_not_see(capsys, monkeypatch, cuda, hidden, remedy):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not any(remedy in line for line in remedies(capsys))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert any(remedy in line for line in remedies(capsys))
