"""The eager kernels against definitions written out with loops or float64, and the contract all kernels share."""

import itertools

import pytest
import torch
from tmgan_kernels import gather_crop, instance_norm_glu, masked_mae


def _batch(seed=0, tiles=5, edge=12, channels=3, batch=7, size=8):
    draw = torch.Generator().manual_seed(seed)
    return {
        "tiles": torch.randint(0, 256, (tiles, edge, edge, channels), generator=draw, dtype=torch.uint8),
        "index": torch.randint(0, tiles, (batch,), generator=draw),
        "top": torch.randint(0, edge - size + 1, (batch,), generator=draw),
        "left": torch.randint(0, edge - size + 1, (batch,), generator=draw),
        "flip": torch.arange(batch) % 2 == 0,
        "size": size,
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_gather_crop_equals_slicing(channels, value_range):
    low, high = value_range
    batch = _batch(channels=channels)
    crops = gather_crop(**batch, value_range=value_range)
    assert crops.dtype == torch.float32
    assert crops.shape == (7, channels, 8, 8)
    for i in range(7):
        top, left = batch["top"][i], batch["left"][i]
        crop = batch["tiles"][batch["index"][i], top : top + 8, left : left + 8]
        if batch["flip"][i]:
            crop = crop.flip(1)
        wanted = crop.permute(2, 0, 1).double() * (high - low) / 255 + low
        torch.testing.assert_close(crops[i].double(), wanted, rtol=0, atol=1e-6 * (high - low))


def test_gather_crop_is_channels_last():
    assert gather_crop(**_batch()).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (-0.7, 0.3)])
def test_gather_crop_maps_the_ends_exactly(value_range):
    tiles = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    zero = torch.zeros(2, dtype=torch.int64)
    ends = gather_crop(tiles, torch.arange(2), zero, zero, torch.zeros(2, dtype=torch.bool), 1, value_range)
    assert ends.flatten().tolist() == torch.tensor(value_range).tolist()


def test_gather_crop_refuses_what_it_cannot_mean():
    batch = _batch()
    with pytest.raises(ValueError, match="uint8"):
        gather_crop(**{**batch, "tiles": batch["tiles"].float()})
    with pytest.raises(ValueError, match="does not fit"):
        gather_crop(**{**batch, "size": 13})
    with pytest.raises(IndexError):
        gather_crop(**{**batch, "top": batch["top"] + 5})


def _definition(x, eps=1e-5):
    x = x.double()
    mean = x.mean((2, 3), keepdim=True)
    variance = (x - mean).square().mean((2, 3), keepdim=True)
    value, gate = ((x - mean) / (variance + eps).sqrt()).chunk(2, dim=1)
    return value * torch.sigmoid(gate)


def _planes(dtype=torch.float32, memory_format=torch.contiguous_format, shape=(3, 8, 5, 7)):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 + 3
    return x.to(dtype=dtype, memory_format=memory_format)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # A half-precision result differs by its own rounding only (half a unit in the last place): the work is in fp32.
    [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 2**-8), (torch.float16, 2**-11)],
)
def test_instance_norm_glu_equals_its_definition(dtype, tolerance, memory_format):
    x = _planes(dtype, memory_format)
    y = instance_norm_glu(x)
    assert y.dtype == dtype
    assert y.shape == (3, 4, 5, 7)
    assert y.is_contiguous(memory_format=memory_format)
    wanted = _definition(x)
    torch.testing.assert_close(y.double(), wanted, rtol=tolerance, atol=tolerance)


def test_instance_norm_glu_has_no_large_offset_error():
    x = _planes() + 1000.0
    torch.testing.assert_close(instance_norm_glu(x).double(), _definition(x), rtol=0, atol=2e-4)


def test_instance_norm_glu_of_a_constant_plane_is_zero_but_for_rounding():
    x = torch.full((1, 4, 6, 6), 5.0, requires_grad=True)
    y = instance_norm_glu(x)
    assert y.abs().max() <= 5.0 / 1e-5**0.5 * 2**-23  # one rounding of x, magnified by 1 / sqrt(eps)
    y.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_glu_gradient(memory_format):
    x = _planes(torch.float64, memory_format, (2, 4, 3, 3)).requires_grad_()
    assert torch.autograd.gradcheck(instance_norm_glu, (x,))


def test_instance_norm_glu_refuses_odd_channels():
    with pytest.raises(ValueError, match="even"):
        instance_norm_glu(torch.zeros(1, 3, 4, 4))


def _call(operation, impl):
    return gather_crop(**_batch(), impl=impl) if operation == "gather_crop" else instance_norm_glu(_planes(), impl=impl)


@pytest.mark.parametrize("operation", ["gather_crop", "instance_norm_glu"])
def test_implementation_is_chosen_as_asked(operation):
    assert torch.equal(_call(operation, "auto"), _call(operation, "eager"))
    for impl in ("triton", "cuda"):
        with pytest.raises(RuntimeError, match=f"{impl} implementation does not exist yet"):
            _call(operation, impl)
    with pytest.raises(ValueError, match="not an implementation"):
        _call(operation, "fast")


# ------------------------------------------------------------ masked_mae


def test_masked_mae_equals_its_definition():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 5, 7, generator=random, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(2, 1, 5, 7, generator=random) > 0.4
    expected = 0.0
    for n, c, y, x in itertools.product(*map(range, a.shape)):
        expected += abs(a[n, c, y, x] - b[n, c, y, x]) * mask[n, 0, y, x]
    torch.testing.assert_close(masked_mae(a, b, mask), 25.0 * expected / a.numel())
    a.requires_grad_()
    masked_mae(a, b, mask).backward()
    assert ((a.grad != 0) == mask.expand_as(a)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masked_mae_is_wide_for_half_precision(dtype):
    a, b = torch.zeros(1, 3, 64, 64, dtype=dtype), torch.full((1, 3, 64, 64), 0.1, dtype=dtype)
    loss = masked_mae(a, b, torch.ones(1, 1, 64, 64), alpha=1.0)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(float(b[0, 0, 0, 0]), rel=1e-6)


def test_masked_mae_refuses_other_shapes():
    image = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match="equal"):
        masked_mae(image, image, torch.ones(1, 3, 4, 4))
    with pytest.raises(RuntimeError, match="does not exist yet"):
        masked_mae(image, image, torch.ones(1, 1, 4, 4), impl="triton")
