"""In a bf16 run the products left in fp32 may be TF32's: that loses nothing beside bf16's own errors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training import steps
from tmgan.losses.matching import words_loss

PRODUCTS = {
    torch.ops.aten.mm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.baddbmm.default,
}


def rounded(x: Tensor) -> Tensor:
    """fp32 with 10 explicit bits of the mantissa, to nearest, ties away: what a TF32 product makes of its factors."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


class TF32(TorchDispatchMode):
    """Products of fp32 tensors as the GPU's matrix units take them. changed: shares of factors that were rounded."""

    def __init__(self):
        super().__init__()
        self.changed: list[float] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in PRODUCTS and args[-1].dtype == torch.float32:
            factors = [rounded(x) for x in args[-2:]]
            self.changed += [(a != b).double().mean().item() for a, b in zip(args[-2:], factors, strict=True)]
            args = (*args[:-2], *factors)
        return function(*args, **(kwargs or {}))


def test_rounding_is_tf32s():
    one = torch.ones(())
    eps = 2.0**-10
    for given, expected in (
        (1 + eps, 1 + eps),
        (1 + eps / 2, 1 + eps),
        (1 + eps / 2 - 2.0**-20, 1),
        (-3 * eps, -3 * eps),
    ):
        assert rounded(one * given).item() == expected


def test_the_factors_of_the_first_product_of_the_words_loss_are_exact():
    """bf16 regions (8 bits) and words stored as fp16 (11 bits) both fit: that product is fp32's, at any batch."""
    regions = torch.randn(3, 16, 4, 4).bfloat16()
    words = torch.rand(3, 16, 5).mul(2).sub(1).half()
    with TF32() as tf32:
        words_loss(regions, words, torch.zeros(3, 5, dtype=torch.bool))
    assert tf32.changed[:2] == [0, 0] and max(tf32.changed) > 0.5


def test_a_bf16_step_errs_no_more_with_tf32():
    """The rule of agreement, against float64: losses to 2e-2, gradients at most twice as far off as with fp32."""

    def bf16_step():
        step, batch = steps.make("lightweight", precision="bf16")
        step.objective.captions.words = step.objective.captions.words.half().float()
        return step, batch

    step, batch = steps.in_double(*bf16_step())
    step.objective.runtime = steps.make("lightweight")[0].runtime  # without autocast
    exact = steps.losses_and_gradients(step, batch)
    plain = steps.losses_and_gradients(*bf16_step())
    with TF32() as tf32:
        losses, gradients = steps.losses_and_gradients(*bf16_step())
    assert len(tf32.changed) > 10 and max(tf32.changed) > 0.5, "no product was rounded"
    for name, loss in losses.items():
        torch.testing.assert_close(loss.double(), exact[0][name], rtol=2e-2, atol=1e-3, msg=name)
    for name, gradient in gradients.items():
        error, plain_error = ((x.double() - exact[1][name]).norm() for x in (gradient, plain[1][name]))
        assert error <= 2 * plain_error, (name, error, plain_error)
