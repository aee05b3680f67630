"""The statistics of every tensor of a step: that they are right, where each is said to be from, and what is bad."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tests.training import steps
from tmgan.models.recompute import again
from tmgan.training.diagnosis import lasting, table, verdict
from tmgan.training.intermediates import BEFORE, Intermediates
from tmgan.training.tensor_stats import Row


def recorded(function: Callable[[], Tensor], **parts: object) -> list[Row]:
    """The rows of a function whose result is a loss; `parts` are what a step would own."""
    with Intermediates(SimpleNamespace(**parts)) as seen:
        loss = function()
    seen.add_losses({"loss": loss.detach()})
    return seen.rows()


def only(rows: list[Row], operation: str) -> Row:
    (row,) = (row for row in rows if row.operation.endswith(operation))
    return row


def test_statistics_are_those_of_the_tensor():
    x = torch.tensor([[3.0, -4.0, 0.0], [math.nan, math.inf, -math.inf]])
    row = only(recorded(lambda: x * 1), "mul.Tensor")
    assert (row.shape, row.dtype, row.nan, row.inf, row.minus_inf) == ((2, 3), "float32", 1, 1, 1)
    assert (row.min, row.max, row.norm, row.magnitude) == (-4, 3, 5, 4)
    assert row.mean == pytest.approx(-1 / 3)
    assert not row.finite


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_norm_does_not_overflow_where_the_tensor_does_not(dtype):
    largest = torch.finfo(dtype).max / 2 if dtype != torch.float64 else 1e30
    row = only(recorded(lambda: torch.full((100,), largest, dtype=dtype) * 1), "mul.Tensor")
    assert row.norm == pytest.approx(10 * largest, rel=0.01)
    assert row.dtype == str(dtype).removeprefix("torch.")


def test_no_finite_value_has_no_range():
    row = only(recorded(lambda: torch.full((2,), math.nan) * 1), "mul.Tensor")
    assert (row.min, row.max, row.mean, row.norm) == (None, None, None, 0)


def test_a_tensor_is_seen_as_it_is_when_the_operation_returns():
    def step() -> Tensor:
        x = torch.ones(4)
        x.mul_(math.inf)
        x.zero_()
        return x.sum()

    rows = recorded(step)
    assert [only(rows, name).inf for name in ("ones", "mul_.Tensor", "zero_")] == [0, 4, 0]
    assert lasting(rows) == []


def test_views_and_memory_without_numbers_are_left_out():
    rows = recorded(lambda: torch.empty(3).fill_(1).view(3, 1).t().expand(2, 3).sum())
    assert [row.operation for row in rows] == ["aten.fill_.Scalar", "aten.sum", ""]
    assert rows[1].inputs == (rows[0].order,), "through the views"


def test_operations_have_their_modules_and_places_also_in_the_backward_pass():
    network = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 1)))
    adam = torch.optim.Adam(network.parameters(), fused=True)

    def step() -> Tensor:
        loss = network(torch.ones(2, 3)).square().sum()
        loss.backward()
        adam.step()
        return loss

    rows = recorded(step, network=network, adam=adam)
    assert [row.name for row in rows if row.part == BEFORE][:2] == ["network.0.weight", "network.0.bias"]
    assert only(rows, "aten.tanh").module == "network.1.0"
    backward = only(rows, "aten.tanh_backward")
    assert (backward.module, backward.kind, backward.part) == ("network.1.0", "backward", "backward")
    assert backward.operation.startswith("TanhBackward0: ")
    gradients = [row.name for row in rows if row.kind == "gradient"]
    assert sorted(gradients) == sorted(f"gradient of network.{name}" for name, _ in network.named_parameters())
    updated = [row.name for row in rows if row.operation == "aten._fused_adam_" and not row.name.endswith("]")]
    assert updated[:4] == [f"network.{name}" for name, _ in network.named_parameters()]
    assert {row.part for row in rows if row.operation == "aten._fused_adam_"} == {"update"}


def test_what_is_computed_again_is_said_to_be():
    network, x = nn.Linear(3, 3), torch.ones(2, 3)

    def step() -> Tensor:
        loss = again(lambda one: network(one).exp(), x.clone().requires_grad_(True)).sum()
        loss.backward()
        return loss

    rows = recorded(step, network=network)
    assert [row.kind for row in rows if row.operation == "aten.addmm"] == ["operation", "recomputed"]
    assert [row.module for row in rows if row.operation == "aten.addmm"] == ["network", "network"]


# What is bad.


def test_a_mask_of_padding_is_no_fault_and_a_softmax_of_nothing_but_padding_is():
    logits = torch.randn(2, 4, requires_grad=True)

    def step(mask: Tensor) -> Tensor:
        share = torch.softmax(logits.masked_fill(mask, -math.inf), 1)
        loss = share.square().sum()
        loss.backward()
        return loss

    padding = torch.tensor([[False, False, True, True], [False, True, True, True]])
    assert lasting(recorded(lambda: step(padding))) == []
    padding[1] = True
    rows = recorded(lambda: step(padding))
    first = lasting(rows)[0]
    assert first.operation == "aten._softmax"
    assert [rows[order].operation for order in first.inputs] == ["aten.masked_fill.Scalar"]


def test_an_overflow_beside_a_mask_is_a_fault():
    def step() -> Tensor:
        masked = torch.tensor([200.0, 1.0, 2.0]).masked_fill(torch.tensor([False, True, False]), -math.inf)
        return masked.exp().sum()

    rows = recorded(step)
    assert lasting(rows)[0].operation == "aten.exp"
    assert "--optim.lr-g" in list(verdict(rows, 0, 0))[-1] and "near 0" not in list(verdict(rows, 0, 0))[-1]


def test_infinities_that_are_meant_may_change_their_sign_and_be_dropped():
    def step() -> Tensor:
        masked = torch.tensor([3.0, 1.0]).masked_fill(torch.tensor([False, True]), -math.inf)
        return (-masked).clamp(max=5).sum()

    assert lasting(recorded(step)) == []


def test_zero_by_zero_that_is_replaced_is_no_fault():
    """The gradient of a norm at 0, as torch computes it."""
    x = torch.zeros(2, 3, requires_grad=True)

    def step() -> Tensor:
        loss = torch.linalg.vector_norm(x, dim=1).sum()
        loss.backward()
        return loss

    rows = recorded(step)
    assert sum(row.nan for row in rows) > 0
    assert lasting(rows) == []


def test_a_fault_of_the_backward_pass_alone():
    network = nn.Linear(2, 1, bias=False)
    nn.init.ones_(network.weight)

    def step() -> Tensor:
        loss = (network(torch.ones(1, 2)) * 0).sqrt().sum()
        loss.backward()
        return loss

    rows = recorded(step, network=network)
    first = lasting(rows)[0]
    assert first.kind == "backward"
    assert first.operation == "SqrtBackward0: aten.div.Tensor"
    assert first.inf == 1
    text = "\n".join(verdict(rows, 0, 0))
    assert "After it, 3 more tensors" in text and "may have come near 0" in text and "fp32" not in text


def test_memory_that_is_written_in_pieces_is_followed():
    def step() -> Tensor:
        x = torch.zeros(4)
        x[:2].div_(0.0)
        x[2:].add_(1)
        return x.sum()

    assert lasting(recorded(step))[0].operation == "aten.div_.Tensor"


def test_what_was_bad_before_the_step_is_said_to_be():
    network = nn.Linear(2, 1)
    with torch.no_grad():
        network.bias.fill_(math.inf)
    rows = recorded(lambda: network(torch.ones(1, 2)).sum(), network=network)
    first = lasting(rows)[0]
    assert (first.name, first.part) == ("network.bias", BEFORE)
    assert "--step 6" in list(verdict(rows, step=7, start=5))[-1]
    assert "checkpoint holds it" in list(verdict(rows, step=7, start=7))[-1]


# Steps of the product.


def low(config):
    return dataclasses.replace(config, memory="low")


def check_sound(name: str, **settings) -> list[Row]:
    """Recording changes no bit of a step, and finds nothing bad in it."""
    (step, batch), (plain, _) = (steps.make(name, **settings) for _ in range(2))
    for one in (step, plain):
        one(batch, 0)
    losses = plain(batch, 4)
    with Intermediates(step) as seen:
        found = step(batch, 4)
    seen.add_losses(found)
    assert found.keys() == losses.keys()
    assert all(torch.equal(found[key], losses[key]) for key in losses)
    for network in ("generator", "discriminator", "ema"):
        for key, value in getattr(plain, network).state_dict().items():
            assert torch.equal(value, getattr(step, network).state_dict()[key]), f"{network}.{key}"
    rows = seen.rows()
    assert lasting(rows) == []
    return rows


@pytest.mark.parametrize("preset", steps.PRESETS)
def test_a_sound_step_of_each_method(preset):
    rows = check_sound(preset)
    step, _ = steps.make(preset)
    assert [part for part in dict.fromkeys(row.part for row in rows) if part in dict(step.parts(None, {}))] == [
        name for name, _ in step.parts(None, {})
    ]
    trained = [f"gradient of generator.{n}" for n, p in step.generator.named_parameters() if p.requires_grad]
    trained += [f"gradient of discriminator.{n}" for n, _ in step.discriminator.named_parameters()]
    assert sorted(row.name for row in rows if row.kind == "gradient") == sorted(trained)
    assert "Nothing went bad" in "\n".join(verdict(rows, 1, 1))


def test_a_sound_step_in_bf16():
    rows = check_sound("lightweight", precision="bf16")
    assert {"bfloat16", "float32"} <= {row.dtype for row in rows}


def test_a_sound_step_with_little_memory():
    rows = check_sound("lightweight", change=low)
    assert any(row.kind == "recomputed" and row.module.startswith("generator.") for row in rows)


def test_the_table_counts_what_lasts_apart_from_masks():
    step, batch = steps.make("quickstart")
    with torch.no_grad():
        step.generator.get_parameter("photo_coarse.0.conv.weight").fill_(3e38)
    with Intermediates(step) as seen:
        seen.add_losses(step(batch, 0))
    rows = seen.rows()
    first = lasting(rows)[0]
    assert (first.module, first.part, first.kind) == ("generator.photo_coarse.0.conv", "generate", "operation")
    assert first.operation == "aten.convolution"
    (line,) = (line for line in table(rows).splitlines() if line.startswith("generate "))
    assert "generator.photo_coarse.0.conv" in line
