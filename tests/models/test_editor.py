"""Our own generator: what it depends on, what it costs, and that no grid shows in what it paints."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tmgan.models import EditorGenerator, Generator, ImageFeatures, init_weights
from tmgan.models.editor import fine_detail


def features(size: int, rows: int = 2, regions: int = 8, perceptual: int = 7, seed: int = 0) -> ImageFeatures:
    random = torch.Generator().manual_seed(seed)
    return ImageFeatures(
        torch.randn(rows, regions, size // 8, size // 8, generator=random),
        torch.randn(rows, regions, generator=random),
        torch.randn(rows, perceptual, size // 2, size // 2, generator=random),
    )


def small(size: int = 64, keep_input: bool = True) -> EditorGenerator:
    network = EditorGenerator(
        size, width=4, word_dim=8, region_dim=8, perceptual_dim=7, affine_dim=8, keep_input=keep_input
    )
    init_weights(network, torch.Generator().manual_seed(0))
    return network.eval()


def edit(network, shown: ImageFeatures, words: torch.Tensor, padding: torch.Tensor, image: torch.Tensor):
    unused = torch.zeros(len(image), 1)
    return network(unused, unused, words, padding, unused, shown, image)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("keep_input", [True, False])
def test_shapes(size, keep_input):
    image, words = torch.rand(1, 3, size, size) * 2 - 1, torch.randn(1, 8, 5)
    output = edit(small(size, keep_input), features(size, 1), words, torch.zeros(1, 5, dtype=torch.bool), image)
    assert output.image.shape == image.shape and output.image.abs().max() <= 1
    assert output.attention.shape == (1, 5, size // 4, size // 4)
    assert output.mu is None and output.logvar is None
    assert (output.keep_logits is not None) == keep_input


def test_an_edit_does_not_depend_on_how_far_its_caption_is_padded():
    network, image = small(), torch.rand(1, 3, 64, 64) * 2 - 1
    words = torch.randn(1, 8, 5, generator=torch.Generator().manual_seed(2))
    edits = []
    for length in (5, 9, 18):
        padded = torch.cat([words, torch.randn(1, 8, length - 5)], 2)
        padding = torch.arange(length)[None] >= 5
        edits.append(edit(network, features(64, 1), padded, padding, image).image)
    for other in edits[1:]:
        torch.testing.assert_close(other, edits[0], rtol=0, atol=1e-5)


def test_words_and_photo_change_the_edit_and_the_unused_do_not():
    network, image, words = small(), torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 8, 5)
    none, shown = torch.zeros(1, 5, dtype=torch.bool), features(64, 1)
    before = edit(network, shown, words, none, image).image
    assert not torch.allclose(edit(network, shown, words.flip(2) * 2, none, image).image, before)
    assert not torch.allclose(edit(network, features(64, 1, seed=1), words, none, image).image, before)
    unused = torch.randn(1, 8)
    assert torch.equal(network(unused, unused, words, none, unused, shown, image).image, before)


def test_a_flat_photo_is_edited_flat_so_no_grid_is_painted():
    """Away from the border, where zeros come in, what is alike everywhere is painted alike: the network has no term
    that is tied to a position, and its upsampling reaches every pixel alike."""
    network = small(128)
    alike = ImageFeatures(
        torch.randn(1, 8, 1, 1).expand(1, 8, 16, 16), torch.zeros(1, 8), torch.randn(1, 7, 1, 1).expand(1, 7, 64, 64)
    )
    image = torch.full((1, 3, 128, 128), 0.3)
    words = torch.randn(1, 8, 5)
    output = edit(network, alike, words, torch.zeros(1, 5, dtype=torch.bool), image)
    middle = output.image[:, :, 60:68, 60:68]
    spread = middle.amax((2, 3)) - middle.amin((2, 3))
    assert spread.max() < 1e-4, spread


def test_half_the_work_of_lightweight_gan_at_256_pixels():
    def work(network) -> int:
        shown = ImageFeatures(torch.zeros(1, 256, 17, 17), torch.zeros(1, 256), torch.zeros(1, 128, 128, 128))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(
                torch.zeros(1, 100),
                torch.zeros(1, 256),
                torch.zeros(1, 256, 18),
                torch.zeros(1, 18, dtype=torch.bool),
                torch.zeros(1, 100),
                shown,
                torch.zeros(1, 3, 256, 256),
            )
        return counter.get_total_flops()

    assert work(EditorGenerator(256)) <= work(Generator(256, keep_input=True)) / 2


def test_fine_detail_is_texture_without_colour():
    flat = torch.tensor([0.7, -0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert fine_detail(flat).abs().max() < 1e-6
    dot = torch.zeros(1, 3, 16, 16)
    dot[:, 0, 8, 8] = 1.0
    other = dot.roll(1, 1)  # another colour, as bright
    assert fine_detail(dot)[0, 0, 8, 8] > 1 and torch.equal(fine_detail(dot), fine_detail(other))
