"""`tmgan bench`: the table a user sees, and what it refuses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tmgan.cli import main
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import RuntimeConfig
from tmgan.training import bench
from tmgan.training.bench import components, gflop
from tmgan_kernels import _dispatch


def test_the_table_has_the_step_and_its_parts(capsys):
    main("bench --batch 2 --seconds 0 --engines eager --runtime.device cpu --runtime.threads 1".split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Preset quickstart, batch 2, 64 pixels, on cpu")
    numbers = {line[:24].strip(): line[24:].split() for line in lines[2:-1]}
    assert float(numbers["eager"][0]) > 0 and numbers["eager"][-1].endswith("%")
    assert {"generate", "discriminator loss", "generator backward"} <= numbers.keys()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--batch 1", "need 2 or more"),
        ("--engines graphed", "need a GPU"),
        ("--preset nonsense", "nonsense"),
        ("--engines fast", "compiled"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_measured(flags, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(f"bench --runtime.device cpu {flags}".split())
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err and "images/s" not in printed.out


def test_parts_called_in_order_are_a_step_and_all_its_work():
    """The same weights after one step, whole or in parts; and no part of the work is counted twice or missed."""
    config = dataclasses.replace(configfile.from_preset("quickstart"), batch=2)
    runtime = decide(RuntimeConfig(device="cpu", threads=1))
    whole, parted = (bench.synthetic_step(config, runtime) for _ in range(2))
    whole.step(whole.batch, 0)
    parted.step._weight.copy_(whole.step._weight)
    for _, part in components(parted.step, parted.batch):
        part()
    for one, two in zip(whole.step.ema.parameters(), parted.step.ema.parameters(), strict=True):
        assert torch.equal(one, two)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        whole.step(whole.batch, 2)
    assert sum(gflop(parted.step, parted.batch).values()) == pytest.approx(counter.get_total_flops() / 2 / 1e9)


@pytest.mark.parametrize(("engine", "means"), [("eager", {"": "eager"}), ("compiled", {})])
def test_a_part_takes_the_operations_that_its_step_takes(engine, means):
    """The eager step runs the definitions; its parts, timed alone, must too."""
    config = dataclasses.replace(configfile.from_preset("quickstart"), batch=2)
    runtime = dataclasses.replace(decide(RuntimeConfig(device="cpu", threads=1)), engine=engine)
    synthetic = bench.synthetic_step(config, runtime, backend="eager")
    seen, average = [], synthetic.step.average
    synthetic.step.average = lambda share: (seen.append(dict(_dispatch._preferred)), average(share))
    synthetic.step(synthetic.batch, 0)
    for _, part in components(synthetic.step, synthetic.batch):
        part()
    assert seen == [means, means]
