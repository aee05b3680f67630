"""The networks: shapes at every size, published sizes, padding, precision, memory format, reproducible starts."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from tmgan.models import (
    Discriminator,
    Generator,
    ImageFeatures,
    InceptionEncoder,
    PhotoEncoder,
    SmallEncoder,
    TextEncoder,
    VGGFeatures,
    init_frozen,
    init_weights,
    layers,
)
from tmgan.models.attention import ChannelAttention, SpatialAttention
from tmgan.models.layers import UpBlock, fold_batch_norms
from tmgan.models.published_names import IMAGE_ENCODER, LIGHTWEIGHT, TEXT_ENCODER, discriminator, published_key
from tmgan.models.stages import resize_regions

LENGTHS = torch.tensor([5, 3, 4])


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


SMALL = {
    "width": 4,
    "sentence_dim": 8,
    "word_dim": 8,
    "condition_dim": 5,
    "noise_dim": 6,
    "code_dim": 8,
    "region_dim": 8,
    "perceptual_dim": 7,
    "residual_blocks": 1,
    "affine_dim": 8,
}


def _small(image_size=64, attention="own", keep_input=False):
    network = Generator(image_size, attention=attention, keep_input=keep_input, **SMALL)
    init_weights(network, _generator())
    return network


def _inputs(image_size=64, width=5, grid=None, dtype=torch.float32):
    """Generator inputs; captions of LENGTHS padded to `width` with words that must not matter."""
    draw = _generator(1)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

    padding = torch.arange(width) >= LENGTHS[:, None]
    grid = grid or image_size // 8
    inputs = {
        "noise": normal(3, 6),
        "sentence": normal(3, 8),
        "eps": normal(3, 5),
        "features": ImageFeatures(
            normal(3, 8, grid, grid), normal(3, 8), normal(3, 7, image_size // 2, image_size // 2)
        ),
        "image": normal(3, 3, image_size, image_size).clamp(-1, 1),
        "words": normal(3, 8, 5),
        "padding": padding,
    }
    inputs["words"] = F.pad(inputs["words"], (0, width - 5)).masked_fill(padding[:, None], 0.3)
    return inputs


# ---------------------------------------------------------------- generator


@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_generator_shapes(image_size):
    out = _small(image_size)(**_inputs(image_size, grid=17))
    assert out.image.shape == (3, 3, image_size, image_size)
    assert out.image.abs().max() <= 1
    assert out.attention.shape == (3, 5, image_size // 4, image_size // 4)
    assert out.mu.shape == out.logvar.shape == (3, 5)
    assert out.keep_logits is None


@pytest.mark.parametrize("width", [9, 18, 25])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_edit_does_not_depend_on_the_padding(width, mode):
    network = _small().double().train(mode == "train")
    short = network(**_inputs(dtype=torch.float64))
    padded = network(**_inputs(width=width, dtype=torch.float64))
    torch.testing.assert_close(padded.image, short.image, rtol=0, atol=1e-12)
    torch.testing.assert_close(padded.attention[:, :5], short.attention, rtol=0, atol=1e-12)
    assert padded.attention[:, 5:].abs().max() == 0


def test_published_attention_does_depend_on_the_padding():
    network = _small(attention="published").eval()
    difference = network(**_inputs()).image - network(**_inputs(width=18)).image
    assert difference.abs().max() > 1e-3


def test_published_spatial_mask_reads_another_sample():
    attend = SpatialAttention(4, 8, as_published=True)
    h, words = torch.randn(3, 4, 2, 3, generator=_generator()), torch.randn(3, 8, 5, generator=_generator(1))
    padding = torch.arange(5) >= LENGTHS[:, None]
    attention = attend(h, words, padding)[1].flatten(2)
    for sample in range(3):
        for position in range(6):
            other = (sample * 6 + position) % 3
            assert torch.equal(attention[sample, :, position] == 0, padding[other])


@pytest.mark.parametrize("as_published", [False, True])
def test_channel_attention_gives_padding_nothing(as_published):
    attend = ChannelAttention(3, 8, as_published)
    h, words = torch.randn(3, 4, 3, 3, generator=_generator()), torch.randn(3, 8, 5, generator=_generator(1))
    padding = torch.arange(5) >= LENGTHS[:, None]
    context, attention = attend(h, words, padding)
    assert context.shape == h.shape
    torch.testing.assert_close(attention.sum(2), torch.ones(3, 4))
    on_padding = attention.masked_select(padding[:, None])
    assert (on_padding > 0).all() if as_published else (on_padding == 0).all()


@pytest.mark.parametrize("keep_input", [False, True])
def test_every_generator_parameter_learns(keep_input):
    network = _small(keep_input=keep_input)
    out = network(**_inputs())
    (out.image.sum() + out.mu.sum() + out.logvar.sum()).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_keep_input_mixes_the_photo_in():
    network, inputs = _small(keep_input=True).eval(), _inputs()
    out = network(**inputs)
    assert out.keep_logits.shape == (3, 1, 64, 64)
    assert 0.03 < out.keep_logits.sigmoid().mean() < 0.3  # starts mostly as paint
    with torch.no_grad():
        network.keep_bias.fill_(50.0)
        torch.testing.assert_close(network(**inputs).image, inputs["image"])
        network.keep_bias.fill_(-50.0)
        painted = network(**inputs).image
        inputs["image"] = -inputs["image"]
        torch.testing.assert_close(network(**inputs).image, painted)


def test_keep_input_asks_for_the_photo():
    inputs = _inputs() | {"image": None}
    with pytest.raises(ValueError, match="pass image="):
        _small(keep_input=True)(**inputs)


@pytest.mark.parametrize("arguments", [{"image_size": 96}, {"image_size": 64, "attention": "paper"}])
def test_generator_refuses_unknown_settings(arguments):
    with pytest.raises(ValueError, match="use"):
        Generator(**arguments)


def test_resize_regions_follows_the_rounded_up_factor():
    grid = torch.arange(17.0).expand(1, 1, 17, 17)
    columns = resize_regions(grid, 32)[0, 0, 5].int().tolist()
    assert columns == [int(i / 1.9 + 1e-9) for i in range(32)]
    rows = resize_regions(grid.transpose(2, 3), 32)[0, 0, :, 5].int().tolist()
    assert rows == columns
    by_torch = F.interpolate(grid, scale_factor=1.9, mode="nearest", recompute_scale_factor=False)
    assert torch.equal(resize_regions(grid, 32), by_torch)
    same = torch.rand(2, 3, 8, 8, generator=_generator())
    assert resize_regions(same, 8) is same


@pytest.mark.parametrize("make", [_small, lambda: Discriminator(64, width=4, sentence_dim=8)])
def test_networks_agree_in_both_memory_formats_and_in_bf16(make):
    network = make()
    init_weights(network, _generator())
    network.eval()
    inputs = _inputs()

    def run(image_format=torch.contiguous_format):
        if isinstance(network, Generator):
            features = ImageFeatures(
                *(x.contiguous(memory_format=image_format) if x.dim() == 4 else x for x in inputs["features"])
            )
            return network(**(inputs | {"features": features})).image
        features = network(inputs["image"].contiguous(memory_format=image_format))
        return torch.cat([network.conditional(features, inputs["sentence"]), network.unconditional(features)])

    with torch.no_grad():
        plain = run()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = run()
        network.to(memory_format=torch.channels_last)
        torch.testing.assert_close(run(torch.channels_last), plain, rtol=1e-4, atol=1e-4)
    error = (half.float() - plain).norm() / plain.norm()
    assert 0 < error < 0.05
    assert not isinstance(network, Generator) or half.dtype == torch.float32


def test_generator_compiles_without_a_graph_break():
    network = _small(keep_input=True).eval()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    assert torch.equal(compiled(**_inputs()).image, network(**_inputs()).image)


# ------------------------------------------------------------ layers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_leaky_relu_as_a_compiler_gets_it_is_torchs(dtype):
    edges = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), 1e-30, -1e-30, -3.0])
    values = torch.cat([edges, torch.randn(200, generator=torch.Generator().manual_seed(0))]).to(dtype)
    weights = torch.randn(207, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = []
    for function in (lambda x: F.leaky_relu(x, 0.2), layers._LeakyReLU.apply):
        x = values.clone().requires_grad_()
        y = function(x)
        found.append((y, *torch.autograd.grad(y, x, weights)))
    for torchs, ours in zip(*found, strict=True):
        assert ours.dtype == dtype and torch.equal(torchs, ours)
    assert layers._LeakyReLU.apply(torch.tensor(float("nan"), dtype=dtype)).isnan()


# ------------------------------------------------------------ discriminator


@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_discriminator_shapes(image_size):
    network = Discriminator(image_size, width=2, sentence_dim=8)
    features = network(torch.zeros(3, 3, image_size, image_size))
    assert features.shape == (3, 16, 4, 4)
    assert network.conditional(features, torch.zeros(3, 8)).shape == (3,)
    assert network.unconditional(features).shape == (3,)


def test_discriminator_refuses_unknown_sizes():
    with pytest.raises(ValueError, match="64, 128 or 256"):
        Discriminator(100)


# ---------------------------------------------------- published bookkeeping


def _count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_sizes_and_names():
    with torch.device("meta"):
        generator, text, image = Generator(256), TextEncoder(5450), InceptionEncoder()
        discriminators = [Discriminator(size) for size in (64, 128, 256)]
    assert _count(generator) == 15_809_840
    assert [_count(d) for d in discriminators] == [6_313_730, 19_424_002, 71_858_946]
    assert _count(text) == 2_075_320
    assert _count(image) == 22_506_720
    assert sum(p.numel() for p in image.parameters() if p.requires_grad) == 721_152
    for module, names, entries in (
        (generator, LIGHTWEIGHT, 45),
        *zip(discriminators, map(discriminator, (64, 128, 256)), (29, 41, 53), strict=True),
        (text, TEXT_ENCODER, 9),
        (image, IMAGE_ENCODER, 567),
    ):
        assert len({published_key(key, names) for key in module.state_dict()}) == entries


def test_published_key_prefers_the_longer_prefix():
    assert published_key("affine.hidden.weight", LIGHTWEIGHT) == "ACM.conv.weight"
    assert published_key("start_norm.running_var", LIGHTWEIGHT) == "h_net1.fc.1.running_var"
    with pytest.raises(KeyError):
        published_key("other.weight", TEXT_ENCODER)


# -------------------------------------------------------------------- text


def _packed(encoder, tokens, lengths):
    """The same weights in PyTorch's own packed bidirectional LSTM."""
    lstm = torch.nn.LSTM(encoder.word_dim, encoder.dim // 2, batch_first=True, bidirectional=True)
    state = encoder.forwards.state_dict()
    lstm.load_state_dict(state | {f"{k}_reverse": v for k, v in encoder.backwards.state_dict().items()})
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        encoder.embedding(tokens), lengths, batch_first=True, enforce_sorted=False
    )
    states, (last, _) = lstm(packed)
    words, _ = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=tokens.shape[1])
    return words.transpose(1, 2), torch.cat([last[0], last[1]], dim=1)


def _captions(width=7):
    tokens = torch.randint(1, 20, (3, width), generator=_generator())
    return tokens.masked_fill(torch.arange(width) >= LENGTHS[:, None], 0)


def test_text_encoder_equals_a_packed_bidirectional_lstm():
    encoder = TextEncoder(20, dim=12, word_dim=6)
    init_weights(encoder, _generator())
    words, sentence = encoder(_captions(), LENGTHS)
    packed_words, packed_sentence = _packed(encoder, _captions(), LENGTHS)
    torch.testing.assert_close(words, packed_words)
    torch.testing.assert_close(sentence, packed_sentence)
    assert words.shape == (3, 12, 7)
    for sample, length in enumerate(LENGTHS):
        assert (words[sample, :, length:] == 0).all()


def test_text_encoder_ignores_padding():
    encoder = TextEncoder(20, dim=12, word_dim=6)
    short, long = encoder(_captions(5), LENGTHS), encoder(F.pad(_captions(5), (0, 13), value=7), LENGTHS)
    torch.testing.assert_close(long[0][:, :, :5], short[0])
    torch.testing.assert_close(long[1], short[1])


def test_text_dropout_is_the_callers():
    encoder = TextEncoder(20, dim=12, word_dim=6).train()
    scale = torch.full((3, 7, 6), 2.0)
    scale[:, :, ::2] = 0
    # Dropping the same entries everywhere equals an embedding table without them, the rest doubled.
    thinned = copy.deepcopy(encoder)
    with torch.no_grad():
        thinned.embedding.weight.mul_(2.0)[:, ::2] = 0
    for a, b in zip(encoder(_captions(), LENGTHS, scale), thinned(_captions(), LENGTHS), strict=True):
        torch.testing.assert_close(a, b)


def test_text_encoder_keeps_full_precision_under_autocast():
    encoder = TextEncoder(20, dim=12, word_dim=6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(_captions(), LENGTHS)
    for a, b in zip(half, encoder(_captions(), LENGTHS), strict=True):
        assert torch.equal(a, b)


def test_text_encoder_reads_no_length_on_the_host():
    # Fake tensors have no values: reading one (a packed sequence, .item(), an if) raises.
    with FakeTensorMode():
        words, _ = TextEncoder(20, dim=12, word_dim=6)(torch.ones(3, 7, dtype=torch.int64), torch.tensor([5, 3, 4]))
    assert words.shape == (3, 12, 7)


def test_text_encoder_refuses_an_odd_dim():
    with pytest.raises(ValueError, match="even"):
        TextEncoder(20, dim=7)


# ------------------------------------------------------------------ photos


def test_small_photo_encoder():
    encoder = PhotoEncoder(SmallEncoder(64, dim=12, width=6))
    init_weights(encoder, _generator())
    encoder.eval()
    photo = torch.rand(2, 3, 64, 64, generator=_generator()) * 2 - 1
    features = encoder.features(photo)
    assert (encoder.dim, encoder.perceptual_dim) == (12, 6)
    assert features.regions.shape == (2, 12, 8, 8)
    assert features.code.shape == (2, 12)
    assert features.perceptual.shape == (2, 6, 32, 32)
    without = encoder.features(photo, code=False)
    assert torch.equal(without.regions, features.regions) and without.code.shape == (2, 0)
    regions, code = encoder.regions_and_code(photo)
    assert torch.equal(regions, features.regions)
    assert torch.equal(code, features.code)
    assert torch.equal(encoder.perceptual(photo), features.perceptual)


@pytest.fixture(scope="module")
def inception():
    encoder = PhotoEncoder(InceptionEncoder(dim=12), VGGFeatures())
    init_frozen(encoder.matcher.trunk, _generator())
    init_frozen(encoder.perceptor, _generator())
    encoder.matcher.init_heads(_generator())
    return encoder


def test_inception_photo_encoder(inception):
    photo = (torch.rand(2, 3, 64, 64, generator=_generator()) * 2 - 1).requires_grad_()
    features = inception.train().features(photo)
    assert (inception.dim, inception.perceptual_dim) == (12, 128)
    assert features.regions.shape == (2, 12, 17, 17)
    assert features.code.shape == (2, 12)
    assert features.perceptual.shape == (2, 128, 32, 32)
    # Random weights must keep the signal alive through the depth, and let a gradient back to the image.
    assert 1e-3 < features.regions.std() < 1e3
    assert features.code.std() > 1e-3
    seen = []
    handle = inception.matcher.trunk["Mixed_7c"].register_forward_hook(lambda *_: seen.append(1))
    without = inception.features(photo, code=False)
    assert torch.equal(without.regions, features.regions) and without.code.shape == (2, 0) and not seen
    inception.features(photo)
    handle.remove()
    assert seen
    features.code.sum().backward()
    assert photo.grad.abs().sum() > 0
    assert inception.matcher.code_head.weight.grad is not None
    assert all(p.grad is None for p in inception.matcher.trunk.parameters())
    assert all(p.grad is None for p in inception.perceptor.parameters())


def test_frozen_trunk_stays_in_eval_mode(inception):
    def modes(encoder):
        return {m.training for m in encoder.trunk.modules() if isinstance(m, torch.nn.BatchNorm2d)}

    assert modes(inception.matcher.train()) == {False}
    with torch.device("meta"):
        published = InceptionEncoder(batch_statistics=True)
    assert modes(published.train()) == {True}
    assert modes(published.eval()) == {False}


def test_pretrained_weights_are_loaded_by_torchvision_names(inception):
    trunk = {k: torch.full_like(v, 0.25) for k, v in inception.matcher.trunk.state_dict().items()}
    encoder = InceptionEncoder(dim=12)
    encoder.load_trunk(trunk | {"fc.weight": torch.zeros(1), "AuxLogits.conv0.conv.weight": torch.zeros(1)})
    assert encoder.trunk["Mixed_7c"].branch1x1.conv.weight.mean() == 0.25
    with pytest.raises(RuntimeError, match="Missing key"):
        encoder.load_trunk({k: v for k, v in trunk.items() if "Mixed_7c" not in k})

    vgg = {f"features.{k}": torch.full_like(v, 0.5) for k, v in inception.perceptor.layers.state_dict().items()}
    perceptor = VGGFeatures()
    perceptor.load_trunk(vgg | {"features.10.weight": torch.zeros(1), "classifier.0.weight": torch.zeros(1)})
    assert perceptor.layers["7"].bias.mean() == 0.5


def test_vgg_equals_torchvision(inception):
    from torchvision.models import vgg16

    with torch.device("meta"):
        whole = vgg16()
    reference = whole.features[:9].to_empty(device="cpu")
    init_frozen(reference, _generator())
    ours = VGGFeatures()
    ours.load_trunk({f"features.{k}": v for k, v in reference.state_dict().items()})
    photo = torch.rand(1, 3, 32, 32, generator=_generator())
    torch.testing.assert_close(ours(photo), reference(photo))


def test_photo_encoder_refuses_odd_couples():
    with pytest.raises(ValueError, match="SmallEncoder alone"):
        PhotoEncoder(SmallEncoder(64), VGGFeatures())
    with pytest.raises(ValueError, match="multiple of 16"):
        SmallEncoder(72)


# -------------------------------------------------------------------- init


@pytest.mark.parametrize(
    "make", [_small, lambda: Discriminator(64, width=4), lambda: TextEncoder(20, 12, 6), lambda: SmallEncoder(64, 8, 4)]
)
def test_init_depends_on_the_generator_alone(make):
    def start(global_seed, seed):
        torch.manual_seed(global_seed)
        module = make()
        init_weights(module, _generator(seed))
        return module.state_dict()

    first, second, third = start(1, 5), start(2, 5), start(1, 6)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], third[k]) for k in first)


def test_init_is_as_published():
    up, norm = UpBlock(16, 4), torch.nn.BatchNorm2d(4000)
    init_weights(torch.nn.Sequential(up, norm), _generator())
    flat = up.conv.weight.flatten(1)
    torch.testing.assert_close(flat @ flat.t(), torch.eye(8), atol=1e-5, rtol=0)
    assert abs(norm.weight.mean() - 1) < 2e-3
    assert abs(norm.weight.std() - 0.02) < 2e-3
    discriminator = Discriminator(64, width=2)
    init_weights(discriminator, _generator())
    assert 0 < discriminator.conditional_logit.bias.abs() <= 1 / 16  # PyTorch's bound for 16 * 4 * 4 inputs
    encoder = InceptionEncoder(dim=16)
    encoder.init_heads(_generator())
    assert 0.09 < encoder.code_head.weight.abs().max() <= 0.1
    text = TextEncoder(50, 32, 10)
    init_weights(text, _generator())
    assert 0.09 < text.embedding.weight.abs().max() <= 0.1
    assert 0.24 < text.forwards.weight_hh_l0.abs().max() <= 0.25


def test_folded_inception_equals_the_one_it_was_made_from(inception):
    """Joined 1x1 convolutions, bias and ReLU behind the pooling: features, and the gradient of the picture."""
    whole = copy.deepcopy(inception).eval().double()
    with torch.no_grad():
        for norm in (m for m in whole.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.weight.copy_(torch.randn(norm.weight.shape, generator=_generator()))  # of either sign
            norm.bias.copy_(torch.randn(norm.bias.shape, generator=_generator()))
    folded = fold_batch_norms(copy.deepcopy(whole))
    photo = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=_generator(), requires_grad=True)
    results = []
    for encoder in (whole, folded):
        features = encoder.features(photo)
        (gradient,) = torch.autograd.grad(sum(x.square().mean() for x in features), photo)
        results.append([*features, gradient])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
