"""instance_norm_glu: the contract of all operations, every route through its kernels, torch.nn, and its properties."""

import sys

import pytest
import torch
from torch import nn

from tmgan_kernels.instance_norm_glu import backward_op, forward_op, instance_norm_glu, instance_norm_glu_eager, plan

from .contract import DEVICE, DTYPES, GPU, LAYOUTS, KernelContract, ids

MODULE = sys.modules[instance_norm_glu.__module__]
IMPLEMENTATIONS = ("eager", "triton")
# Limits so small that tiny planes take several steps of one program in NCHW, several strips in NHWC; then the reverse.
STEPS_AND_STRIPS = {"STEP": 2, "STRIP_NHWC": 2, "WHOLE_NHWC": 0}
STRIPS_AND_STEPS = {"STEP": 1, "STRIP_NCHW": 4, "WHOLE_NCHW": 0}
FEW_SHAPES = ((2, 2, 2, 9), (1, 2, 3, 4, "channels_last"))  # for STRIPS_AND_STEPS


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


class TestInstanceNormGLU(KernelContract):
    operation = instance_norm_glu
    preserves_layout = True
    # Shapes of the output. One pixel has no variance; two, one row, odd sizes, channels that fill no block, or two.
    shapes = ((1, 1, 1, 2), (1, 2, 5, 7), (2, 3, 3, 5, "channels_last"), (1, 20, 1, 3, "channels_last"))
    gpu_shapes = (
        (2, 32, 256, 256, "channels_last"),
        (4, 64, 32, 32, "channels_last"),
        (3, 32, 128, 128),
        (2, 4, 256, 255),
    )
    small = (2, 2, 3, 4)
    compiled_shapes = ((2, 256, 16, 16), (2, 32, 128, 128), (2, 32, 256, 256))

    @pytest.fixture(params=["miniature", "shipped"] if GPU else ["miniature"])
    def limits(self, request, monkeypatch):
        """The interpreter is too slow for planes that reach the limits as shipped."""
        for name, value in (STEPS_AND_STRIPS if request.param == "miniature" else {}).items():
            monkeypatch.setattr(MODULE, name, value)

    def inputs(self, shape, dtype, random):
        batch, channels, height, width, *layout = shape
        x = torch.rand((batch, 2 * channels, height, width), generator=random, dtype=torch.float64).mul_(2).sub_(1)
        return [channels_last(x.to(dtype)) if layout else x.to(dtype)]

    def operators(self, inputs):
        (x,) = inputs
        cuda = self.impl == "cuda"
        out, mean, rstd = forward_op(x, 1e-5, cuda)
        return [(forward_op, (x, 1e-5, cuda)), (backward_op, (out, x, mean, rstd, cuda))]

    # -------------------------------------------- the contract, on all routes
    @pytest.mark.parametrize("dtype", DTYPES, ids=ids(DTYPES))
    def test_parity(self, dtype, limits):
        super().test_parity(dtype)

    @pytest.mark.parametrize("dtype", DTYPES, ids=ids(DTYPES))
    def test_gradient_parity(self, dtype, limits):
        super().test_gradient_parity(dtype)

    def test_the_other_routes(self, monkeypatch):
        monkeypatch.setattr(type(self), "shapes", FEW_SHAPES)
        for name, value in STRIPS_AND_STEPS.items():
            monkeypatch.setattr(MODULE, name, value)
        super().test_parity(torch.float32)
        super().test_gradient_parity(torch.float32)

    def test_plans_reach_every_route(self, monkeypatch):
        """Else the tests above, with their limits, and test_aot.py, with those shipped, test less than they say."""

        def routes(shapes):
            plans = [plan(x)[1] for shape in shapes for x in self.make(shape, torch.bfloat16)]
            return {("NCHW" if p["x_pixel"] == 1 else "NHWC", p["STRIPS"] > 1) for p in plans if p["STEPS"] > 1}

        every = {(layout, strips) for layout in ("NCHW", "NHWC") for strips in (False, True)}
        assert routes(self.compiled_shapes) | routes((*s, "channels_last") for s in self.compiled_shapes) == every
        covered, shipped = set(), {name: getattr(MODULE, name) for name in (STEPS_AND_STRIPS | STRIPS_AND_STEPS)}
        for limits, shapes in ((STEPS_AND_STRIPS, self.shapes), (STRIPS_AND_STEPS, FEW_SHAPES)):
            for name, value in (shipped | limits).items():
                monkeypatch.setattr(MODULE, name, value)
            covered |= routes(shapes)
        assert covered == every

    # ------------------------------------------------------- independent oracle
    @pytest.mark.parametrize("impl", IMPLEMENTATIONS)
    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    def test_equals_torch_modules(self, impl, layout, limits):
        (x,) = self.make((1, 3, 5, 4), torch.float64)
        x = LAYOUTS[layout](x * 3 + 2).requires_grad_()
        wanted = nn.Sequential(nn.InstanceNorm2d(6, eps=1e-3), nn.GLU(dim=1))(x)
        actual = instance_norm_glu(x, 1e-3, impl=impl)
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-13)
        slope = torch.rand_like(wanted)
        torch.testing.assert_close(
            torch.autograd.grad(actual, x, slope), torch.autograd.grad(wanted, x, slope), rtol=1e-11, atol=1e-12
        )

    # ---------------------------------------------------------------- accuracy
    @pytest.mark.parametrize(
        ("dtype", "layout"),
        [(torch.float32, "contiguous"), (torch.bfloat16, "contiguous"), (torch.bfloat16, "channels_last")],
    )
    def test_statistics_of_large_planes(self, dtype, layout):
        """256x256 pixels around 1000, through the strips and the limits as shipped: no bit lost to the offset."""
        (x,) = self.make((1, 1, 256, 256), torch.float64)
        x = LAYOUTS[layout]((x + torch.tensor([1000.0, -3.0], device=DEVICE).view(1, 2, 1, 1)).to(dtype))
        _, mean, rstd = forward_op(x, 1e-5, False)
        variance, centre = torch.var_mean(x.double(), (2, 3), correction=0)
        assert mean.dtype == rstd.dtype == torch.float32
        torch.testing.assert_close(mean.double(), centre, rtol=2**-23, atol=0)
        torch.testing.assert_close(rstd.double(), (variance + 1e-5).rsqrt(), rtol=4e-7, atol=0)

    @pytest.mark.parametrize("impl", IMPLEMENTATIONS)
    def test_large_offset(self, impl, limits):
        x = self.make((1, 3, 5, 7, "channels_last"), torch.float32)[0] + 1000.0
        wanted = instance_norm_glu_eager(x.double())
        torch.testing.assert_close(instance_norm_glu(x, impl=impl).double(), wanted, rtol=0, atol=2e-4)

    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    def test_constant_planes_are_zero(self, layout, limits):
        """Exactly: 1 / sqrt(eps) would magnify a rounded mean 316 times. The gradient is finite."""
        constants = self.make((1, 16 if layout == "channels_last" else 2, 1, 1), torch.float32)[0] * 1e4
        x = LAYOUTS[layout](constants.expand(-1, -1, 3, 5)).requires_grad_()
        y = instance_norm_glu(x, impl="triton")
        assert (y == 0).all()
        assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()

    # -------------------------------------------------------------- properties
    def test_an_image_does_not_depend_on_its_batch(self):
        (x,) = self.make((3, 2, 3, 4, "channels_last"), torch.float32)
        alone = torch.cat([instance_norm_glu(channels_last(image[None]), impl="triton") for image in x])
        assert torch.equal(instance_norm_glu(x, impl="triton"), alone)

    def test_gradient_leaves_mean_and_scale_alone(self, limits):
        """Adding a constant to a plane, or stretching it, changes nothing (eps apart): no gradient along either."""
        x = self.make((1, 3, 5, 7, "channels_last"), torch.float64)[0].requires_grad_()
        (dx,) = torch.autograd.grad(instance_norm_glu(x, 1e-12, impl="triton").square().sum(), x)
        assert dx.abs().max() > 1e-2
        assert dx.sum((2, 3)).abs().max() < 1e-12
        assert (dx * x).sum((2, 3)).abs().max() < 1e-9

    def test_create_graph_changes_no_gradient(self):
        """Though it takes the eager path."""
        x = self.make(self.small, torch.float64)[0].requires_grad_()
        y = instance_norm_glu(x, 1e-2, impl="triton").square().sum()
        (plain,) = torch.autograd.grad(y, x, retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(y, x, create_graph=True)[0], plain)

    # ------------------------------------------------------------- memory use
    def test_saves_its_input_by_reference(self):
        x = channels_last(*self.make(self.small, torch.float32)).requires_grad_()
        y = instance_norm_glu(x, impl="triton")  # held: torch 2.11 frees what is saved with the output
        saved = y.grad_fn.saved_tensors
        assert saved[0].data_ptr() == x.data_ptr()
        assert [tuple(tensor.shape) for tensor in saved[1:]] == [(2, 4), (2, 4)]

    @pytest.mark.parametrize("of_x", ["contiguous", "channels_last", "sliced"])
    @pytest.mark.parametrize("of_gradient", ["contiguous", "channels_last"])
    def test_copies_no_more_than_it_must(self, of_x, of_gradient, monkeypatch):
        """Nothing dense, but a gradient whose layout is not that of x. The contract cannot see inside an operator."""
        (x,) = self.make(self.small, torch.float32)
        x = LAYOUTS[of_x](x).requires_grad_()
        copied, contiguous = [], torch.Tensor.contiguous

        def count(tensor, **options):
            result = contiguous(tensor, **options)
            if result.data_ptr() != tensor.data_ptr():
                copied.append(tuple(tensor.shape))
            return result

        slope = LAYOUTS[of_gradient](torch.rand_like(instance_norm_glu(x.detach(), impl="eager")))
        monkeypatch.setattr(torch.Tensor, "contiguous", count)
        y = instance_norm_glu(x, impl="triton")
        y.backward(slope)
        once_each = [tuple(x.shape)] * 2 if of_x == "sliced" else []  # forward and backward
        assert copied == once_each + [tuple(y.shape)] * (of_gradient != of_x.replace("sliced", "contiguous"))

    # ------------------------------------------------------------------ errors
    @pytest.mark.parametrize("impl", IMPLEMENTATIONS)
    def test_refuses_what_it_cannot_mean(self, impl):
        for x, message in (
            (torch.zeros(1, 3, 4, 4), "even"),
            (torch.zeros(2, 4, 1, 1), "one pixel"),
            (torch.zeros(4, 3, 3), "B, C, H, W"),
            (torch.zeros(1, 4, 0, 3), "at least one pixel"),
        ):
            with pytest.raises(ValueError, match=message):
                instance_norm_glu(x, impl=impl)
