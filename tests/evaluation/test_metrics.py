"""Distribution metrics against numpy, scipy, pytorch-fid and definitions written out with loops."""

import math
import types
from itertools import combinations

import numpy as np
import pytest
import pytorch_fid.fid_score
import pytorch_fid.inception
import scipy.linalg
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import nn

from tests.golden import FOLDER, tensor
from tmgan.evaluation.metrics import features
from tmgan.evaluation.metrics import kid as kid_module
from tmgan.evaluation.metrics.fid import frechet_distance
from tmgan.evaluation.metrics.inception_score import inception_score
from tmgan.evaluation.metrics.kid import kid
from tmgan.evaluation.metrics.moments import Moments
from tmgan.models import weights
from tmgan.models.layers import init_frozen


def _features(n, dim=12, seed=0, shift=0.0, scale=1.0):
    """(n, dim) float64, correlated, variances over three decades."""
    mix = torch.randn(dim, dim, generator=torch.Generator().manual_seed(77), dtype=torch.float64)
    mix = mix * torch.logspace(0, -1.5, dim, dtype=torch.float64)
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * rows @ mix + shift


def _moments(rows, batch=7, network="net", protocol="test"):
    moments = Moments(rows.shape[1], network, protocol)
    for part in rows.split(batch):
        moments.add(part)
    return moments


@pytest.fixture
def pytorch_fid_distance(monkeypatch):
    """calculate_frechet_distance of pytorch-fid, which calls scipy with an argument that new versions do not know."""

    def sqrtm(matrix, disp=True):
        root = scipy.linalg.sqrtm(matrix)
        return root if disp else (root, 0.0)

    monkeypatch.setattr(pytorch_fid.fid_score, "linalg", types.SimpleNamespace(sqrtm=sqrtm))
    return pytorch_fid.fid_score.calculate_frechet_distance


# --- moments ---


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_equal_numpy(offset):
    rows = _features(50, shift=offset)
    moments = _moments(rows)
    assert moments.n == 50
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    # With the offset the rows themselves are rounded to 1e-10; sums about zero would leave an error of 1e-3.
    wanted = np.cov(rows.numpy(), rowvar=False)
    np.testing.assert_allclose(moments.covariance, wanted, rtol=0, atol=1e-12 + 1e-15 * offset)


def test_float32_features_are_summed_in_float64():
    rows = _features(4000, dim=3, shift=100.0).float()
    wanted = np.cov(rows.double().numpy(), rowvar=False)
    np.testing.assert_allclose(_moments(rows).covariance, wanted, rtol=0, atol=1e-12)


def test_merged_streams_equal_one_stream():
    rows = _features(40, shift=3.0)
    merged = _moments(rows[:11])
    merged.merge(_moments(rows[11:]))
    merged.merge(Moments(12, "net", "test"))
    np.testing.assert_allclose(merged.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(rows.numpy(), rowvar=False), atol=1e-12)
    assert merged.n == 40


@pytest.mark.parametrize("n", [5, 60])
def test_factor(n):
    moments = _moments(_features(n))
    assert moments.factor.shape == (12, min(12, n - 1))
    torch.testing.assert_close(moments.factor @ moments.factor.T, moments.covariance, rtol=0, atol=1e-12)
    moments.add(_features(9, seed=5))
    torch.testing.assert_close(moments.factor @ moments.factor.T, moments.covariance, rtol=0, atol=1e-12)


def test_saved_moments_come_back(tmp_path):
    rows, path = _features(30), tmp_path / "reals.safetensors"
    moments = _moments(rows, network="inception", protocol="as files")
    moments.save(path)
    back = Moments.load(path)
    assert (back.n, back.network, back.protocol) == (30, "inception", "as files")
    fake = _moments(_features(20, seed=1), network="inception", protocol="as files")
    assert frechet_distance(back, fake) == frechet_distance(moments, fake)
    back.add(rows[:4])
    moments.add(rows[:4])
    torch.testing.assert_close(back.covariance, moments.covariance, rtol=1e-12, atol=0)


def test_loading_reads_the_factor_instead_of_computing_it(tmp_path, monkeypatch):
    _moments(_features(30)).save(tmp_path / "reals")
    back, fake = Moments.load(tmp_path / "reals"), _moments(_features(20, seed=1))
    monkeypatch.delattr(torch.linalg, "eigh")
    assert frechet_distance(back, fake).fid > 0


def test_mistakes_with_moments_end_in_sentences(tmp_path):
    with pytest.raises(ValueError, match=r"0 feature vectors collected, needs 2"):
        _ = Moments(3, "a", "b").covariance
    with pytest.raises(ValueError, match=r"1 feature vector collected"):
        frechet_distance(_moments(_features(9)), _moments(_features(1)))
    with pytest.raises(ValueError, match=r"shape \(2, 5\), expected \(B, 3\)"):
        Moments(3, "a", "b").add(torch.zeros(2, 5))
    with pytest.raises(FloatingPointError):
        Moments(3, "a", "b").add(torch.full((2, 3), math.nan))
    for change in ({"network": "other"}, {"protocol": "other"}):
        for compare in (frechet_distance, Moments.merge):
            with pytest.raises(ValueError, match=f"the {next(iter(change))} is"):
                compare(_moments(_features(9)), _moments(_features(9), **change))
    with pytest.raises(ValueError, match="There is no"):
        Moments.load(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"no statistics")
    with pytest.raises(ValueError, match="is damaged"):
        Moments.load(tmp_path / "bad")


# --- Frechet distance ---


@pytest.mark.parametrize(("n_real", "n_fake", "dim"), [(300, 200, 24), (40, 30, 24)])
def test_frechet_distance_equals_pytorch_fid(pytorch_fid_distance, n_real, n_fake, dim):
    real, fake = _features(n_real, dim), _features(n_fake, dim, seed=1, shift=0.1, scale=1.3)
    result = frechet_distance(_moments(real), _moments(fake))
    wanted = pytorch_fid_distance(
        real.mean(0).numpy(),
        np.cov(real.numpy(), rowvar=False),
        fake.mean(0).numpy(),
        np.cov(fake.numpy(), rowvar=False),
    )
    assert result.fid == pytest.approx(wanted, rel=1e-8)
    assert result.means == pytest.approx((real.mean(0) - fake.mean(0)).square().sum().item(), rel=1e-12)
    assert result.fid == result.means + result.covariances
    assert (result.n_real, result.n_fake) == (n_real, n_fake)


@pytest.mark.parametrize(("n_real", "n_fake"), [(9, 14), (200, 9), (14, 200), (2, 2)])
def test_fewer_vectors_than_dimensions(n_real, n_fake):
    """Against the nuclear norm of the centred features, which loses no digit to the singular covariances."""
    real, fake = _features(n_real, 60), _features(n_fake, 60, seed=1, shift=0.1, scale=1.3)
    a, b = ((rows - rows.mean(0)) / (len(rows) - 1) ** 0.5 for rows in (real, fake))
    parts = a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()
    result = frechet_distance(_moments(real), _moments(fake))
    assert result.covariances == pytest.approx(parts.item(), rel=1e-9)


def test_frechet_distance_of_scaled_covariances():
    """(1 - s)^2 Tr S between a set and itself scaled by s about its mean: the definition, solved by hand."""
    rows = _features(80) - _features(80).mean(0)
    result = frechet_distance(_moments(rows), _moments(1.5 * rows))
    assert result.covariances == pytest.approx(0.25 * _moments(rows).covariance.trace().item(), rel=1e-9)
    assert result.means < 1e-25


def test_frechet_distance_is_a_distance():
    real, fake = _features(70), _features(50, seed=1, shift=0.2)
    there, back = frechet_distance(_moments(real), _moments(fake)), frechet_distance(_moments(fake), _moments(real))
    assert there.fid == pytest.approx(back.fid, rel=1e-9)
    # Relative to Tr S, of which the roots of the eigenvalues keep about 1e-15.
    assert 0 <= frechet_distance(_moments(real), _moments(real)).fid < 1e-12
    shift = torch.linspace(-1, 1, 12, dtype=torch.float64)
    moved = frechet_distance(_moments(real), _moments(real + shift))
    assert moved.fid == pytest.approx(shift.square().sum().item(), rel=1e-9)
    shuffled = fake[torch.randperm(50, generator=torch.Generator().manual_seed(3))]
    assert frechet_distance(_moments(real), _moments(shuffled)).fid == pytest.approx(there.fid, rel=1e-9)


def test_few_pictures_are_noted():
    few, many = _moments(_features(2047, 2), batch=3000), _moments(_features(2048, 2), batch=3000)
    assert "2047 pictures" in frechet_distance(many, few).note
    assert "2047 pictures" in frechet_distance(few, many).note
    assert frechet_distance(many, many).note == ""
    random = _moments(_features(2048, 2), batch=3000, network="random-net")
    assert "random numbers" in frechet_distance(random, random).note


# --- kernel Inception distance ---


def _kid_by_loops(real, fake):
    def kernel(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    def mean_within(rows):
        return np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])

    return mean_within(real) + mean_within(fake) - 2 * np.mean([kernel(x, y) for x in real for y in fake])


@pytest.mark.parametrize("tile", [3, 2048])
def test_kid_equals_the_loop_over_pairs(monkeypatch, tile):
    monkeypatch.setattr(kid_module, "_TILE", tile)
    real, fake = _features(8, 5), _features(7, 5, seed=1, shift=0.3)
    assert kid(real, fake) == pytest.approx(_kid_by_loops(real, fake), rel=1e-12)
    assert kid(real.flip(0), fake) == pytest.approx(kid(real, fake), rel=1e-12)
    assert kid(fake, real) == pytest.approx(kid(real, fake), rel=1e-12)


def test_kid_of_one_distribution_has_mean_zero():
    """What "unbiased" says: over all ways to part seven rows in 4 and 3, the estimates average to exactly zero."""
    rows = _features(7, 4)
    values = []
    for chosen in combinations(range(7), 4):
        rest = [i for i in range(7) if i not in chosen]
        values.append(kid(rows[list(chosen)], rows[rest]))
    assert abs(np.mean(values)) < 1e-13 < min(map(abs, values))
    assert min(values) < 0


def test_kid_computes_in_float64():
    real, fake = _features(40, shift=10.0).float(), _features(30, seed=1, shift=10.0).float()
    assert kid(real, fake) == kid(real.double(), fake.double())


def test_mistakes_with_kid_end_in_sentences():
    with pytest.raises(ValueError, match="needs two or more"):
        kid(_features(5), _features(1))
    with pytest.raises(ValueError, match=r"expected \(N, D\)"):
        kid(_features(5), _features(5, dim=3))
    with pytest.raises(FloatingPointError):
        kid(_features(5), torch.full((5, 12), math.inf))


# --- Inception score ---


@pytest.mark.parametrize("splits", [1, 3, 10])
def test_inception_score_equals_the_published_one(splits):
    with np.load(FOLDER / "au_scores.npz") as archive:
        mean, std = archive[f"f32:IS/splits{splits}"]
    result = inception_score(tensor("is/logits", (96, 1000), 4.0), splits)
    assert result.mean == pytest.approx(mean, rel=1e-6)  # the published code softmaxes in float32
    assert result.std is None if splits == 1 else result.std == pytest.approx(std, rel=1e-4)


def test_inception_score_of_extremes():
    assert inception_score(torch.zeros(30, 7), splits=3) == (pytest.approx(1, rel=1e-12), pytest.approx(0, abs=1e-12))
    assert inception_score(_features(1, 7).expand(20, 7), splits=1).mean == pytest.approx(1, rel=1e-12)
    separated = 1000.0 * F.one_hot(torch.arange(40) % 5, 9)
    result = inception_score(separated.float(), splits=4)  # probabilities that underflow to zero
    assert result == (pytest.approx(5, rel=1e-12), pytest.approx(0, abs=1e-12))


def test_inception_score_leaves_out_the_rest():
    logits = _features(23, 7)
    assert inception_score(logits, 4) == inception_score(logits[:20], 4)
    parts = [inception_score(part, 1).mean for part in logits[:20].split(5)]
    assert inception_score(logits, 4) == (pytest.approx(np.mean(parts)), pytest.approx(np.std(parts, ddof=1)))


def test_mistakes_with_inception_score_end_in_sentences():
    for splits in (0, 24):
        with pytest.raises(ValueError, match=f"{splits} splits of 23 pictures; use 1 to 23"):
            inception_score(_features(23), splits)
    with pytest.raises(ValueError, match=r"expected \(N, classes\)"):
        inception_score(torch.zeros(5))
    with pytest.raises(FloatingPointError):
        inception_score(torch.full((5, 3), math.nan), 1)


# --- networks ---


def _state(network):
    """Random weights as a file would hold them, with batch statistics that are not neutral."""
    generator = torch.Generator().manual_seed(4)
    init_frozen(network, generator)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values, low, high in (
                (layer.weight, 0.8, 1.2),
                (layer.bias, -0.1, 0.2),
                (layer.running_mean, -0.1, 0.1),
                (layer.running_var, 0.5, 1.5),
            ):
                values.data.uniform_(low, high, generator=generator)
    return network.state_dict()


@pytest.fixture(scope="module")
def states():
    """By key of weights.KNOWN, with the names and shapes of the published files."""
    build = torchvision.models.inception_v3
    return {
        "fid_inception": _state(build(weights=None, num_classes=1008, aux_logits=False, init_weights=False)),
        "inception": _state(build(weights=None, init_weights=False)),
    }


@pytest.fixture(scope="module")
def our_network(states):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "load", lambda key, weights_dir: states[key])
        return features.fid_network()


@pytest.fixture
def their_network(states, monkeypatch):
    """pytorch-fid's own network, its download replaced by the same weights."""
    downloaded = states["fid_inception"]
    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda url, progress: downloaded)
    return pytorch_fid.inception.InceptionV3([3])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two folders of six PNG files, and the images in [-1, 1] that were saved to them, before rounding."""
    folders, images = [], []
    for name, low in (("real", -1.1), ("fake", -0.6)):
        generator = torch.Generator().manual_seed(len(images))
        coarse = torch.rand(6, 3, 6, 8, generator=generator) * (1.1 - low) + low  # some outside of [-1, 1]
        batch = F.interpolate(coarse, scale_factor=12, mode="bicubic")
        folder = tmp_path_factory.mktemp(name)
        for i, image in enumerate(((batch + 1) * 127.5).round().clamp(0, 255).byte()):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
        folders.append(folder)
        images.append(batch)
    return folders, images


@pytest.fixture(scope="module")
def our_features(our_network, pictures):
    return [our_network(images) for images in pictures[1]]


def test_features_and_distance_equal_pytorch_fid(their_network, our_features, pictures, pytorch_fid_distance):
    """pytorch-fid on the saved files against ours on the images in memory."""
    files = [sorted(folder.glob("*.png")) for folder in pictures[0]]
    theirs = [pytorch_fid.fid_score.get_activations(f, their_network, batch_size=6, num_workers=0) for f in files]
    for got, wanted in zip(our_features, theirs, strict=True):
        assert got.shape == (6, 2048) and got.dtype == torch.float32
        # Relative to how the pictures differ, not to the features' common part.
        assert np.abs(got.numpy() - wanted).max() < 1e-4 * wanted.std(0).max()
    # scipy needs a minute for the root of a 2048 x 2048 matrix; four combinations of the features show the same.
    few = np.random.RandomState(0).randn(2048, 4) / 45
    mine = frechet_distance(*(_moments(rows.double() @ torch.from_numpy(few)) for rows in our_features))
    statistics = [((rows @ few).mean(0), np.cov(rows @ few, rowvar=False)) for rows in theirs]
    assert mine.fid == pytest.approx(pytorch_fid_distance(*statistics[0], *statistics[1]), rel=1e-4)
    moments = _moments(our_features[0])
    mean, covariance = theirs[0].mean(0), np.cov(theirs[0], rowvar=False)
    assert np.linalg.norm(moments.mean.numpy() - mean) < 1e-4 * np.linalg.norm(mean)
    assert np.linalg.norm(moments.covariance.numpy() - covariance) < 1e-4 * np.linalg.norm(covariance)


@pytest.mark.slow
def test_fid_equals_the_command_line_of_pytorch_fid(their_network, our_features, pictures, pytorch_fid_distance):
    paths = [str(folder) for folder in pictures[0]]
    settings = {"batch_size": 6, "device": "cpu", "dims": 2048, "num_workers": 0}
    wanted = pytorch_fid.fid_score.calculate_fid_given_paths(paths, **settings)
    assert frechet_distance(*map(_moments, our_features)).fid == pytest.approx(wanted, rel=1e-4)


def test_the_network_is_always_in_eval_mode_and_fp32(our_network, our_features, pictures):
    one = pictures[1][0][:1]
    assert not any(module.training for module in our_network.train().modules())
    assert not any(p.requires_grad for p in our_network.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone = our_network(one)
    assert alone.dtype == torch.float32
    torch.testing.assert_close(alone, our_features[0][:1], rtol=1e-4, atol=1e-5)  # bf16: 1e-2


def test_score_network_equals_the_published_path(states, pictures, monkeypatch):
    monkeypatch.setattr(weights, "load", lambda key, weights_dir: states[key])
    network = features.score_network()
    assert (network.name, network.dim) == ("inception-imagenet", 1000)
    reference = torchvision.models.inception_v3(weights=None, transform_input=False, init_weights=False).eval()
    reference.load_state_dict(states["inception"])
    paths = sorted(pictures[0][0].glob("*.png"))[:2]
    loaded = torch.stack([torchvision.transforms.functional.to_tensor(Image.open(path)) for path in paths])
    with torch.no_grad():
        wanted = reference(F.interpolate((loaded - 0.5) / 0.5, (299, 299), mode="bilinear", align_corners=False))
    got = network(pictures[1][0][:2])
    assert (got - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_random_networks_follow_the_seed_and_say_so():
    networks = [features.fid_network("random", seed=seed) for seed in (3, 3, 4)]
    first, again, other = (network.network.Mixed_7c.branch1x1.conv.weight for network in networks)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert [n.name for n in networks[1:]] == [f"random-inception-2015-12-05-seed-{seed}" for seed in (3, 4)]
    assert networks[0].dim == 2048
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        networks[0](torch.zeros(1, 1, 64, 64))
