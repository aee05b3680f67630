"""The rewrites that the ablation measures, and the published step it compares with, compute what tmgan computes."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from benchmarks.step import frozen_relu, rewrites
from benchmarks.step.published import PublishedStep
from tests.training import steps
from tmgan.config.methods import BlurConfig, MethodConfig
from tmgan.config.runtime import decide
from tmgan.config.settings import EncoderConfig, ModelConfig, RuntimeConfig, TextConfig, TrainConfig
from tmgan.models.discriminator import Discriminator
from tmgan.models.layers import fold_batch_norms, init_weights
from tmgan.training.bench import synthetic_step
from tmgan_kernels import instance_norm_glu


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def agree(ours, other, inputs) -> None:
    """Values and gradients of two functions of `inputs`."""
    one, two = ours(*inputs), other(*inputs)
    torch.testing.assert_close(one, two)
    weights = torch.randn_like(one)
    for a, b in zip(torch.autograd.grad(one, inputs, weights), torch.autograd.grad(two, inputs, weights), strict=True):
        torch.testing.assert_close(a, b)


def test_phase_convolution():
    agree(
        rewrites.phase_convolution,
        lambda x, w: F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), w, padding=1),
        [double(2, 3, 5, 6), double(4, 3, 3, 3)],
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fourfold_up_block(layout):
    x, weight = double(2, 3, 5, 6), double(4, 3, 3, 3)
    agree(
        lambda x, w: rewrites.fourfold_up_block(x.contiguous(memory_format=layout), w),
        lambda x, w: instance_norm_glu(F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), w, padding=1)),
        [x, weight],
    )
    out = rewrites.fourfold_up_block(x.contiguous(memory_format=torch.channels_last), weight)
    assert out.is_contiguous(memory_format=torch.channels_last), "the next convolution would copy it"


def test_fourfold_phases_are_normalised_where_they_lie(monkeypatch):
    """In channels_last, nothing is copied between the convolution and the normalisation."""
    seen = []
    monkeypatch.setattr(rewrites.layers, "instance_norm_glu", lambda x: seen.append(x) or instance_norm_glu(x))
    convolve = F.conv2d
    monkeypatch.setattr(rewrites.F, "conv2d", lambda *args, **how: seen.append(convolve(*args, **how)) or seen[-1])
    rewrites.fourfold_up_block(double(2, 3, 5, 6).contiguous(memory_format=torch.channels_last), double(4, 3, 3, 3))
    assert seen[0].data_ptr() == seen[1].data_ptr() and seen[1].shape == (2, 4, 5, 24)


@pytest.mark.parametrize("channels", [4, 8])
@pytest.mark.parametrize(
    ("shape", "bias"), [((5, 3, 3, 3), True), ((3, 6, 3, 3), False), ((4, 6, 3, 3), True), ((3, 3, 1, 1), True)]
)
def test_padded_convolution(channels, shape, bias):
    conv = torch.nn.Conv2d(shape[1], shape[0], shape[2], stride=2, padding=1, bias=bias)
    padded = rewrites.padded_convolution(channels)
    inputs = [double(2, shape[1], 7, 6), double(*shape), *([double(shape[0])] if bias else [])]
    agree(lambda x, w, b=None: padded(conv, x, w, b), lambda x, w, b=None: F.conv2d(x, w, b, 2, 1), inputs)


def test_frozen_networks_with_padded_channels(monkeypatch):
    """Inception's first convolution and VGG's: features, and the gradient of the image."""
    photo = steps.thin_published_encoder(monkeypatch).double().eval()
    image = double(2, 3, 64, 64)

    def features(image):
        found = photo.features(image)
        return torch.cat([found.regions.flatten(), found.code.flatten(), found.perceptual.flatten()])

    def padded(image):
        with rewrites.rewritten("3 channels padded to 8"):
            return features(image)

    agree(features, padded, [image])


def test_composed_convolution():
    agree(
        rewrites.composed_convolution,
        lambda x, a, b: F.conv2d(F.conv2d(x, a, padding=1), b, padding=1),
        [double(2, 3, 9, 8), double(5, 3, 3, 3), double(4, 5, 3, 3)],
    )


def test_the_trunk_in_one_pass_keeps_each_groups_statistics():
    discriminator = Discriminator(64, 4, 8)
    init_weights(discriminator, torch.Generator().manual_seed(0))
    one, two = discriminator.double(), copy.deepcopy(discriminator)
    images = [torch.randn(3, 3, 64, 64, dtype=torch.float64) * scale for scale in (1, 3)]
    together, apart = rewrites.trunk_together(one, images), [two(x) for x in images]
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b)
    for features in (together, apart):
        sum(x.square().sum() for x in features).backward()
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)
    for (name, a), b in zip(one.named_buffers(), two.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("name", rewrites.REWRITES)
def test_a_step_with_a_rewrite_is_the_same_step(name):
    preset = "sad9" if "discriminator" in name else "lightweight"
    exact = steps.losses_and_gradients(*steps.in_double(*steps.make(preset)))
    with rewrites.rewritten(name):
        other = steps.losses_and_gradients(*steps.in_double(*steps.make(preset)))
    for one, two in zip(exact, other, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


def test_frozen_networks_with_bias_and_relu_together(monkeypatch):
    """Features and the gradient of the picture; on a CPU the operator is the two operations, so this holds the rest."""
    photo = fold_batch_norms(steps.thin_published_encoder(monkeypatch).eval().requires_grad_(False).double())
    image = double(2, 3, 64, 64)

    def together(x):
        with frozen_relu.together():
            return flat(x)

    def flat(x):
        return torch.cat([x.flatten() for x in photo.features(x)])

    agree(together, flat, [image])
    torch.library.opcheck(
        torch.ops.tmgan_rewrites.conv_relu.default,
        (
            torch.randn(2, 3, 9, 8).to(memory_format=torch.channels_last),
            torch.randn(4, 3, 3, 3),
            torch.randn(4),
            [2, 2],
            [1, 1],
        ),
    )
    frozen_relu.check(torch.device("cpu"))


def test_flat_gradients_are_the_gradients():
    step, batch = steps.make("quickstart")
    flat = {name: rewrites.flat_gradients(getattr(step, name)) for name in ("generator", "discriminator")}
    _, views = steps.losses_and_gradients(step, batch)
    _, apart = steps.losses_and_gradients(*steps.make("quickstart"))
    for name, gradient in apart.items():
        torch.testing.assert_close(views[name], gradient)
    for name, buffer in flat.items():
        squares = sum(g.square().sum() for key, g in apart.items() if key.startswith(name))
        torch.testing.assert_close(buffer.square().sum(), squares)


class Masks(torch.nn.Module):
    """Stands in for the segmentation network: logits that call a fixed half a bird."""

    def forward(self, x):
        bird = torch.zeros(len(x), 21, *x.shape[2:])
        bird[:, 3, :, : x.shape[3] // 2] = 1
        return {"out": bird}


def test_the_published_step_has_the_same_losses(monkeypatch):
    """The paper's combined method at thin widths: same weights, same batch, one step each."""
    import tmgan.models.encoders.inception as inception

    monkeypatch.setattr(inception, "INPUT_SIZE", 75)
    method = MethodConfig(
        keep_mask="fcn", wrong_pairs="published", blur=BlurConfig(sizes=(9,), kind="grey", border="zeros")
    )
    config = TrainConfig(
        batch=3,
        method=method,
        text=TextConfig(words=6),
        encoder=EncoderConfig(dim=16, word_dim=8),
        model=ModelConfig(image_size=64, g_width=4, d_width=4, affine_dim=8, condition_dim=8, noise_dim=4),
    )
    synthetic = synthetic_step(config, decide(RuntimeConfig(device="cpu", threads=1)))
    lengths, order = synthetic.batch.lengths.sort(descending=True)
    assert not torch.equal(order, torch.arange(3)), "a batch sorted as it was would show less"
    rows = {f.name: getattr(synthetic.batch, f.name) for f in dataclasses.fields(synthetic.batch)}
    batch = type(synthetic.batch)(**{name: x if x is None else x[order] for name, x in rows.items()})
    published = PublishedStep(
        synthetic.step.generator,
        synthetic.step.discriminator,
        synthetic.text,
        synthetic.photo,
        config.loss,
        config.optim,
        Masks(),
        blur=True,
    )
    batch = dataclasses.replace(
        batch,
        keep=published.keep_mask(batch.images),
        class_ids=torch.tensor([4, 4, 5]),
        target_class_ids=torch.tensor([4, 4, 5]),
    )
    theirs, ours = published(batch), synthetic.step(batch, 0)
    weight = {"words": 5.0, "sentence": 5.0}
    assert theirs["d_pairs"] + theirs["d_blurred"] == pytest.approx(ours["d"].item(), rel=1e-5)
    for name in ("d_blurred", "g_adv", "words", "sentence", "perceptual", "kl", "masked_mae"):
        ours_weighted = weight.get(name, 1.0) * ours[name].item()
        assert theirs[name] == pytest.approx(ours_weighted, rel=2e-4 if name == "g_adv" else 1e-5), name
