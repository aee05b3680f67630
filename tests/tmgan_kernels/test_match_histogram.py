"""match_histogram: the contract of all operations, the published sort, numpy's and skimage's, and what both imply."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden import FOLDER, image, unit
from tmgan_kernels._ranks import CHUNK
from tmgan_kernels.match_histogram import forward_op, match_histogram

from .contract import DEVICE, GPU, KernelContract


def photo(shape: tuple, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Some of the 256 levels of an 8-bit photo in [-1, 1], so that there are many ties."""
    levels = torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed)) * 5
    return (levels / 127.5 - 1).to(dtype).to(DEVICE)


def published_photos() -> tuple[torch.Tensor, torch.Tensor]:
    """The 0-255 images of the stored masks: original, and generated: darker, with a bright patch."""
    base = 128 + 60 * unit("au/hm/coarse", (4, 3, 16, 16)).repeat(16, 2).repeat(16, 3)
    base += 8 * unit("au/hm/fine", (4, 3, 256, 256))
    change = (unit("au/hm/change", (4, 1, 8, 8)) > 0.5).repeat(32, 2).repeat(32, 3)
    return torch.from_numpy(base), torch.from_numpy(np.clip(0.9 * base + 10 + 90 * change, 0, 255))


def numpy_ranked(source: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The published sort, of one plane."""
    out = np.empty_like(reference).reshape(-1)
    out[np.argsort(source, axis=None, kind="stable")] = np.sort(reference, axis=None)
    return out.reshape(reference.shape)


class TestMatchHistogram(KernelContract):
    operation = match_histogram
    variants = ({"quantize": True, "eight_bit": True}, {"quantize": False}, {"ties": "level"})
    more_variants = ({"quantize": True}, {"eight_bit": True}, {"ties": "level", "quantize": True})
    differentiable = ()
    preserves_layout = True
    shapes = ((1, 1, 1, 1), (2, 2, 3, 5), (1, 1, 9, 13))  # 32 pixels per step: more are slow to interpret
    small = (1, 2, 3, 4)

    def inputs(self, shape, dtype, random):
        images = [torch.rand(shape, generator=random, dtype=torch.float64) * scale - 1 for scale in (2.0, 1.5)]
        return [x.to(dtype) for x in images]

    def operators(self, inputs):
        cuda = self.impl == "cuda"
        return [
            (forward_op, (*inputs, -1.0, 1.0, "rank", True, True, cuda)),
            (forward_op, (*inputs, -1.0, 1.0, "level", False, False, cuda)),
        ]

    @pytest.mark.parametrize("impl", ["eager"] + ["triton"] * GPU)
    def test_equals_the_published_sort(self, impl):
        stored = dict(np.load(FOLDER / "au_hist_mask.npz"))
        for original, generated, name in (
            (image("au/real", 4), image("au/fake", 4), "pm1"),
            (*published_photos(), "255"),
        ):
            # As published: images in [-1, 1] are floored as if in [0, 255], which a level, never negative, cannot be.
            matched = match_histogram(original.to(DEVICE).float(), generated.to(DEVICE).float(), (0, 255), impl=impl)
            matched = matched.floor().cpu().double().flatten()
            assert np.array_equal(matched[::769].numpy(), stored[f"f32:{name}/matched|sub"])
            assert matched.sum() == stored[f"f32:{name}/matched|stats"][0]
        quantized = match_histogram(
            original.to(DEVICE).float(),
            generated.to(DEVICE).float(),
            (0, 255),
            quantize=True,
            eight_bit=False,
            impl=impl,
        )
        assert torch.equal(quantized.flatten().cpu().double(), matched)

    @pytest.mark.parametrize(
        ("shape", "dtype"), [((1, 1, 5, CHUNK // 5 + 30), torch.float32), ((1, 1, 5, 13), torch.bfloat16)], ids=str
    )
    def test_equals_numpys_stable_sort(self, shape, dtype):
        """By counting (in two chunks, the last one of an odd size), by torch's sort, and by the definition."""
        source, reference = photo(shape, 1, dtype), photo(shape, 2, dtype) / 3
        wanted = numpy_ranked(source.float().cpu().numpy(), reference.float().cpu().numpy())
        wanted = torch.from_numpy(wanted).to(dtype)
        for options in (
            {"impl": "triton", "eight_bit": True},
            {"impl": "triton"},
            {"impl": "eager"},
            {"impl": "eager", "eight_bit": True},
        ):
            assert torch.equal(match_histogram(source, reference, **options).cpu(), wanted), options

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_equals_skimage(self, impl):
        exposure = pytest.importorskip("skimage.exposure")
        random = np.random.default_rng(3)
        source = np.stack(
            [
                random.integers(40, 140, (9, 11)),
                random.integers(0, 256, (9, 11)),
                np.full((9, 11), 7),
                random.integers(0, 3, (9, 11)) * 90,
            ]
        ).astype(np.uint8)
        reference = np.stack(
            [
                random.integers(0, 256, (9, 11)),
                random.integers(0, 4, (9, 11)) * 85,
                random.integers(5, 250, (9, 11)),
                np.full((9, 11), 200),
            ]
        ).astype(np.uint8)
        wanted = [exposure.match_histograms(*pair) for pair in zip(source, reference, strict=True)]
        images = [torch.from_numpy(x[None]).double().to(DEVICE) for x in (source, reference)]
        matched = match_histogram(*images, (0, 255), "level", impl=impl)[0].cpu().numpy()
        np.testing.assert_allclose(matched, wanted, rtol=0, atol=1e-12)
        floored = match_histogram(*images, (0, 255), "level", quantize=True, impl=impl)[0].cpu().numpy()
        np.testing.assert_array_equal(floored, np.floor(np.round(wanted, 9)))

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_a_false_promise_ranks_by_level(self, impl):
        source = torch.tensor([10.2, 9.8, 10.4, 3.0], device=DEVICE).view(1, 1, 1, 4)
        reference = torch.tensor([1.0, 2.0, 3.0, 4.0], device=DEVICE).view(1, 1, 1, 4)
        assert match_histogram(source, reference, (0, 255), impl=impl).flatten().tolist() == [3, 2, 4, 1]
        promised = match_histogram(source, reference, (0, 255), eight_bit=True, impl=impl)
        assert promised.flatten().tolist() == [2, 3, 4, 1]

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    @pytest.mark.parametrize("eight_bit", [True, False])
    def test_nan_counts_as_the_largest(self, impl, eight_bit):
        source = torch.tensor([255.0, float("nan"), 7.0, 255.0], device=DEVICE).view(1, 1, 1, 4)
        reference = torch.tensor([float("nan"), 2.0, -3.0, 300.0], device=DEVICE).view(1, 1, 1, 4)
        matched = match_histogram(source, reference, (0, 255), quantize=True, eight_bit=eight_bit, impl=impl)
        assert matched.flatten().tolist() == [2, 255, 0, 255]

    @pytest.mark.parametrize(
        "options", [{}, {"quantize": True}, {"quantize": True, "eight_bit": True}, {"ties": "level"}], ids=str
    )
    def test_dtypes_and_layouts_may_differ(self, options):
        source = photo((1, 3, 4, 5), 1, torch.bfloat16).contiguous(memory_format=torch.channels_last)
        reference = photo((1, 3, 4, 5), 2)
        matched = match_histogram(source, reference, **options, impl="triton")
        assert matched.dtype == torch.bfloat16 and matched.is_contiguous(memory_format=torch.channels_last)
        wanted = match_histogram(source, reference, **options, impl="eager")
        assert wanted.is_contiguous(memory_format=torch.channels_last)
        # The interpreter truncates bfloat16: one unit in the last place.
        torch.testing.assert_close(matched, wanted, rtol=0 if GPU else 2**-7, atol=0)

    def test_rank_gives_exactly_the_histogram_of_the_reference(self):
        source, reference = photo((1, 2, 5, 6), 1), torch.rand(1, 2, 5, 6, device=DEVICE)
        matched = match_histogram(source, reference, eight_bit=True, impl="triton")
        assert torch.equal(matched.flatten(2).sort().values, reference.flatten(2).sort().values)
        again = match_histogram(matched, reference, impl="triton")
        assert torch.equal(again, matched)

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_is_a_constant_for_autograd(self, impl):
        source = photo((1, 1, 2, 3), 1).requires_grad_()
        assert not match_histogram(source, source * 2, impl=impl).requires_grad

    def test_refuses_what_it_cannot_mean(self):
        x = torch.zeros(1, 3, 4, 4)
        with pytest.raises(ValueError, match="equal shapes"):
            match_histogram(x, torch.zeros(1, 3, 4, 5))
        with pytest.raises(ValueError, match="reference must be a"):
            match_histogram(x, x.to(torch.uint8))
        for value_range in ((1, -1), (0, 0), (0, float("inf")), (0, float("nan"))):
            with pytest.raises(ValueError, match="black and of white"):
                match_histogram(x, x, value_range)
        with pytest.raises(ValueError, match="'rank', 'level'"):
            match_histogram(x, x, ties="stable")
