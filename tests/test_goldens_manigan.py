"""Parity with the published ManiGAN, in float64, to 1e-9: forwards, losses, gradients."""

import pytest
import torch

from tests.golden import (
    CLASS_IDS,
    LENGTHS,
    VGG,
    WRONG_LENGTHS,
    assert_golden,
    assert_golden_gradients,
    captions,
    fill,
    generator_inputs,
    image,
    padding,
    stored_value,
    tensor,
    words,
)
from tmgan.losses.adversarial import discriminator_loss, generator_adversarial
from tmgan.losses.matching import sentence_loss, word_level_discrimination, words_loss
from tmgan.losses.perceptual import perceptual_loss
from tmgan.losses.regional import mean_difference
from tmgan.models import DetailCorrection, Discriminator, InceptionEncoder, MainModule, VGGFeatures
from tmgan.models.published_names import DETAIL_CORRECTION, IMAGE_ENCODER, MAIN_MODULE, discriminator

SIZES = (64, 128, 256)


@pytest.mark.parametrize("mode", ["train", pytest.param("eval", marks=pytest.mark.slow)])
def test_main_module(mode):
    generator = fill(MainModule(256, width=8, attention="published"), MAIN_MODULE).train(mode == "train")
    seen = {}
    for name, layer in (("att0", generator.middle), ("att1", generator.large)):
        layer.register_forward_hook(lambda _, __, result, name=name: seen.update({name: result[1].detach()}))
    generator.up_large.register_forward_hook(lambda _, __, result: seen.update(h_code3=result.detach()))
    generator.condition.register_forward_hook(lambda _, __, result: seen.update(c_code=result[0].detach()))
    out = generator(**generator_inputs(perceptual=False))
    images = (*out.smaller, out.image)
    for name, value in (*seen.items(), *((f"img{i}", x) for i, x in enumerate(images)), ("mu", out.mu)):
        assert_golden(value, "mg_generator", f"{mode}/{name}")
    assert_golden(out.logvar, "mg_generator", f"{mode}/logvar")
    sum((x * tensor(f"g/P{i}", x.shape)).sum() for i, x in enumerate(images)).backward()
    unused = [generator.middle_unused, generator.large_unused]
    assert all(layer.weight.grad is None for layer in unused), "weights that no output depends on"
    del generator.middle_unused, generator.large_unused
    assert_golden_gradients(generator, MAIN_MODULE, "mg_generator", f"{mode}/grad/")


def test_detail_correction():
    network = fill(DetailCorrection(256, width=8, attention="published"), DETAIL_CORRECTION).train()
    h = tensor("dcm/h_code", (4, 8, 256, 256)).requires_grad_()
    made, _ = network(
        h,
        tensor("g/vgg_features", (4, 128, 128, 128)).clamp(min=0),
        words("g/words_embs", LENGTHS),
        captions("captions", LENGTHS)[:, :9] == 0,
    )
    assert_golden(made, "mg_dcm", "img")
    (made * tensor("g/P", made.shape)).sum().backward()
    assert_golden(h.grad, "mg_dcm", "grad_h")
    assert_golden_gradients(network, DETAIL_CORRECTION, "mg_dcm", "grad/")


@pytest.mark.parametrize("size", [64, 128])
def test_smaller_discriminators(size):
    network = fill(Discriminator(size, width=8), discriminator(size)).train()
    features = network(image(f"d/real{size}", 4, size))
    assert_golden(features, "mg_d64_d128", f"{size}/feat")
    conditional = network.conditional(features, tensor("loss/sent_emb", (4, 256)))
    assert_golden(torch.sigmoid(conditional), "mg_d64_d128", f"{size}/cond")
    assert_golden(torch.sigmoid(network.unconditional(features)), "mg_d64_d128", f"{size}/uncond")


def test_word_level_discrimination():
    regions = tensor("loss/region_features", (4, 256, 17, 17))
    for name, key, lengths, own in (
        ("wlc_real", "loss/words_embs", LENGTHS, True),
        ("wlc_wrong", "loss/wrong_words", WRONG_LENGTHS, False),
    ):
        value = word_level_discrimination(regions, words(key, lengths), padding(lengths), own)
        assert_golden(value, "mg_gan_losses", name)


@pytest.fixture(scope="module")
def image_encoder():
    return fill(InceptionEncoder(), IMAGE_ENCODER).eval().requires_grad_(False)


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_discriminator_loss(scale, image_encoder):
    size = SIZES[scale]
    network = fill(Discriminator(size, width=8), discriminator(size)).train()
    sentence = tensor("loss/sent_emb", (4, 256))
    real, fake = (image(f"d/{kind}{size}", 4, size) for kind in ("real", "fake"))
    loss = discriminator_loss(network, real, fake, sentence, sentence)
    # The published total adds the mean of two word-level terms, which have no gradient.
    regions, _ = image_encoder(real)
    own = word_level_discrimination(regions, words("loss/words_embs", LENGTHS), padding(LENGTHS), True)
    wrong = word_level_discrimination(regions, words("loss/wrong_words", WRONG_LENGTHS), padding(WRONG_LENGTHS), False)
    wanted = stored_value("mg_gan_losses", f"D{scale}/errD") - ((own + wrong) / 2).item()
    assert abs(loss.total.item() - wanted) <= 1e-9 * wanted
    loss.total.backward()
    assert_golden_gradients(network, discriminator(size), "mg_gan_losses", f"D{scale}/grad/")


@pytest.mark.parametrize("stage", ["G", "DCM"])
def test_generator_loss(stage, image_encoder):
    sentence, word = tensor("loss/sent_emb", (4, 256)), words("loss/words_embs", LENGTHS)
    vgg = fill(VGGFeatures(), VGG)
    scales = (0, 1, 2) if stage == "G" else (2,)
    fakes = [image(f"d/fake{SIZES[i]}", 4, SIZES[i]).requires_grad_() for i in scales]
    networks = [fill(Discriminator(size, width=8), discriminator(size)).train() for size in SIZES]
    total = sum(generator_adversarial(networks[i], x, sentence).total for i, x in zip(scales, fakes, strict=True))
    regions, code = image_encoder(fakes[-1])
    matching = words_loss(regions, word, padding(LENGTHS), CLASS_IDS).total
    total = total + 5.0 * (matching + sentence_loss(code, sentence, CLASS_IDS).total)
    reals = [image(f"d/real{SIZES[i]}", 4, SIZES[i]) for i in scales]
    if stage == "G":
        pairs = zip(reals, fakes, strict=True)
        total = total + 2 * sum(perceptual_loss(vgg(real).detach(), vgg(fake)) for real, fake in pairs) / 3
    else:
        total = total - mean_difference(reals[0], fakes[0])
    assert_golden(total, "mg_gan_losses", "G/errG" if stage == "G" else "DCM/errC")
    gradients = torch.autograd.grad(total, fakes)
    for i, gradient in zip(scales, gradients, strict=True):
        assert_golden(gradient, "mg_gan_losses", f"G/grad_fake{i}" if stage == "G" else "DCM/grad_fake")
