"""ManiGAN's networks: shapes at every size, published sizes and names, padding, precision; and its smaller photos."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.models.test_models import SMALL, _generator, _inputs
from tmgan.models import CorrectedGenerator, DetailCorrection, Discriminator, MainModule, init_weights
from tmgan.models.published_names import DETAIL_CORRECTION, MAIN_MODULE, published_key
from tmgan.models.resampling import shrink
from tmgan.models.stages import resize_regions

MAIN = {name: value for name, value in SMALL.items() if name != "perceptual_dim"}


def main_module(image_size=64, attention="own"):
    network = MainModule(image_size, attention=attention, top_width=3, **MAIN)
    init_weights(network, _generator())
    return network


def whole(image_size=64, attention="own"):
    correction = DetailCorrection(
        image_size, 3, word_dim=8, perceptual_dim=7, residual_blocks=1, attention=attention, affine_dim=8
    )
    init_weights(correction, _generator(2))
    return CorrectedGenerator(main_module(image_size, attention), correction)


@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_images_of_three_scales(image_size):
    out = main_module(image_size)(**_inputs(image_size, grid=17))
    sizes = [x.shape for x in (*out.smaller, out.image)]
    assert sizes == [(3, 3, image_size // k, image_size // k) for k in (4, 2, 1)]
    assert max(x.abs().max() for x in (*out.smaller, out.image)) <= 1
    assert out.attention.shape == (3, 5, image_size // 2, image_size // 2)
    assert out.mu.shape == out.logvar.shape == (3, 5)


@pytest.mark.parametrize("image_size", [64, 128])
def test_the_second_stage_paints_one_image_and_its_main_module_takes_no_gradient(image_size):
    network = whole(image_size).train()
    out = network(**_inputs(image_size))
    assert out.image.shape == (3, 3, image_size, image_size) and out.smaller == () and out.mu is None
    assert out.attention.shape == (3, 5, image_size, image_size)
    out.image.sum().backward()
    assert all(p.grad is None for p in network.main.parameters())
    assert all(p.grad.abs().sum() > 0 for p in network.correction.parameters())


def test_the_main_module_stays_in_eval_mode_and_copies_share_it():
    network = whole()
    before = copy.deepcopy(network.main.state_dict())
    network.train()(**_inputs())
    assert all(torch.equal(x, before[name]) for name, x in network.main.state_dict().items())
    other = copy.deepcopy(network)
    assert other.main is network.main and other.correction is not network.correction
    assert not network.eval().correction.training and other.correction.training


def test_every_parameter_of_the_main_module_learns():
    network = main_module()
    out = network(**_inputs())
    sum(x.sum() for x in (*out.smaller, out.image, out.mu, out.logvar)).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("make", [main_module, whole])
def test_an_edit_does_not_depend_on_the_padding(make):
    network = make().double()
    short, padded = (network(**_inputs(width=width, dtype=torch.float64)) for width in (5, 18))
    for ours, theirs in zip((*padded.smaller, padded.image), (*short.smaller, short.image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    published = make(attention="published").eval()
    assert (published(**_inputs()).image - published(**_inputs(width=18)).image).abs().max() > 1e-3


@pytest.mark.parametrize("make", [main_module, whole])
def test_bf16_and_both_memory_formats_give_the_same_image(make):
    network, inputs = make().eval(), _inputs()
    with torch.no_grad():
        planar = network(**inputs).image
        wide = network.to(memory_format=torch.channels_last)(**inputs).image
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(**inputs).image
    torch.testing.assert_close(wide, planar, rtol=1e-4, atol=1e-4)
    assert half.dtype == torch.float32 and (half - planar).abs().mean() < 0.02


def test_published_sizes_and_names():
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    with torch.device("meta"):
        main, lean = (MainModule(256, attention=attention) for attention in ("published", "own"))
        correction = DetailCorrection(256)
    assert count(main) == 23_382_960
    assert count(main) - count(lean) == 256 * (64 * 64 + 128 * 128), "what nothing depends on"
    assert count(correction) == 17_781_600
    for module, names, entries in ((main, MAIN_MODULE, 49), (correction, DETAIL_CORRECTION, 15)):
        assert len({published_key(key, names) for key in module.state_dict()}) == entries


@pytest.mark.parametrize("make", [MainModule, DetailCorrection])
@pytest.mark.parametrize("arguments", [{"image_size": 96}, {"image_size": 64, "attention": "paper"}])
def test_unknown_settings_are_refused(make, arguments):
    with pytest.raises(ValueError, match=f"{make.__name__}: .*use"):
        make(**arguments)


def test_a_correction_that_does_not_fit_its_main_module_is_refused():
    with pytest.raises(ValueError, match="64 pixels from 3 channels, the correction 64 from 32; make both alike"):
        CorrectedGenerator(main_module(), DetailCorrection(64))


def test_regions_are_resized_by_the_published_factor():
    columns = resize_regions(torch.arange(17.0).expand(1, 1, 17, 17), 64)[0, 0, 5].int().tolist()
    assert columns == [int(i / 3.8 + 1e-9) for i in range(64)]


@pytest.mark.parametrize(("image_size", "first"), [(16, 16), (32, 8), (64, 4)])
def test_discriminators_of_small_images_end_in_as_many_channels(image_size, first):
    network = Discriminator(image_size, width=4, sentence_dim=8)
    assert network.first.out_channels == first
    features = network(torch.zeros(2, 3, image_size, image_size))
    assert features.shape == (2, 32, 4, 4)
    assert network.conditional(features, torch.zeros(2, 8)).shape == (2,)


@pytest.mark.parametrize("factor", [2, 4])
def test_smaller_photos_are_those_of_pillow(factor):
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(levels).resize((64 // factor,) * 2, Image.Resampling.BILINEAR)
    image = torch.from_numpy(levels).permute(2, 0, 1)[None].double() / 127.5 - 1
    small = shrink(image.contiguous(memory_format=torch.channels_last), factor)
    assert small.is_contiguous(memory_format=torch.channels_last)
    wanted = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].double()
    assert ((small + 1) * 127.5 - wanted).abs().max() <= 1.0  # Pillow rounds twice
