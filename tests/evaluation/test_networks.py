"""Metrics that need a network of their own: FID, KID, Inception score, LPIPS, MP and CLIP in `evaluate`."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import pytorch_fid.fid_score
import pytorch_fid.inception
import scipy.linalg
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from tmgan.common.progress import Progress
from tmgan.data.crops import centre_crops
from tmgan.evaluation.evaluate import baselines, describe, evaluate
from tmgan.evaluation.metrics import distances, features
from tmgan.evaluation.metrics.distances import cache_folder, reals
from tmgan.evaluation.metrics.edits import make_edits, make_pairs
from tmgan.evaluation.metrics.features import FrozenInception
from tmgan.evaluation.metrics.inception_score import inception_score
from tmgan.evaluation.metrics.kid import kid
from tmgan.evaluation.metrics.lpips import Lpips
from tmgan.evaluation.protocol import Protocol
from tmgan.models import weights
from tmgan_kernels import _verdict

QUIET = Progress(visible=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TMGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class _Tiny(nn.Module):
    """Stands in for Inception: eight features of the resized picture. Counts what it is shown."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=16, bias=False)
        nn.init.normal_(self.conv.weight, generator=torch.Generator().manual_seed(seed))
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return self.conv(images).relu().mean((2, 3)).nan_to_num()


@pytest.fixture
def tiny_networks(monkeypatch):
    """[seed of the weights], and the networks that were built."""
    built = []

    def build(pretrained, weights_dir):
        built.append(FrozenInception(_Tiny(), "random-tiny", 8))
        return built[-1]

    monkeypatch.setattr(distances, "fid_network", build)
    monkeypatch.setattr(distances, "score_network", build)
    return built


def _edits(editor, pack, protocol):
    pairs = make_pairs(pack, protocol.split, protocol.count, protocol.captions, protocol.seed)
    return torch.cat([b.edits for b in make_edits(editor, pack, pairs, (), protocol.seed, protocol.batch)])


def _save(images, folder):
    folder.mkdir()
    for number, image in enumerate(((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def sqrtm(monkeypatch):
    """pytorch-fid gives scipy an argument that new releases do not know."""

    class Linalg:
        @staticmethod
        def sqrtm(matrix, disp=True):
            root = scipy.linalg.sqrtm(matrix)
            return root if disp else (root, 0.0)

    monkeypatch.setattr(pytorch_fid.fid_score, "linalg", Linalg)


def test_distances_are_those_of_the_saved_pictures(editor, pack, tiny_networks, sqrtm, tmp_path):
    protocol = Protocol(metrics=("fid", "inception_score"), count=20, batch=8, split="train", weights="random")
    evaluation = evaluate(editor, pack, protocol)
    network = tiny_networks[0]
    rows = []
    for images in (centre_crops(pack.tiles, pack.train, 64), _edits(editor, pack, protocol)):
        folder = _save(images, tmp_path / str(len(rows)))
        files = [np.array(Image.open(path)) for path in sorted(folder.iterdir())]
        rows.append(network(torch.from_numpy(np.stack(files)).permute(0, 3, 1, 2) / 127.5 - 1).double())
    statistics = [f(r) for r in rows for f in (lambda r: r.mean(0).numpy(), lambda r: np.cov(r.numpy(), rowvar=False))]
    wanted = pytorch_fid.fid_score.calculate_frechet_distance(*statistics)
    assert evaluation["fid/paper"].value == pytest.approx(wanted, rel=1e-5)
    assert evaluation["kid/paper"].value == pytest.approx(kid(*rows), rel=1e-4)
    assert evaluation["inception_score"].value == pytest.approx(inception_score(rows[1], 1).mean, rel=1e-5)
    text = describe(evaluation)
    assert evaluation["fid/paper"].n == 20 and "random numbers" in text and f"against {len(pack.train)} photos" in text
    assert len(tiny_networks) == 2, "FID and KID share one network and one pass"


@pytest.mark.slow
def test_fid_equals_pytorch_fid_on_the_saved_pictures(editor, pack, sqrtm, tmp_path, monkeypatch):
    """With the real network, whose random weights pytorch-fid gets in place of its download."""
    protocol = Protocol(metrics=("fid",), count=12, weights="random")
    monkeypatch.setattr(
        pytorch_fid.inception, "load_state_dict_from_url", lambda url, progress: features.random_fid_state()
    )
    folders = [
        _save(images, tmp_path / name)
        for name, images in (
            ("reals", centre_crops(pack.tiles, pack.test, 64)),
            ("edits", _edits(editor, pack, protocol)),
        )
    ]
    wanted = pytorch_fid.fid_score.calculate_fid_given_paths([str(f) for f in folders], 4, "cpu", 2048, 1)
    assert evaluate(editor, pack, protocol)["fid/test"].value == pytest.approx(wanted, rel=1e-4)


def test_reals_pass_through_the_network_once(editor, pack, tiny_networks, cache):
    protocol = Protocol(metrics=("fid", "kid"), count=5, weights="random")
    first = evaluate(editor, pack, protocol)
    again = evaluate(editor, pack, protocol)
    assert [n.network.seen for n in tiny_networks] == [5 + len(pack.test), 5]
    assert first["fid/test"] == again["fid/test"] and first["kid/test"] == again["kid/test"]
    # Damaged, it is made again; of other pictures, another split or other weights, it is another file.
    for path in cache.iterdir():
        path.write_bytes(b"damaged")
    assert evaluate(editor, pack, protocol)["fid/test"] == first["fid/test"]
    evaluate(editor, pack, dataclasses.replace(protocol, split="train"))
    other = FrozenInception(_Tiny(seed=1), "random-tiny", 8)
    reals(other, pack, "test", 64, 8, QUIET)
    header = {**pack.header, "pixels_hash": "other"}
    reals(other, dataclasses.replace(pack, header=header), "test", 64, 8, QUIET)
    assert other.network.seen == 2 * len(pack.test)
    assert len(list(cache_folder().iterdir())) == 8


def test_statistics_lie_where_the_kernels_keep_their_verdicts(monkeypatch, tmp_path):
    for name, value in (("TMGAN_CACHE", "a"), ("XDG_CACHE_HOME", "b"), ("HOME", "c")):
        monkeypatch.setenv(name, str(tmp_path / value))
    for name, folder in (("TMGAN_CACHE", "a"), ("XDG_CACHE_HOME", "b/tmgan"), ("HOME", "c/.cache/tmgan")):
        assert cache_folder() == _verdict.folder() == tmp_path / folder
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMGAN_CACHE", "~/d")
    assert cache_folder() == tmp_path / "d"


def test_without_a_cache_nothing_is_kept_and_all_is_measured(editor, pack, tiny_networks, cache):
    cache.write_text("a file where the folder would be")
    protocol = Protocol(metrics=("fid", "kid"), count=5, weights="random")
    without = evaluate(editor, pack, protocol)
    cache.unlink()
    with_cache = evaluate(editor, pack, protocol)
    assert without["kid/test"] == with_cache["kid/test"]
    assert without["fid/test"].value == pytest.approx(with_cache["fid/test"].value, rel=1e-9)


def test_no_tf32_inside_the_networks():
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before, seen = [switch.allow_tf32 for switch in switches], []

    class Spy(nn.Module):
        def forward(self, images):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return images.mean((2, 3))

    network = FrozenInception(Spy(), "spy", 3)
    try:
        for switch in switches:
            switch.allow_tf32 = True
        network(torch.zeros(1, 3, 8, 8))
        assert seen == [(False, False)] and all(switch.allow_tf32 for switch in switches)
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def test_missing_weights_are_one_message_or_an_error(editor, pack, monkeypatch, tmp_path):
    monkeypatch.setenv("TMGAN_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    evaluation = evaluate(editor, pack, Protocol(count=3))
    text = describe(evaluation)
    assert {"fid", "kid", "inception_score", "lpips", "clip", "pattern_accuracy"} == set(evaluation.skipped)
    for expected in (
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer",
        str(tmp_path / "none"),
        "alexnet-owt-7be5be79.pth",
        "Not measured: fid, kid.",
        "--clip",
    ):
        assert expected in text
    assert "mp_damsm" in evaluation and "mask_score/dataset" in evaluation
    for name, message in (
        ("fid", "pt_inception"),
        ("inception_score", "inception_v3_google"),
        ("lpips", "alexnet"),
        ("clip", "--clip"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(editor, pack, Protocol(metrics=(name,), count=3))


# --- LPIPS ---


def test_lpips_equals_its_definition_written_out():
    network = Lpips("random", seed=3)
    x, y = torch.rand(2, 2, 3, 64, 80, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        got = network.between(network.features(x), network.features(y))
    wanted = np.zeros(2)
    for image in range(2):
        maps = []
        for picture in (x[image], y[image]):
            h, activations = (
                (picture - torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
                / torch.tensor([0.458, 0.448, 0.450])[:, None, None],
                [],
            )
            for layer in network.trunk:
                h = layer(h[None])[0] if not isinstance(layer, nn.ReLU) else h.clamp(min=0)
                if isinstance(layer, nn.ReLU):
                    activations.append(h.double().numpy())
            maps.append(activations)
        for number, (a, b) in enumerate(zip(*maps, strict=True)):
            w = getattr(network, f"linear{number}").flatten().numpy()
            places = [
                sum(w * (a[:, i, j] / np.linalg.norm(a[:, i, j]) - b[:, i, j] / np.linalg.norm(b[:, i, j])) ** 2)
                for i in range(a.shape[1])
                for j in range(a.shape[2])
            ]
            wanted[image] += np.mean(places)
    assert got.tolist() == pytest.approx(wanted.tolist(), rel=1e-4)


def test_lpips_equals_the_published_package(monkeypatch):
    published = pytest.importorskip("lpips")
    theirs = published.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False).eval()
    state = {f"features.{name.split('.', 1)[1]}": value for name, value in theirs.net.state_dict().items()}
    files = {
        "alexnet": state,
        "lpips": {k: v for k, v in theirs.state_dict().items() if k.startswith("lin") and not k.startswith("lins")},
    }
    monkeypatch.setattr(weights, "load", lambda key, folder: files[key])
    network = Lpips()
    x, y = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert network.between(network.features(x), network.features(y)).tolist() == pytest.approx(
            theirs(x, y).flatten().tolist(), rel=1e-5
        )


def test_lpips_outside_sees_the_kept_region_only(editor, pack):
    protocol = Protocol(metrics=("lpips",), count=3, weights="random", masks=("dataset",))
    evaluation = evaluate(editor, pack, protocol)
    assert evaluation["lpips/dataset"].value > 0 and "random numbers" in describe(evaluation)
    assert evaluate(baselines(editor)["input copied"], pack, protocol)["lpips/dataset"].value == 0
    everything = dataclasses.replace(pack, masks=torch.full_like(pack.masks, 255))
    assert evaluate(editor, everything, protocol)["lpips/dataset"].value == 0


# --- text ---


def test_manipulative_precision_equals_its_definition(editor, pack):
    evaluation = evaluate(editor, pack, Protocol(metrics=("mp_damsm",), count=4, batch=3))
    pairs = make_pairs(pack, "test", 4, "other", 0)
    photos, edits = centre_crops(pack.tiles, pairs.image, 64), _edits(editor, pack, Protocol(count=4, batch=3))
    with torch.no_grad():
        for row in range(4):
            code = editor.encoders.photo.regions_and_code(edits[row : row + 1])[1][0]
            sentence = editor.encoders.text(*editor.tokens([pack.caption(int(pairs.target[row]))]))[1][0]
            similarity = (code @ sentence / code.norm() / sentence.norm()).item()
            difference = ((photos[row] - edits[row]) / 2).abs().mean().item()
            assert evaluation["mp_damsm"].values[row] == pytest.approx(
                (1 - difference) * similarity, rel=1e-4, abs=1e-6
            )
    assert (
        evaluate(baselines(editor)["input copied"], pack, Protocol(metrics=("mp_damsm",), count=4))[
            "mp_difference"
        ].value
        == 0
    )


def test_relative_manipulative_precision_equals_its_definition(editor, pack):
    protocol = Protocol(metrics=("mp_damsm", "rmp_damsm"), count=4, batch=3)
    evaluation = evaluate(editor, pack, protocol)
    pairs = make_pairs(pack, "test", 4, "other", 0)
    photos = centre_crops(pack.tiles, pairs.image, 64)
    with torch.no_grad():
        for row in range(4):
            code = editor.encoders.photo.regions_and_code(photos[row : row + 1])[1][0]
            sentence = editor.encoders.text(*editor.tokens([pack.caption(int(pairs.target[row]))]))[1][0]
            before = (code @ sentence / code.norm() / sentence.norm()).item()
            after, difference = (evaluation[f"mp_{name}"].values[row] for name in ("similarity", "difference"))
            assert evaluation["mp_similarity_photo"].values[row] == pytest.approx(before, rel=1e-4)
            assert evaluation["rmp_damsm"].values[row] == pytest.approx(
                (1 - difference) * (after - before), rel=1e-3, abs=1e-7
            )
    assert evaluation["rmp_damsm"].value != 0 and evaluation["rmp_damsm"].better == "higher"


def test_a_copy_has_a_manipulative_precision_but_no_relative_one(editor, pack):
    copied = evaluate(
        baselines(editor)["input copied"], pack, Protocol(metrics=("mp_damsm", "rmp_damsm"), captions="own", count=4)
    )
    assert copied["rmp_damsm"].values == (0,) * 4
    assert copied["mp_damsm"].values == copied["mp_similarity_photo"].values != (0,) * 4


@pytest.fixture
def clip_folder(tmp_path):
    """A tiny CLIP with random weights and a tokenizer of single letters, as transformers would save it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "clip"
    folder.mkdir()
    letters = [*"abcdefghijklmnopqrstuvwxyz,."]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={
            **small,
            "vocab_size": len(words),
            "max_position_embeddings": 77,
            "bos_token_id": len(words) - 2,
            "eos_token_id": len(words) - 1,
            "pad_token_id": len(words) - 1,
        },
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    return folder


def test_clip_direction_equals_its_definition(editor, pack, clip_folder):
    from transformers import CLIPModel, CLIPTokenizer

    protocol = Protocol(metrics=("clip",), count=3, clip=str(clip_folder))
    evaluation = evaluate(editor, pack, protocol)
    model, tokenizer = CLIPModel.from_pretrained(clip_folder).eval(), CLIPTokenizer.from_pretrained(clip_folder)
    pairs = make_pairs(pack, "test", 3, "other", 0)
    photos, edits = centre_crops(pack.tiles, pairs.image, 64), _edits(editor, pack, protocol)
    mean, std = (
        torch.tensor(v)[:, None, None]
        for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )

    def embed(image, text):
        small = F.interpolate((image[None] + 1) / 2, (32, 32), mode="bicubic")
        out = model(pixel_values=(small - mean) / std, **tokenizer([text], return_tensors="pt"))
        return [v[0] / v[0].norm() for v in (out.image_embeds, out.text_embeds)]

    with torch.no_grad():
        for row in range(3):
            x, own = embed(photos[row], pack.caption(int(pairs.own[row])))
            y, target = embed(edits[row], pack.caption(int(pairs.target[row])))
            wanted = F.cosine_similarity(y - x, target - own, dim=0).item()
            assert evaluation["clip_direction"].values[row] == pytest.approx(wanted, abs=1e-3)
            assert evaluation["clip_image"].values[row] == pytest.approx((x @ y).item(), abs=1e-4)
            assert evaluation["clip_text"].values[row] == pytest.approx((y @ target).item(), abs=1e-4)
    copied = evaluate(baselines(editor)["input copied"], pack, protocol)
    assert copied["clip_direction"].value == 0 and "3 edits" in describe(copied)
    assert copied["clip_image"].value == pytest.approx(1)
    for wrong, message in (({"captions": "own"}, "--captions other"), ({"clip": "nowhere"}, "nowhere, and lacks")):
        with pytest.raises(ValueError, match=message):
            evaluate(editor, pack, dataclasses.replace(protocol, **wrong))
