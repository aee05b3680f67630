"""FID, KID and Inception score of a model's edits, computed on the device: no picture is saved on the way.

The reals are the centre crops of a whole split, and pass through the network once: their statistics and features are
kept in a folder (TMGAN_CACHE, else XDG_CACHE_HOME/tmgan, else ~/.cache/tmgan) under a name derived from pack, split,
size, network and preprocessing. Protocols: "test" against the held-out split, "paper" against the training split (with
the photos' own captions, as the paper measures it).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from tmgan.common.files import write_bytes
from tmgan.common.progress import Progress
from tmgan.data.crops import centre_crops
from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor
from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.features import PROTOCOL, FrozenInception, fid_network, score_network
from tmgan.evaluation.metrics.fid import frechet_distance
from tmgan.evaluation.metrics.inception_score import inception_score
from tmgan.evaluation.metrics.kid import kid
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.moments import Moments
from tmgan_kernels import _verdict

_SPLITS, _LEAST = 10, 100  # of the Inception score, as published; fewer photos than this are one split


def protocol_name(split: str) -> str:
    """The protocol of a FID against this split."""
    return {"train": "paper", "test": "test"}[split]


class Distances:
    """fid/PROTOCOL and kid/PROTOCOL of the edits.

    Raises:
        ValueError: when the network's weights are missing, or there is one photo only, which has no covariance.
    """

    sees_edits = True

    def __init__(
        self, editor: Editor, pack: Pack, split: str, count: int, pretrained: str, weights_dir: str, batch: int
    ):
        photos = {"train": pack.train, "test": pack.test}[split]
        if min(len(photos), count) < 2:
            raise ValueError("FID and KID need 2 photos or more, and 1 is measured.")
        self.network = fid_network(pretrained, weights_dir).to(editor.runtime.device)
        self.pack, self.split, self.size, self.batch = pack, split, editor.image_size, batch
        self._fakes: list[Tensor] = []

    def add(self, batch: Edits) -> None:
        """Look at one more batch."""
        self._fakes.append(self.network(batch.edits))

    def measures(self, show: Progress) -> dict[str, Measure]:
        """Over everything seen."""
        real, features = reals(self.network, self.pack, self.split, self.size, self.batch, show)
        fakes = torch.cat(self._fakes)
        fake = Moments(self.network.dim, self.network.name, PROTOCOL, fakes.device)
        fake.add(fakes)
        distance, name = frechet_distance(real, fake), protocol_name(self.split)
        note = f"fid/{name}, kid/{name}: against {distance.n_real} photos of the {self.split} split; {PROTOCOL}."
        note = f"{note} {distance.note}".strip()
        return {
            f"fid/{name}": Measure(distance.fid, distance.n_fake, better="lower", note=note),
            f"kid/{name}": Measure(kid(features, fakes), distance.n_fake, better="lower", note=note),
        }


class InceptionScores:
    """inception_score of the edits.

    Raises:
        ValueError: when the network's weights are missing.
    """

    sees_edits = True

    def __init__(self, editor: Editor, pretrained: str, weights_dir: str):
        self.network = score_network(pretrained, weights_dir).to(editor.runtime.device)
        self._logits: list[Tensor] = []

    def add(self, batch: Edits) -> None:
        """Look at one more batch."""
        self._logits.append(self.network(batch.edits))

    def measures(self, show: Progress) -> dict[str, Measure]:
        """Over everything seen."""
        logits = torch.cat(self._logits)
        splits = _SPLITS if len(logits) >= _LEAST else 1
        score, count = inception_score(logits, splits), len(logits) // splits
        spread = "1 split" if score.std is None else f"{splits} splits, standard deviation {score.std:.3f}"
        note = (
            f"inception_score: {spread}, {count} photo{'s' * (count != 1)} each; ImageNet's Inception as in the "
            "paper, not the one tuned on birds."
        )
        if self.network.name.startswith("random"):
            note += " The network's weights are random numbers: this score compares only with itself."
        return {"inception_score": Measure(score.mean, len(logits), better="higher", note=note)}


def cache_folder() -> Path:
    """Where statistics of reals are kept: where the kernels keep their verdicts, by their rule."""
    return _verdict.folder()


@torch.no_grad()
def reals(
    network: FrozenInception, pack: Pack, split: str, size: int, batch: int, show: Progress
) -> tuple[Moments, Tensor]:
    """Moments, with their factor, and features (N, D) float32 of a split's photos; from the cache if they are there.

    The files can be deleted at any time. A damaged one is rebuilt. Where the folder cannot be written to, nothing is
    kept.
    """
    about = [pack.pixels_hash, pack.hash, split, size, network.digest(), PROTOCOL]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    path = cache_folder() / f"reals-{key[:32]}.safetensors"
    features_path, device = path.with_suffix(".features.safetensors"), next(network.parameters()).device
    if path.is_file() and features_path.is_file():
        try:
            return Moments.load(path, device), load_file(features_path)["features"].to(device)
        except (ValueError, SafetensorError, KeyError):
            pass
    index = {"train": pack.train, "test": pack.test}[split]
    rows = []
    with show.bar("real photos", len(index)):
        for part in index.split(batch):
            rows.append(network(centre_crops(pack.tiles, part, size).to(device)))
            for _ in part:
                show.advance()
    features = torch.cat(rows)
    moments = Moments(network.dim, network.name, PROTOCOL, device)
    moments.add(features)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(features_path, save({"features": features.cpu()}))
        moments.save(path)
    except OSError:
        return moments, features
    return Moments.load(path, device), features  # as later calls will read it, to the last bit
