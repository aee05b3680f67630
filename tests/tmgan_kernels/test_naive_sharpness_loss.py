"""naive_sharpness_loss: the contract of all operations, torch's BCE, the published code, flat images, and rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.golden import assert_golden, image, unit
from tmgan_kernels._triton import jit, tl
from tmgan_kernels.laplace_sharpness import laplace_sharpness, laplacian_eager
from tmgan_kernels.naive_sharpness_loss import backward_op, forward_op, naive_sharpness_loss, pixel_loss
from tmgan_kernels.sharp_regions import sharp_regions

from .contract import DEVICE, DTYPES, GPU, KernelContract, assert_accurate, ids

SLOW = () if GPU else pytest.mark.slow  # 64 times the pixels of the other tests, for the interpreter
IMPLS = pytest.mark.parametrize("impl", ["eager", "triton"])


def own_or_given(image, labels, given, impl, **options):
    return naive_sharpness_loss(image, labels=labels if given else None, impl=impl, **options)


def published(name):
    if name == "noise":
        return image("au/fake", 4)
    coarse = 0.9 * unit("au/sm/coarse", (4, 3, 16, 16)).repeat(16, 2).repeat(16, 3)
    smooth = np.clip(coarse + 0.05 * unit("au/sm/fine", (4, 3, 256, 256)), -1, 1)
    return torch.from_numpy(smooth.astype(np.float32)).double()


@jit
def pixel_loss_kernel(z_ptr, loss_ptr, slope_ptr, SHARP: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    z = tl.load(z_ptr + i)
    loss, slope = pixel_loss(z, tl.full((BLOCK,), SHARP, tl.int1), z_ptr.dtype.element_ty)
    tl.store(loss_ptr + i, loss)
    tl.store(slope_ptr + i, 2 * slope)


class TestNaiveSharpnessLoss(KernelContract):
    operation = own_or_given
    # Four launches: few and small, for the interpreter. Soft labels over all pixels have a test of their own. The last
    # shape: several blocks of columns, two programs of the loss kernel, the second partly empty.
    variants = ({"given": False}, {"given": True, "region": "sharp", "gamma": 1.0})
    more_variants = ({"given": False, "region": "sharp"}, {"given": True})
    shapes = ((1, 1, 1, 1), (2, 3, 4, 7), (1, 1, 2, 2100))
    small = (2, 2, 3, 4)
    compiled_shapes = ((2, 3, 256, 256), (2, 3, 512, 512))  # the second: thresholds by chunks

    def inputs(self, shape, dtype, random):
        """An image and soft labels; these are 0 where the image is nearly flat: -log t has the slope 1 / s there, and
        the rounding of s would be all that a comparison of gradients sees."""
        (photo,) = super().inputs(shape, dtype, random)
        labels = torch.randint(0, 9, (shape[0], 1, *shape[2:]), generator=random) / 8
        return [photo, labels.where(laplacian_eager(photo.double()).abs() > 0.5, 0).to(dtype)]

    def operators(self, inputs):
        photo, labels = inputs
        # Not over all pixels of an empty batch: that is NaN, which opcheck takes for a difference.
        cuda = self.impl == "cuda"
        _, local, scale = forward_op(photo, None, 0.1, True, cuda)
        return [
            (forward_op, (photo, None, 0.1, not len(photo), cuda)),
            (forward_op, (photo, labels > 0.5, 1.0, True, cuda)),
            (backward_op, (scale, local, scale, photo.shape[1], False, cuda)),
            (backward_op, (scale, local, scale, photo.shape[1], True, cuda)),
        ]

    @pytest.mark.parametrize("sharp", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
    def test_a_pixel_to_the_last_places(self, dtype, sharp):
        """Relative error of -log t, -log(1 - t) and their slopes; exp itself loses a digit for large z on a GPU."""
        z = torch.logspace(-6, 1.6, 256, dtype=torch.float64, device=DEVICE).clamp(min=1e-6).to(dtype)
        z = z.double().clamp(min=1e-6).to(dtype)
        loss, slope = torch.empty_like(z), torch.empty_like(z)
        pixel_loss_kernel[(1,)](z, loss, slope, sharp, 256)
        z = z.double()
        if sharp:
            wanted = torch.log1p(2 / torch.expm1(2 * z)), -2 / torch.sinh(2 * z)
        else:
            wanted = torch.log1p(torch.expm1(2 * z) / 2), 1 + torch.tanh(z)
        allowed = torch.finfo(dtype).eps * (8 + 2 * z)
        for actual, exact in zip((loss, slope), wanted, strict=True):
            assert (((actual.double() - exact) / exact).abs() <= allowed).all()

    @IMPLS
    def test_equals_torch_where_that_is_well_conditioned(self, impl):
        photo = self.make((2, 2, 3, 5), torch.float64)[0].requires_grad_()
        sharpness = laplace_sharpness(photo, impl="eager")
        labels = (sharpness.detach() > 0.3).double()
        t = torch.tanh(0.7 * sharpness)
        for region, wanted in (
            ("all", F.binary_cross_entropy(t, labels)),
            ("sharp", F.binary_cross_entropy(t[labels == 1], torch.ones(()).expand(int(labels.sum())).to(t))),
        ):
            actual = naive_sharpness_loss(photo, 0.7, labels, region, impl=impl)
            torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=0)
            gradients = [torch.autograd.grad(y, photo, retain_graph=True)[0] for y in (actual, wanted)]
            torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)

    @pytest.mark.parametrize(
        ("name", "gamma", "impl"),
        [
            ("noise", 1.0, "eager"),
            ("noise", 0.1, "eager"),
            ("smooth", 1.0, "eager"),
            ("smooth", 0.1, "eager"),
            pytest.param("noise", 1.0, "triton", marks=SLOW),
            pytest.param("smooth", 0.1, "triton", marks=SLOW),
        ],
    )
    def test_equals_the_published_code(self, name, gamma, impl):
        """It sums over the sharp pixels alone, with labels from five steps of 2-means."""
        photo = published(name).to(DEVICE).requires_grad_()
        loss = naive_sharpness_loss(photo, gamma, region="sharp", impl=impl)
        assert_golden(loss.detach().cpu(), "au_sharpness", f"{name}/gamma{gamma:g}/loss")
        (gradient,) = torch.autograd.grad(loss, photo)
        assert_golden(gradient.cpu(), "au_sharpness", f"{name}/gamma{gamma:g}/grad")

    def test_rounding_moves_no_pixel_across_the_threshold(self):
        """Labels from float32 against labels from float64, on images of 256 x 256: no pixel in 524288 is close."""
        for name in ("noise", "smooth"):
            photo = published(name)
            low, _ = sharp_regions(laplace_sharpness(photo.float()))
            exact, threshold = sharp_regions(laplace_sharpness(photo))
            near = (laplace_sharpness(photo) / threshold[:, None, None, None] - 1).abs() < 1e-7
            assert int((low != exact).sum()) == 0 and int(near.sum()) <= 1

    def test_soft_labels_over_all_pixels(self):
        """In the kernel two losses per pixel, mixed; elsewhere the label chooses one."""
        for dtype in (torch.float32, torch.bfloat16):
            inputs = self.make((2, 2, 3, 5), dtype)
            variant, one = {"given": True, "region": "all"}, [torch.ones((), device=DEVICE)]
            exact = self.run(self.widened(inputs), "eager", variant)
            self.compare(self.run(inputs, "triton", variant), self.run(inputs, "eager", variant), exact)
            gradients = [
                self.gradients(*arguments, variant, one)[0]
                for arguments in ((inputs, "triton"), (inputs, "eager"), (self.widened(inputs), "eager"))
            ]
            assert_accurate(*gradients, "gradient")

    @IMPLS
    def test_own_labels_are_the_sharp_regions(self, impl):
        photo = self.make((2, 2, 3, 5), torch.float32)[0]
        labels, _ = sharp_regions(laplace_sharpness(photo, impl="eager"), impl="eager")
        for region in ("all", "sharp"):
            torch.testing.assert_close(
                naive_sharpness_loss(photo, region=region, impl=impl),
                naive_sharpness_loss(photo, labels=labels, region=region, impl=impl),
            )

    @IMPLS
    def test_labels_of_any_dtype_and_layout_are_constants(self, impl):
        photo = self.make((2, 2, 3, 5), torch.float32)[0]
        labels = (laplace_sharpness(photo, impl="eager") > 1).float()
        wanted = naive_sharpness_loss(photo, labels=labels, impl=impl)
        for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64):
            turned = labels.to(dtype).transpose(2, 3).contiguous().transpose(2, 3)
            torch.testing.assert_close(naive_sharpness_loss(photo, labels=turned, impl=impl), wanted)
        labels.requires_grad_()
        loss = naive_sharpness_loss(photo.requires_grad_(), labels=labels, impl=impl)
        assert torch.autograd.grad(loss, (photo, labels), allow_unused=True)[1] is None

    @IMPLS
    @pytest.mark.parametrize("dtype", DTYPES, ids=ids(DTYPES))
    def test_flat_regions_have_a_finite_loss_and_no_gradient(self, impl, dtype):
        """The published loss is 100 at s = 0, with a slope of 1e12. Just above the floor it is steepest."""
        photo = torch.zeros(1, 2, 3, 6, dtype=dtype, device=DEVICE)
        photo[..., 5] = 2e-6  # s is 2e-6 in the last two columns
        every = torch.ones_like(photo[:, :1])
        photo.requires_grad_()
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = naive_sharpness_loss(photo, 1.0, every, impl=impl)
        (gradient,) = torch.autograd.grad(loss, photo)
        assert loss.dtype == torch.float32 and 13 < loss < 13.9
        assert gradient.isfinite().all() and not gradient[..., :3].any()
        # The slopes by the Laplacian are -1 / s = -5e5 and 5e5 in the last two columns; two channels, 18 pixels.
        wanted = torch.tensor([-5e5, 15e5, -10e5], device=DEVICE).expand(1, 2, 3, 3) / (2 * 18)
        torch.testing.assert_close(gradient[..., 3:].float(), wanted, rtol=0.03, atol=0)

    @IMPLS
    def test_without_sharp_pixels_the_published_form_is_zero(self, impl):
        photo = self.make((2, 2, 3, 5), torch.float32)[0].requires_grad_()
        loss = naive_sharpness_loss(photo, labels=torch.zeros(2, 1, 3, 5, device=DEVICE), region="sharp", impl=impl)
        assert loss == 0 and not torch.autograd.grad(loss, photo)[0].any()

    def test_refuses_what_it_cannot_mean(self):
        photo = torch.zeros(2, 3, 4, 4)
        with pytest.raises(ValueError, match="labels must be"):
            naive_sharpness_loss(photo, labels=torch.zeros(2, 3, 4, 4))
        with pytest.raises(ValueError, match="'sharp'"):
            naive_sharpness_loss(photo, region="blurred")
        for gamma in (0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ValueError, match="gamma must be"):
                naive_sharpness_loss(photo, gamma)
        with pytest.raises(ValueError, match="B, C, H, W"):
            naive_sharpness_loss(photo[0])
