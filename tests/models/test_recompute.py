"""Layers that keep their inputs only: the same numbers, running statistics that move once, compiled too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tmgan.models.discriminator import Discriminator
from tmgan.models.layers import UpBlock, init_weights
from tmgan.models.recompute import again, keep_inputs_only


class Network(nn.Module):
    """A discriminator of what an UpBlock makes: batch and instance normalisation."""

    def __init__(self):
        super().__init__()
        self.up = nn.Sequential(UpBlock(4, 3))
        self.judge = Discriminator(16, 2, 4)

    def forward(self, x):
        features = self.judge(self.up(x))
        return self.judge.conditional(features, features[:, :4, 0, 0]).sum()


def outcome(network: nn.Module, x: torch.Tensor, **compiled) -> dict[str, torch.Tensor]:
    """The loss, all gradients and all buffers after one forward and backward pass."""
    x = x.clone().requires_grad_()
    loss = (torch.compile(network, fullgraph=True, dynamic=False, **compiled) if compiled else network)(x)
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), "x": x.grad, **gradients, **dict(network.named_buffers())}


@pytest.mark.parametrize("backend", ["", "aot_eager"])
def test_the_numbers_are_the_same_and_statistics_move_once(backend):
    torch._dynamo.reset()
    normal = Network().double()
    init_weights(normal, torch.Generator().manual_seed(0))
    low = copy.deepcopy(normal)
    keep_inputs_only(low)
    low = copy.deepcopy(low)  # a copy computes with its own weights
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    expected, found = outcome(normal, x), outcome(low, x, **({"backend": backend} if backend else {}))
    assert expected.keys() == found.keys() and {"judge.down.0.norm.running_mean", "up.0.conv.weight"} < found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-14, msg=name)
    assert found["judge.down.0.norm.num_batches_tracked"] == 1


def test_a_function_is_called_again_in_the_backward_pass_only():
    calls = []

    def square(x):
        calls.append(x)
        return x * x

    x = torch.tensor(3.0, requires_grad=True)
    y = again(square, x)
    assert len(calls) == 1
    y.backward()
    assert len(calls) == 2 and x.grad == 6
    with torch.no_grad():
        assert not again(square, x).requires_grad and len(calls) == 3
