"""Speed of every operation: `pytest benchmarks/`. Each row of results is a test; conftest.py collects and writes them.

On a GPU the matrix of `cases.gpu_plan` (minutes), without one the few small cases of `cases.cpu_plan`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch._functorch.config as functorch_config

from benchmarks.kernels import cases, timer
from benchmarks.kernels.cases import OPERATIONS
from benchmarks.kernels.prepare import prepare_case

GPU = torch.cuda.is_available()
PLAN = cases.gpu_plan() if GPU else cases.cpu_plan()
ROWS = [(case, provider, which) for case, provider in PLAN for which in OPERATIONS[case.operation].passes]
HOST = cases.host_plan(PLAN, GPU)


@pytest.fixture(scope="module", autouse=True)
def settings():
    """One thread on the CPU, where the inputs are too small to share.

    And compiled functions that keep what their forward pass saved, for the timing of backward passes alone: otherwise
    torch lets the backward pass overwrite it.
    """
    threads = torch.get_num_threads()
    if not GPU:
        torch.set_num_threads(1)
    with functorch_config.patch(donated_buffer=False):
        yield
    torch.set_num_threads(threads)


def name(values: Sequence) -> str:
    return "-".join(map(str, values))


@pytest.mark.parametrize("row", HOST, ids=name)
def test_host_cost(row, benchmark, results):
    case, provider, which = row
    key = {"operation": case.operation, "pass": which, "provider": provider}
    with results.measuring(key, results.host), timer.on_stream():
        work = prepare_case(case, provider, 1)
        call = work.call(which)
        clock = timer.HostTimer(lambda: call(0))
        benchmark.pedantic(clock.round, rounds=timer.ROUNDS, warmup_rounds=0)
        results.add_host(key, clock.timing(), benchmark)


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_speed(row, benchmark, results):
    case, provider, which = row
    key = {**case.key(), "pass": which, "provider": provider}
    with results.measuring(key, results.rows):
        work = prepare_case(case, provider, 1 if results.only_compile else None)
        if results.only_compile:
            return  # the comparison with the definition compiled both passes
        clock = (timer.GraphTimer if GPU else timer.ProcessorTimer)(lambda: work.call(which), len(work.sets))
        benchmark.pedantic(clock.round, rounds=timer.ROUNDS, warmup_rounds=0)
        results.add(key, clock.timing(), cases.bytes_moved(case, which), benchmark)
