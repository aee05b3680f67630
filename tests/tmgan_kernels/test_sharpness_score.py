"""sharpness_score: the contract of all operations, SciPy's Laplacian, and the published scores."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from tests.golden import assert_golden, image, unit
from tmgan_kernels.sharpness_score import forward_op, sharpness_score

from .contract import DEVICE, GPU, LAYOUTS, KernelContract


class TestSharpnessScore(KernelContract):
    operation = sharpness_score
    variants = ({}, {"border": "replicate", "value_range": (0, 255)})
    differentiable = ()

    def operators(self, inputs):
        return [(forward_op, (inputs[0], -1.0, 1.0, "zeros"))]

    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize(("border", "mode"), [("zeros", "constant"), ("replicate", "nearest")])
    def test_equals_scipy(self, impl, border, mode, layout):
        """The border is added on the 0-255 scale; here it is a value that float32 cannot hold."""
        low, high = -2.1, 2.64
        photo = self.make((2, 3, 11, 13), torch.float64)[0]
        grey = ((photo.cpu().numpy() - low) / (high - low) * 255).mean(1)
        wanted = [np.abs(scipy.ndimage.laplace(plane, mode=mode)).mean() for plane in grey]
        actual = sharpness_score(LAYOUTS[layout](photo), (low, high), border, impl=impl)
        np.testing.assert_allclose(actual.cpu().numpy(), wanted, rtol=1e-12)

    @pytest.mark.parametrize("impl", ["eager", pytest.param("triton", marks=() if GPU else pytest.mark.slow)])
    def test_equals_the_published_scores(self, impl):
        """The published code reads image files, which are 8-bit, and divides by 255 (the paper's table does not)."""
        smooth = 0.9 * unit("au/sm/coarse", (4, 3, 16, 16)).repeat(16, 2).repeat(16, 3)
        smooth = np.clip(smooth + 0.05 * unit("au/sm/fine", (4, 3, 256, 256)), -1, 1).astype(np.float32)
        for name, photo in (("noise", image("au/fake", 4)), ("smooth", torch.from_numpy(smooth).double())):
            stored = ((photo + 1) * 127.5).floor().to(DEVICE)
            score = sharpness_score(stored, (0, 255), impl=impl)
            assert_golden(score.cpu() / 255, "au_sharpness", f"sharpness_score/{name}")

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_black_has_no_border_and_white_has(self, impl):
        flat = torch.tensor([-1.0, 1.0], device=DEVICE)[:, None, None, None].expand(2, 3, 6, 4)
        black, white = sharpness_score(flat, impl=impl).tolist()
        assert black == 0
        assert white == pytest.approx(255 * 2 * (6 + 4) / (6 * 4))  # a corner misses two neighbours, an edge one
        assert sharpness_score(flat, border="replicate", impl=impl).tolist() == [0, 0]

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_is_differentiable_all_the_same(self, impl):
        photo = self.make((1, 3, 4, 5), torch.float64)[0].requires_grad_()
        assert torch.autograd.gradcheck(lambda x: sharpness_score(x, impl=impl), photo, fast_mode=True)

    def test_refuses_what_it_cannot_mean(self):
        photo = torch.zeros(1, 3, 4, 4)
        for value_range in ((1, 1), (255, 0), (0, float("inf")), (float("nan"), 1)):
            with pytest.raises(ValueError, match="value_range must be"):
                sharpness_score(photo, value_range)
        with pytest.raises(ValueError, match="'replicate'"):
            sharpness_score(photo, border="reflect")
        with pytest.raises(ValueError, match="B, C, H, W"):
            sharpness_score(photo[0])
