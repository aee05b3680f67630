"""`tmgan bench --profile FILE`: the trace, the table, and what is refused before anything runs."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace

import pytest
from torch.autograd import DeviceType

from tests.training.test_parts import NAMES
from tmgan.cli import main
from tmgan.training.profile import ELSEWHERE, rows, table

BENCH = "bench --batch 2 --runtime.device cpu --runtime.threads 1".split()


@pytest.mark.parametrize(("name", "read"), [("trace.json", open), ("trace.json.gz", gzip.open)])
def test_a_trace_and_a_table_of_the_parts(name, read, tmp_path, capsys):
    main([*BENCH, "--profile", str(tmp_path / name)])
    with read(tmp_path / name) as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert {"generate", "discriminator backward", "average", "aten::mkldnn_convolution"} <= names
    assert [path.name for path in tmp_path.iterdir()] == [name]
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("       ms   share   calls")
    parts = [line.split() for line in lines[begin + 1 : -1] if not line[17:25].strip()]  # they have no calls
    assert [" ".join(part[2:]) for part in parts] == NAMES
    assert sum(float(part[1].rstrip("%")) for part in parts) == pytest.approx(100, abs=0.5)
    assert sum("convolution" in line for line in lines) >= 5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--profile {}/trace.txt", "written as .json or .json.gz"),
        ("--profile {}/none/trace.json", "there is no folder"),
        ("--profile {}/folder.json", "is a folder"),
        ("--profile {}/trace.json --engines eager compiled", "one engine, not eager and compiled"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_runs(flags, message, tmp_path, capsys, monkeypatch):
    (tmp_path / "folder.json").mkdir()
    monkeypatch.setattr("tmgan.training.bench.synthetic_step", None)
    with pytest.raises(SystemExit) as ended:
        main([*BENCH, *flags.format(tmp_path).split()])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def event(name: str, start: float, end: float, kernels=(), part: bool = False, device=DeviceType.CPU):
    launched = [SimpleNamespace(name=each, duration=duration) for each, duration in kernels]
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=start, end=end),
        kernels=launched,
        is_user_annotation=part,
        device_type=device,
        self_cpu_time_total=end - start,
    )


def test_kernels_of_a_gpu_belong_to_the_part_that_launched_them():
    """By time, because a GPU's backward pass has a thread of its own; the kernels run later than they are launched."""
    events = [
        event("generate", 0, 10, part=True),
        event("aten::conv", 1, 2, [("conv_kernel", 30.0), ("conv_kernel", 10.0)]),
        event("backward", 10, 20, part=True),
        event("backward", 40, 90, part=True, device=DeviceType.CUDA),
        event("ConvBackward", 12, 13, [("conv_kernel", 50.0)]),
        event("aten::copy", 25, 26, [("copy", 10.0)]),
    ]
    found = rows(events, ["generate", "backward"], on_gpu=True)
    assert found == [
        ("backward", "conv_kernel", 50.0, 1),
        ("generate", "conv_kernel", 40.0, 2),
        (ELSEWHERE, "copy", 10.0, 1),
    ]
    lines = [line.split() for line in table(found, ["generate", "backward"], steps=1)]
    assert lines[1:3] == [["0.04", "40.0%", "generate"], ["0.04", "40.0%", "2.0", "conv_kernel"]]
    assert " ".join(lines[-2]).endswith(ELSEWHERE)
