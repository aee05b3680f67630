"""Files of torch are looked at before torch opens them: what a small one may ask for."""

from __future__ import annotations

import io
import pickle
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tmgan.common.plain_pickle import Refused
from tmgan.common.torch_file import check_torch_file


def state() -> dict:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.zeros(4, 2)).sum().backward()
    optimiser.step()
    kinds = [torch.zeros(2, dtype=kind) for kind in (torch.bool, torch.uint8, torch.bfloat16, torch.int64)]
    return {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "more": (kinds, None, True, "x", 2**70),
    }


@pytest.mark.parametrize("present", [True, False], ids=["zip", "before 1.6"])
def test_what_torch_saves_of_plain_types_passes(tmp_path, present):
    torch.save(state(), tmp_path / "x.pt", _use_new_zipfile_serialization=present)
    check_torch_file(tmp_path / "x.pt")
    shared = torch.arange(8.0)
    torch.save(
        {"a": shared[:4], "b": shared, "c": [shared[::2]]}, tmp_path / "x.pt", _use_new_zipfile_serialization=present
    )
    check_torch_file(tmp_path / "x.pt")


def with_pickle(path: Path, program: bytes, **others: bytes) -> None:
    """A zip file of torch's with this program in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("x/data.pkl", program)
        for name, data in others.items():
            archive.writestr(f"x/data/{name}", data)


_STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\xff\xff\xff\x7ftQ."
_PROGRAMS = {
    "bytearray(2**31)": (b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "bytearray"),
    "torch.Tensor(2**31)": (b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R.", "torch.Tensor"),
    "a hash of 2**40 steps": (b"\x80\x02})" + b"q\0h\0\x86" * 40 + b"K\x01s.", "key of type tuple"),
    "a tree of 2**40 leaves": (b"\x80\x02)" + b"q\0h\0\x86" * 40 + b".", "the same parts"),
    "8 GB that are not there": (b"\x80\x02" + _STORAGE, "larger than what the file holds"),
    "a dictionary made of a text": (b"\x80\x02ccollections\nOrderedDict\nX\x02\0\0\0ab\x85R.", "other than pairs"),
    "a dictionary with a list as its key": (
        b"\x80\x02ccollections\nOrderedDict\n](](]K\x01ee\x85R.",
        "other than pairs",
    ),
    "a dictionary of the same pairs again and again": (
        b"\x80\x02(ccollections\nOrderedDict\nq\0](](X\x01\0\0\0aK\x01eq\1"
        + b"h\1" * 200
        + b"eq\2\x85R"
        + b"h\0h\2\x85R" * 9999
        + b"t.",
        "more copies than",
    ),
    "attributes": (b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\0\0\0aK\x01sb.", "attributes"),
}


@pytest.mark.parametrize(("program", "named"), _PROGRAMS.values(), ids=_PROGRAMS)
def test_a_small_file_gets_neither_memory_nor_time(tmp_path, program, named):
    start = time.process_time()
    with_pickle(tmp_path / "x.pt", program, **{"0": b"\0" * 8})
    with pytest.raises((ValueError, Refused), match=named):
        check_torch_file(tmp_path / "x.pt")
    assert time.process_time() - start < 5


def test_before_1_6_a_tensor_needs_its_bytes(tmp_path):
    """Torch reserved 2 TB of address space for such a file."""
    torch.save({"w": torch.zeros(2)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pth").read_bytes()
    changed, times = re.subn(rb"(cpuq.)K\x02", lambda found: found[1] + b"J\xff\xff\xff\x7f", data, flags=re.DOTALL)
    assert times == 1
    (tmp_path / "x.pth").write_bytes(changed)
    with pytest.raises(ValueError, match=r"its tensors need 8,589,934,588 bytes"):
        check_torch_file(tmp_path / "x.pth")


def _deflated(archive: zipfile.ZipFile, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo("x/data.pkl"), pickle.dumps(1), compress_type=zipfile.ZIP_DEFLATED)


def _twice(archive: zipfile.ZipFile, data: bytes) -> None:
    """A thousand names for the same bytes."""
    archive.writestr("x/data.pkl", pickle.dumps(1, 2))
    archive.writestr("x/data/0", data)
    first = archive.infolist()[-1]
    for number in range(1, 1000):
        entry = zipfile.ZipInfo(f"x/data/{number}")
        entry.header_offset, entry.CRC = first.header_offset, first.CRC
        entry.file_size = entry.compress_size = first.file_size
        archive.filelist.append(entry)


@pytest.mark.parametrize(("build", "named"), [(_deflated, "compressed"), (_twice, "upon each other")])
def test_an_archive_that_grows_is_refused(tmp_path, build: Callable, named):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        build(archive, b"\0" * 100_000)
    (tmp_path / "x.pt").write_bytes(out.getvalue())
    with pytest.raises(ValueError, match=named):
        check_torch_file(tmp_path / "x.pt")
