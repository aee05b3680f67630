"""change_mask: the contract of all operations, the published masks, and the same pipeline in numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from tests.golden import FOLDER, image, unit
from tmgan_kernels.change_mask import (
    change_mask,
    difference_eager,
    dilate_eager,
    erode_eager,
    forward_op,
    gaussian_eager,
    launch_changed,
    launch_keep,
)

from .contract import DEVICE, GPU, KernelContract
from .test_match_histogram import numpy_ranked, photo, published_photos


def edited(shape: tuple, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """An 8-bit photo, and the same with less contrast, some noise and another colour in its middle."""
    original = photo(shape, seed).cpu() * 0.5
    original = (original * 127.5).round() / 127.5
    generated = 0.9 * original + 0.01 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    height, width = shape[2:]
    generated[:, -1:, height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] += 0.9
    return original.to(DEVICE), generated.clamp(-1, 1).to(DEVICE)


def scipy_morphology(changed: np.ndarray) -> np.ndarray:
    """The keep-mask of one boolean plane."""
    eroded = scipy.ndimage.minimum_filter(changed, size=2, mode="constant", cval=True)
    return ~scipy.ndimage.maximum_filter(eroded, size=7, mode="constant", cval=False)


def scipy_mask(original: np.ndarray, generated: np.ndarray, threshold: float, ceiling: float) -> np.ndarray:
    """The whole definition, of one image (C, H, W) in 0-255 units."""
    changed = np.zeros(original.shape[1:], bool)
    for source, reference in zip(original, generated, strict=True):
        matched = np.floor(numpy_ranked(source, reference))
        blurred = [scipy.ndimage.gaussian_filter(x, sigma=1, radius=2, mode="mirror") for x in (matched, reference)]
        difference = np.abs(blurred[0] - blurred[1])
        changed |= (difference > threshold) & (difference <= ceiling)
    return scipy_morphology(changed)


class TestChangeMask(KernelContract):
    operation = change_mask
    variants = ({"eight_bit": True, "ceiling": 120.0},)  # the others below: a run takes the interpreter half a second
    more_variants = ({"eight_bit": True}, {}, {"quantize": False}, {"ties": "level"})
    differentiable = ()
    shapes = ((1, 1, 1, 1), (2, 2, 3, 5), (1, 1, 2, 31), (1, 1, 18, 9))
    small = (1, 2, 3, 4)

    def inputs(self, shape, dtype, random):
        original = torch.rand(shape, generator=random, dtype=torch.float64) * 2 - 1
        generated = 0.9 * original + 0.1 * torch.rand(shape, generator=random, dtype=torch.float64)
        generated[..., : shape[2] // 2, : shape[3] // 2] += 0.6
        return [x.to(dtype) for x in (original, generated)]

    def operators(self, inputs):
        return [(forward_op, (*inputs, -1.0, 1.0, 32.5, None, "rank", True, True, self.impl == "cuda"))]

    def run(self, inputs, impl, variant):
        self.seen = inputs, variant
        return super().run(inputs, impl, variant)

    def compare(self, actual, low, exact):
        """Exact, but for pixels that see a difference so near the threshold or the ceiling that rounding decides."""
        inputs, variant = self.seen
        options = {name: value for name, value in variant.items() if name != "ceiling"}
        difference = difference_eager(*inputs, **options)
        near = (difference - 32.5).abs() < 1e-3
        if "ceiling" in variant:
            near |= (difference - variant["ceiling"]).abs() < 1e-3
        assert near.sum() <= 1e-4 * near.numel()
        seen = dilate_eager(dilate_eager(near.any(dim=1, keepdim=True)))
        assert torch.equal(actual[0] | seen, low[0] | seen)
        assert torch.equal(actual[0] | seen, exact[0] | seen)

    @pytest.mark.parametrize("impl", ["eager"] + ["triton"] * GPU)
    def test_equals_the_published_masks(self, impl):
        stored = dict(np.load(FOLDER / "au_hist_mask.npz"))
        images = [x.float().to(DEVICE) for x in published_photos()]
        keep = change_mask(*images, (0, 255), ceiling=160, impl=impl)
        bits = np.unpackbits(stored["f32:255/mask_bits"]).reshape(keep.shape)
        assert np.array_equal(keep.cpu().numpy(), bits.astype(bool))
        # As published: images in [-1, 1] are taken for 0-255, and nothing differs by 32.5.
        images = [image(name, 4).float().to(DEVICE) for name in ("au/real", "au/fake")]
        assert change_mask(*images, (0, 255), ceiling=160, impl=impl).all()

    def test_morphology_equals_the_published_one(self):
        plane = torch.from_numpy(unit("au/morph", (1, 1, 64, 64)))
        bits = np.unpackbits(np.load(FOLDER / "au_hist_mask.npz")["f32:morph_bits"], axis=1)
        assert np.array_equal(erode_eager(plane > 0).flatten(), bits[0])
        assert np.array_equal(dilate_eager(plane > 0.97).flatten(), bits[1])

    @pytest.mark.parametrize(("height", "width", "rows"), [(37, 41, 16), (32, 260, 16), (1, 3, 4), (13, 1, 4)])
    def test_morphology_equals_scipys(self, height, width, rows):
        """Of the definition and of the kernel, across strips of rows and blocks of columns."""
        changed = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(4)) < 0.4
        changed[0] = True  # the border, seen from inside
        changed[0, 0, -1, -1] = False
        wanted = np.stack([scipy_morphology(plane[0]) for plane in changed.numpy()])[:, None]
        assert np.array_equal(~dilate_eager(erode_eager(changed)), wanted)
        strips = -(-height // rows)
        padded = torch.nn.functional.pad(changed.int(), (0, 0, 0, strips * rows - height))
        bits = padded.view(2, strips, rows, width) << torch.arange(rows).view(rows, 1)
        keep = torch.empty(2, 1, height, width, dtype=torch.bool, device=DEVICE)
        launch_keep(bits.sum(2, dtype=torch.int32).to(DEVICE), rows, keep)
        assert np.array_equal(keep.cpu(), wanted)

    @pytest.mark.parametrize("size", [(9, 12), (1, 1), (2, 3), (1, 7)], ids=str)
    def test_gaussian_equals_scipys(self, size):
        x = torch.rand(1, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        wanted = scipy.ndimage.gaussian_filter(x[0, 0].numpy(), sigma=1, radius=2, mode="mirror")
        np.testing.assert_allclose(gaussian_eager(x)[0, 0], wanted, rtol=1e-12, atol=1e-13)

    @pytest.mark.parametrize(("shape", "levels"), [((1, 2, 18, 30), True), ((2, 1, 3, 5), False)], ids=str)
    def test_changed_equals_scipys(self, shape, levels):
        """Bit by bit, before the dilation hides what is wrong: noise, half of it above the threshold."""
        random = np.random.default_rng(7)
        matched = random.integers(0, 256, shape) if levels else np.float32(random.random(shape) * 255)
        generated = np.float32(random.random(shape) * 255)
        difference = np.abs(
            scipy.ndimage.gaussian_filter(
                matched.astype(np.float64) - generated, sigma=1, radius=2, mode="mirror", axes=(2, 3)
            )
        )
        threshold = np.median(difference).item()
        images = [torch.from_numpy(x).to(DEVICE) for x in (matched.astype(np.uint8) if levels else matched, generated)]
        words, rows = launch_changed(*images, (0.0, 255.0), threshold, 60.0)
        bits = words.cpu().numpy()[:, :, None] >> np.arange(rows)[:, None] & 1
        bits = bits.reshape(shape[0], -1, shape[3])
        changed = ((difference > threshold) & (difference <= 60.0)).any(axis=1)
        assert np.array_equal(bits[:, : shape[2]], changed)
        assert not bits[:, shape[2] :].any()

    @pytest.mark.parametrize(
        "options",
        [
            {"quantize": False, "ceiling": 100.0},
            {"ties": "level"},
            {"ties": "level", "quantize": False},
            {},
            {"eight_bit": True},
        ],
        ids=str,
    )
    def test_every_option_equals_the_definition(self, options):
        """Two blocks of columns; memory in another order."""
        original, generated = edited((1, 2, 5, 33))
        wanted = change_mask(original, generated, **options, impl="eager")
        assert 0.05 < wanted.float().mean() < 0.95
        memory = torch.channels_last
        actual = change_mask(original, generated.contiguous(memory_format=memory), **options, impl="triton")
        assert torch.equal(actual, wanted)

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_equals_numpy_and_scipy(self, impl):
        original, generated = edited((1, 2, 18, 30), seed=5)  # two strips of rows, two blocks of columns
        low = [((x.double() + 1) * 127.5).cpu().numpy() for x in (original, generated)]
        wanted = np.stack([scipy_mask(*pair, 32.5, 100) for pair in zip(*low, strict=True)])[:, None]
        assert 0.05 < wanted.mean() < 0.95
        keep = change_mask(original, generated, ceiling=100, eight_bit=True, impl=impl)
        assert np.array_equal(keep.cpu(), wanted)

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_a_change_of_the_histogram_is_no_change(self, impl):
        original = photo((1, 2, 12, 13), 3)
        brighter = 2 * ((original + 1) / 2) ** 0.5 - 1
        assert (brighter - original).abs().max() * 127.5 > 60
        assert change_mask(original, brighter, eight_bit=True, impl=impl).all()
        assert not change_mask(original, -original, eight_bit=True, impl=impl).all()

    @pytest.mark.parametrize("impl", ["eager", "triton"])
    def test_is_a_constant_for_autograd(self, impl):
        original, generated = (x.requires_grad_() for x in edited((1, 2, 3, 4)))
        keep = change_mask(original, generated, impl=impl)
        assert keep.dtype == torch.bool and not keep.requires_grad

    def test_refuses_what_it_cannot_mean(self):
        x = torch.zeros(1, 3, 4, 4)
        with pytest.raises(ValueError, match="original .* and generated .* must have equal shapes"):
            change_mask(x, torch.zeros(1, 3, 5, 4))
        with pytest.raises(ValueError, match="ceiling=30.0 must be above threshold=32.5"):
            change_mask(x, x, ceiling=30)
        with pytest.raises(ValueError, match="black and of white"):
            change_mask(x, x, value_range=(1, 0))
