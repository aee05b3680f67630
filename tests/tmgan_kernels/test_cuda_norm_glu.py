"""instance_norm_glu by csrc/norm_glu.cu, on each of its routes: a block, a cluster, strips of either layout."""

import pytest
import torch

from tmgan_kernels import _native, instance_norm_glu

from .contract import DEVICE, GPU, KernelContract, assert_accurate
from .cuda import built, contract_in_cuda  # noqa: F401
from .test_instance_norm_glu import TestInstanceNormGLU as _Norm

# Triton's limits, which the tests of this class change, play no part here.
TestInstanceNormGLUInCuda = contract_in_cuda(
    _Norm,
    test_parity=KernelContract.test_parity,
    test_gradient_parity=KernelContract.test_gradient_parity,
    shapes=((1, 1, 1, 2), (1, 2, 5, 7), (2, 3, 4, 8), (2, 3, 3, 5, "channels_last"), (1, 40, 9, 3, "channels_last")),
)

LAST = torch.channels_last
ROUTES = {
    "cluster": (90, (1, 2, 133, 128), torch.contiguous_format),
    "strips of vectors": (80, (1, 2, 160, 129), torch.contiguous_format),
    "strips of values": (80, (1, 2, 35, 61), torch.contiguous_format),
    "interleaved vectors": (90, (2, 24, 31, 9), LAST),
    "more channels than a tile": (90, (1, 2 * 136, 5, 7), LAST),
    "interleaved values": (90, (1, 2 * 35, 7, 6), LAST),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("route", ROUTES)
def test_every_route(route, dtype, monkeypatch):
    """Of planes far from zero, where E[x^2] - E[x]^2 would be wrong."""
    sm, shape, layout = ROUTES[route]
    if GPU and _native.capability(DEVICE) < sm:
        pytest.skip("this GPU has no clusters")
    monkeypatch.setattr(_native, "capability", lambda device: sm)
    random = torch.Generator().manual_seed(6)
    x = torch.rand(shape, generator=random).add_(4).to(DEVICE, dtype).contiguous(memory_format=layout)
    cotangent = torch.rand((shape[0], shape[1] // 2, *shape[2:]), generator=random).to(DEVICE, dtype)
    results = []
    for impl, wide in (("cuda", dtype), ("eager", dtype), ("eager", torch.float64)):
        each = x.to(wide).requires_grad_()
        y = instance_norm_glu(each, impl=impl)
        results.append((y.detach(), *torch.autograd.grad(y, each, cotangent.to(wide))))
    for actual, low, exact in zip(*results, strict=True):
        assert_accurate(actual, low, exact, route)


def test_a_tensor_that_begins_anywhere():
    storage = torch.rand(1 + 2 * 4 * 4 * 4, generator=torch.Generator().manual_seed(7)).to(DEVICE)
    x = storage[1:].view(2, 4, 4, 4)
    assert x.data_ptr() % 16
    torch.testing.assert_close(instance_norm_glu(x, impl="cuda"), instance_norm_glu(x, impl="eager"))
