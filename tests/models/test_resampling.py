"""tmgan.models.resampling: torch's values, torch's gradients, and nothing for a compiler to scatter."""

from __future__ import annotations

import pytest
import torch
import torch._inductor.lowering
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._functorch.aot_autograd import aot_module_simplified
from torch._inductor.decomposition import select_decomp_table

from tmgan.models import resampling
from tmgan.models.precision import at_least_float32
from tmgan.models.resampling import mean3, nearest_doubling


def max_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """What a compiler gets."""
    return resampling._MaxPool.apply(x, kernel, stride)


def bilinear_resize(x: Tensor, size: int) -> Tensor:
    return resampling._BilinearResize.apply(x, size)


CASES = {
    "doubling": (nearest_doubling, lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), (2, 3, 5, 4)),
    "pool 2, 2": (lambda x: max_pool(x, 2, 2), lambda x: F.max_pool2d(x, 2), (2, 3, 8, 6)),
    "pool 2, 2, odd": (lambda x: max_pool(x, 2, 2), lambda x: F.max_pool2d(x, 2), (1, 2, 7, 9)),
    "pool 3, 2": (lambda x: max_pool(x, 3, 2), lambda x: F.max_pool2d(x, 3, 2), (2, 3, 9, 11)),
    "pool 3, 2, even": (lambda x: max_pool(x, 3, 2), lambda x: F.max_pool2d(x, 3, 2), (2, 3, 8, 10)),
    "pool 5, 2": (lambda x: max_pool(x, 5, 2), lambda x: F.max_pool2d(x, 5, 2), (1, 2, 12, 11)),
    "mean 3": (mean3, lambda x: F.avg_pool2d(x, 3, stride=1, padding=1), (2, 3, 5, 4)),
    "mean 3, small": (mean3, lambda x: F.avg_pool2d(x, 3, stride=1, padding=1), (1, 2, 2, 2)),
    "larger": (lambda x: bilinear_resize(x, 13), lambda x: resized(x, 13), (2, 3, 9, 11)),
    "a little larger": (lambda x: bilinear_resize(x, 299), lambda x: resized(x, 299), (1, 1, 256, 256)),
    "much larger": (lambda x: bilinear_resize(x, 31), lambda x: resized(x, 31), (1, 2, 4, 3)),
    "smaller": (lambda x: bilinear_resize(x, 4), lambda x: resized(x, 4), (1, 2, 11, 9)),
    "as it is": (lambda x: bilinear_resize(x, 6), lambda x: resized(x, 6), (1, 2, 6, 6)),
}


def resized(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def picture(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """With many equal values: which of several maxima gets the gradient is part of the definition."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(3).round().div(3)
    return values.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_layout_and_gradients_are_torchs(case, dtype):
    ours, torchs, shape = CASES[case]
    x = picture(shape, dtype)
    one, two = ours(x), torchs(x)
    assert torch.equal(one, two) and one.stride() == two.stride() and one.dtype == dtype
    weights = torch.randn(two.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    weights = weights.contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(one, x, weights)
    assert gradient.dtype == dtype and gradient.is_contiguous(memory_format=torch.channels_last)
    exact = at_least_float32(x.detach()).requires_grad_()  # torch adds up bf16 gradients in bf16 on a CPU
    (expected,) = torch.autograd.grad(torchs(exact), exact, weights.to(exact.dtype))
    torch.testing.assert_close(gradient, expected.to(dtype))


@pytest.mark.parametrize("case", ["doubling", "pool 3, 2", "mean 3", "larger"])
def test_gradients_have_gradients(case):
    ours, _, shape = CASES[case]
    x = torch.randn(1, 2, *shape[2:], dtype=torch.float64, requires_grad=True)  # no two equal: a maximum has a corner
    assert torch.autograd.gradgradcheck(lambda x: ours(x) * ours(x), x)


@pytest.mark.parametrize("case", ["doubling", "pool 2, 2", "pool 3, 2", "a little larger"])
def test_a_compiler_finds_nothing_to_scatter(case):
    """Inductor turns a scatter into float atomics, also those in torch's own derivatives: why these exist."""
    _, torchs, shape = CASES[case]
    graphs = []

    def remember(graph, inputs):
        graphs.append(graph)
        return make_boxed_func(graph)

    def backend(graph, inputs):
        return aot_module_simplified(graph, inputs, fw_compiler=remember, decompositions=select_decomp_table())

    def scatters(function) -> bool:
        torch._dynamo.reset()
        graphs.clear()
        torch.compile(function, backend=backend, fullgraph=True)(picture(shape, torch.float32)).sum().backward()
        assert len(graphs) == 2
        return any(name in str(node.target) for node in graphs[1].graph.nodes for name in ("index_put", "scatter"))

    public = {
        "doubling": nearest_doubling,
        "pool 2, 2": lambda x: resampling.max_pool(x, 2, 2),
        "pool 3, 2": lambda x: resampling.max_pool(x, 3, 2),
        "a little larger": lambda x: resampling.bilinear_resize(x, 299),
    }
    assert not scatters(public[case])
    if not case.startswith("pool"):  # a scatter in the newest torch only
        assert scatters(torchs)
