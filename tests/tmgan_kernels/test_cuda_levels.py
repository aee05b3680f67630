"""match_histogram and change_mask by csrc/levels.cu: ranks over chunks, every kind of output, morphology over tiles."""

import itertools

import pytest
import torch

from tmgan_kernels import change_mask, match_histogram
from tmgan_kernels.change_mask import difference_eager, dilate_eager

from .contract import DEVICE
from .cuda import built, contract_in_cuda  # noqa: F401
from .test_change_mask import TestChangeMask as _Mask
from .test_change_mask import edited
from .test_match_histogram import TestMatchHistogram as _Match
from .test_match_histogram import photo

# Several chunks of 2048 pixels, the last one of an odd size, and a warp that is partly outside.
TestMatchHistogramInCuda = contract_in_cuda(
    _Match,
    variants=(
        {"quantize": True, "eight_bit": True},
        {"quantize": False, "eight_bit": True},
        {"ties": "level"},
        {"ties": "level", "quantize": True},
    ),
    shapes=((1, 1, 1, 1), (2, 2, 3, 5), (1, 2, 45, 97)),
)
TestChangeMaskInCuda = contract_in_cuda(_Mask)

LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, LAYOUTS)), ids=["nn", "nh", "hn", "hh"])
def test_ranks_equal_the_definition(layouts):
    """Bit for bit, whatever the layouts and types of the two images."""
    for dtypes in ((torch.float32, torch.bfloat16), (torch.float16, torch.float32)):
        source, reference = (
            photo((2, 3, 41, 53), seed, dtype).contiguous(memory_format=layout)
            for seed, dtype, layout in zip((1, 2), dtypes, layouts, strict=True)
        )
        for quantize in (True, False):
            options = {"quantize": quantize, "eight_bit": True}
            actual = match_histogram(source, reference, **options, impl="cuda")
            wanted = match_histogram(source, reference, **options, impl="eager")
            if quantize:  # a level's value is one product and one sum, which a GPU may contract
                torch.testing.assert_close(actual, wanted)
            else:
                assert torch.equal(actual, wanted)
            assert actual.dtype == source.dtype and actual.is_contiguous(memory_format=layouts[0])


@pytest.mark.parametrize(
    "options",
    [
        {"eight_bit": True},
        {"eight_bit": True, "quantize": False},
        {"ties": "level"},
        {"ties": "level", "quantize": False, "ceiling": 160.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(1, 3, 70, 181), (2, 1, 33, 89), (1, 3, 31, 7)], ids=str)
def test_masks_over_several_tiles(shape, options):
    """Tiles of 32 x 88 pixels meet at borders that must not show."""
    original, generated = edited(shape)
    for layout in LAYOUTS:
        keep = change_mask(original, generated.contiguous(memory_format=layout), **options, impl="cuda")
        wanted = change_mask(original, generated, **options, impl="eager")
        difference = difference_eager(
            original, generated, **{name: value for name, value in options.items() if name != "ceiling"}
        )
        near = ((difference - 32.5).abs() < 1e-3) | ((difference - 160).abs() < 1e-3)
        assert not ((keep != wanted) & ~dilate_eager(dilate_eager(near.any(1, keepdim=True)))).any()
        assert near.sum() <= 1e-3 * near.numel()
        assert shape[3] < 20 or 0 < wanted.float().mean() < 1


def test_what_must_be_sorted_is_refused():
    image = torch.zeros(1, 1, 4, 4, device=DEVICE)
    for operation in (match_histogram, change_mask):
        with pytest.raises(RuntimeError, match="counts levels and cannot sort; use eight_bit=True"):
            operation(image, image, impl="cuda")
