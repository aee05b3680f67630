"""Parity with the published code, in float64, to 1e-9: forwards, gradients, and batch normalisation buffers."""

import pytest
import torch

from tests.golden import (
    CHANNEL_ATTENTION,
    CLASS_IDS,
    LENGTHS,
    SPATIAL_ATTENTION,
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
from tmgan.losses.adversarial import discriminator_loss, generator_adversarial, kl_loss
from tmgan.losses.matching import sentence_loss, word_attention, word_level_correlation, words_loss
from tmgan.losses.perceptual import perceptual_loss
from tmgan.models import Discriminator, Generator, InceptionEncoder, TextEncoder, VGGFeatures
from tmgan.models.attention import ChannelAttention, SpatialAttention
from tmgan.models.published_names import IMAGE_ENCODER, LIGHTWEIGHT, TEXT_ENCODER, discriminator

D_NET256 = discriminator(256)


def test_text_encoder():
    encoder = fill(TextEncoder(60), TEXT_ENCODER)
    for name, key, lengths in (("cap", "captions", LENGTHS), ("wrong", "wrong_captions", WRONG_LENGTHS)):
        tokens = captions(key, lengths)[:, : max(lengths)]
        word, sentence = encoder(tokens, torch.tensor(lengths))
        assert_golden(word, "lw_text_encoder", f"{name}/words_embs")
        assert_golden(sentence, "lw_text_encoder", f"{name}/sent_emb")
        if name == "cap":
            loss = (word * tensor("te/Pw", word.shape)).sum() + (sentence * tensor("te/Ps", sentence.shape)).sum()
            loss.backward()
            assert_golden_gradients(encoder, TEXT_ENCODER, "lw_text_encoder", "grad/")


@pytest.fixture(scope="module")
def image_encoder():
    return fill(InceptionEncoder(), IMAGE_ENCODER).eval()


def test_image_encoder(image_encoder):
    photo = image("ie/img", 2).requires_grad_()
    regions, code = image_encoder(photo)
    assert_golden(regions, "lw_image_encoder", "eval/region")
    assert_golden(code, "lw_image_encoder", "eval/cnn_code")
    loss = (regions * tensor("ie/Pf", regions.shape)).sum() + (code * tensor("ie/Pc", code.shape)).sum()
    (gradient,) = torch.autograd.grad(loss, photo)
    assert_golden(gradient, "lw_image_encoder", "eval/grad_input")
    with torch.no_grad():
        for size in (64, 128):
            assert_golden(image_encoder(image(f"ie/img{size}", 2, size))[1], "lw_image_encoder", f"eval{size}/cnn_code")


def test_image_encoder_with_batch_statistics():
    encoder = fill(InceptionEncoder(batch_statistics=True), IMAGE_ENCODER).train()
    with torch.no_grad():
        regions, code = encoder(image("ie/img", 2))
    assert_golden(regions, "lw_image_encoder", "train/region")
    assert_golden(code, "lw_image_encoder", "train/cnn_code")
    for layer in ("Conv2d_1a_3x3.bn", "Mixed_7c.branch_pool.bn"):
        norm = encoder.trunk.get_submodule(layer)
        assert_golden(norm.running_mean, "lw_image_encoder", f"train/{layer}.running_mean")
        assert_golden(norm.running_var, "lw_image_encoder", f"train/{layer}.running_var")


def test_vgg():
    vgg = fill(VGGFeatures(), VGG)
    photo = image("vgg/img", 2).requires_grad_()
    features = vgg(photo)
    assert_golden(features, "lw_vgg", "relu2_2")
    loss = 2 * perceptual_loss(vgg(image("vgg/img2", 2)), features)
    assert_golden(loss, "lw_vgg", "mse")
    (gradient,) = torch.autograd.grad(loss, photo)
    assert_golden(gradient, "lw_vgg", "mse/grad_input")


def test_spatial_attention():
    attend = fill(SpatialAttention(16, 256, as_published=True), SPATIAL_ATTENTION)
    context, attention = attend(tensor("att/h", (4, 16, 32, 32)), words("g/words_embs", LENGTHS), padding(LENGTHS))
    assert_golden(context.flatten(2), "lw_attention", "spatial/context")
    assert_golden(attention, "lw_attention", "spatial/att")


def test_channel_attention():
    spatial = fill(SpatialAttention(16, 256, as_published=True), SPATIAL_ATTENTION)
    channel = fill(ChannelAttention(32, 256, as_published=True), CHANNEL_ATTENTION)
    word = words("g/words_embs", LENGTHS)
    by_position, _ = spatial(tensor("att/h", (4, 16, 32, 32)), word, padding(LENGTHS))
    context, attention = channel(by_position, word, padding(LENGTHS))
    assert_golden(context, "lw_attention", "channel/context")
    assert_golden(attention.transpose(1, 2), "lw_attention", "channel/att")


def test_word_attention():
    regions, word = tensor("fa/context", (2, 256, 17, 17)), tensor("fa/query", (2, 256, 6))
    context, attention = word_attention(regions, word, torch.zeros(2, 6, dtype=torch.bool), gamma1=4.0)
    assert_golden(context, "lw_attention", "func_attention/ctx")
    assert_golden(attention, "lw_attention", "func_attention/att")


@pytest.mark.parametrize("mode", ["train", pytest.param("eval", marks=pytest.mark.slow)])
def test_generator(mode):
    generator = fill(Generator(256, width=8, attention="published"), LIGHTWEIGHT).train(mode == "train")
    seen = {}
    for published, layer in (
        ("imgUpSample1", generator.photo_coarse),
        ("h_net1", generator.up_coarse),
        ("imgUpSample2", generator.photo_fine),
        ("h_net3", generator.up_fine),
        ("ACM", generator.affine),
    ):
        layer.register_forward_hook(lambda _, __, result, name=published: seen.update({name: result.detach()}))
    out = generator(**generator_inputs())
    assert_golden(out.image, "lw_generator", f"{mode}/img")
    assert_golden(out.attention, "lw_generator", f"{mode}/att")
    assert_golden(out.mu, "lw_generator", f"{mode}/mu")
    assert_golden(out.logvar, "lw_generator", f"{mode}/logvar")
    for name, value in seen.items():
        assert_golden(value, "lw_generator", f"{mode}/inter/{name}")
    ((out.image * tensor("g/P", out.image.shape)).sum() + kl_loss(out.mu, out.logvar)).backward()
    assert_golden_gradients(generator, LIGHTWEIGHT, "lw_generator", f"{mode}/grad/")
    if mode == "train":
        for published, norm in (("h_net1.fc.1", generator.start_norm), ("imgUpSample2.1", generator.photo_fine.norm)):
            assert_golden(norm.running_mean, "lw_generator", f"train/buf/{published}.running_mean")
            assert_golden(norm.running_var, "lw_generator", f"train/buf/{published}.running_var")


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_discriminator(mode):
    discriminator = fill(Discriminator(256, width=8), D_NET256).train(mode == "train")
    photo, sentence = image("d/fake", 4).requires_grad_(), tensor("loss/sent_emb", (4, 256))
    features = discriminator(photo)
    conditional = torch.sigmoid(discriminator.conditional(features, sentence))
    unconditional = torch.sigmoid(discriminator.unconditional(features))
    wrong = torch.sigmoid(discriminator.conditional(features[:-1], sentence[1:]))
    assert_golden(features, "lw_discriminator", f"{mode}/feat")
    assert_golden(conditional, "lw_discriminator", f"{mode}/cond")
    assert_golden(unconditional, "lw_discriminator", f"{mode}/uncond")
    assert_golden(wrong, "lw_discriminator", f"{mode}/wrong")
    (conditional.sum() + 2 * unconditional.sum() + 3 * wrong.sum()).backward()
    assert_golden(photo.grad, "lw_discriminator", f"{mode}/grad_input")
    assert_golden_gradients(discriminator, D_NET256, "lw_discriminator", f"{mode}/grad/")
    if mode == "train":
        first, joint = discriminator.down[0].norm, discriminator.joint.norm
        for published, norm in (("img_code_s16.3", first), ("COND_DNET.jointConv.1", joint)):
            assert_golden(norm.running_mean, "lw_discriminator", f"train/buf/{published}.running_mean")
            assert_golden(norm.running_var, "lw_discriminator", f"train/buf/{published}.running_var")


@pytest.mark.parametrize("mode", ["cls", "nocls"])
def test_matching_losses(mode):
    class_ids = CLASS_IDS if mode == "cls" else None
    inputs = {
        "reg": tensor("loss/region_features", (4, 256, 17, 17)),
        "cnn": tensor("loss/cnn_code", (4, 256)),
        "words": words("loss/words_embs", LENGTHS),
        "sent": tensor("loss/sent_emb", (4, 256)),
    }
    for value in inputs.values():
        value.requires_grad_()
    by_words = words_loss(inputs["reg"], inputs["words"], padding(LENGTHS), class_ids)
    by_sentence = sentence_loss(inputs["cnn"], inputs["sent"], class_ids)
    losses = (*by_words[:2], *by_sentence[:2])
    for name, value in zip(("w0", "w1", "s0", "s1"), losses, strict=True):
        assert_golden(value, "lw_damsm_losses", f"{mode}/{name}")
    sum(weight * value for weight, value in zip((1, 2, 3, 4), losses, strict=True)).backward()
    for name, value in inputs.items():
        assert_golden(value.grad, "lw_damsm_losses", f"{mode}/grad_{name}")


def test_attention_maps_of_own_captions():
    regions, word = tensor("loss/region_features", (4, 256, 17, 17)), words("loss/words_embs", LENGTHS)
    attention = word_attention(regions, word, padding(LENGTHS)).attention
    for sample in (0, 3):
        own = attention[sample : sample + 1, : LENGTHS[sample]]
        assert_golden(own, "lw_damsm_losses", f"att_map{sample}")


def test_kl_loss():
    value = kl_loss(tensor("kl/mu", (4, 100)), tensor("kl/logvar", (4, 100)))
    assert_golden(value, "lw_damsm_losses", "KL_loss")


def test_discriminator_loss():
    discriminator = fill(Discriminator(256, width=8), D_NET256).train()
    sentence = tensor("loss/sent_emb", (4, 256))
    loss = discriminator_loss(discriminator, image("d/real", 4), image("d/fake", 4), sentence, sentence)
    # The published total adds the word-level correlation ("result"), which has no gradient; we do not compute it.
    wanted = stored_value("lw_gan_losses", "D/errD") - stored_value("lw_gan_losses", "D/result")
    assert abs(loss.total.item() - wanted) <= 1e-9 * wanted
    loss.total.backward()
    assert_golden_gradients(discriminator, D_NET256, "lw_gan_losses", "D/grad/")


def test_word_level_correlation():
    labels = tensor("word_labels", (4, 18)) > 0.2
    value = word_level_correlation(
        tensor("loss/region_features", (4, 256, 17, 17)),
        words("loss/words_embs", LENGTHS),
        padding(LENGTHS),
        labels[:, : max(LENGTHS)],
    )
    assert_golden(value, "lw_gan_losses", "word_level_correlation")


@pytest.mark.parametrize("mode", ["cls", pytest.param("nocls", marks=pytest.mark.slow)])
def test_generator_loss(mode, image_encoder):
    discriminator = fill(Discriminator(256, width=8), D_NET256).train()
    vgg = fill(VGGFeatures(), VGG)
    class_ids = CLASS_IDS if mode == "cls" else None
    word, sentence = words("loss/words_embs", LENGTHS), tensor("loss/sent_emb", (4, 256))
    fake = image("d/fake", 4).requires_grad_()
    adversarial = generator_adversarial(discriminator, fake, sentence)
    regions, code = image_encoder(fake)
    matching = words_loss(regions, word, padding(LENGTHS), class_ids).total
    matching = matching + sentence_loss(code, sentence, class_ids).total
    with torch.no_grad():
        real_features = vgg(image("d/real", 4))
    total = adversarial.total + 5.0 * matching + perceptual_loss(real_features, vgg(fake))
    assert_golden(total, "lw_gan_losses", f"G_{mode}/errG")
    (gradient,) = torch.autograd.grad(total, fake)
    assert_golden(gradient, "lw_gan_losses", f"G_{mode}/grad_fake")
