"""Mean and covariance of a stream of features, in float64: all that the Frechet distance needs to know of a set.

The sums are kept about the running mean (Chan, Golub and LeVeque, 1979), so features far from zero lose no digits,
and adding a batch is the same operation as merging two streams. Saved as safetensors, with the covariance's factor, so
that the real pictures pass through the network once and their covariance is decomposed once.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tmgan.common.files import write_bytes


class Moments:
    """Mean and covariance of feature vectors, collected batch by batch.

    Args:
        dim: D, length of a feature vector.
        network: what made the features, say "inception-2015-12-05".
        protocol: how pictures were brought to the network. Sets of another network or protocol are never compared.
        device: where the sums are kept, in float64 (8 D^2 bytes).
    """

    def __init__(self, dim: int, network: str, protocol: str, device: torch.device | str = "cpu"):
        self.network, self.protocol, self.n = network, protocol, 0
        self._mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)
        self._factor: Tensor | None = None

    @property
    def dim(self) -> int:
        """D, length of a feature vector."""
        return len(self._mean)

    @torch.no_grad()
    def add(self, features: Tensor) -> None:
        """Add a batch (B, D) of any floating type, on any device.

        Raises:
            ValueError: for another shape.
            FloatingPointError: for numbers that are not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"Moments: features have the shape {tuple(features.shape)}, expected (B, {self.dim}).")
        if not torch.isfinite(features).all():
            raise FloatingPointError(
                "Moments: features hold numbers that are not finite; look at the pictures they were made from."
            )
        if len(features):
            rows = features.to(self._mean)
            mean = rows.mean(0)
            lever = self._advance(len(rows), mean)
            rows = torch.cat([rows - mean, lever[None]])
            self._scatter.addmm_(rows.T, rows)

    def merge(self, other: Moments) -> None:
        """Add everything another stream has seen.

        Raises:
            ValueError: when it comes from another network or protocol.
        """
        self.require_comparable(other)
        if other.n:
            lever = self._advance(other.n, other._mean.to(self._mean))
            self._scatter += other._scatter.to(self._scatter)
            self._scatter.addr_(lever, lever)

    def require_comparable(self, other: Moments) -> None:
        """Check that both sets come from the same network by the same protocol.

        Raises:
            ValueError: when they do not.
        """
        for what in ("network", "protocol", "dim"):
            ours, theirs = getattr(self, what), getattr(other, what)
            if ours != theirs:
                raise ValueError(
                    f"These features cannot be compared: the {what} is {ours} for one set and {theirs} "
                    "for the other. Compute both the same way."
                )

    def _advance(self, n: int, mean: Tensor) -> Tensor:
        """Count n more vectors of this mean.

        Returns:
            v: their distance from those before adds v v^T to the scatter.
        """
        total, delta = self.n + n, mean - self._mean
        lever = delta * math.sqrt(self.n * n / total)
        self._mean += delta * (n / total)
        self.n, self._factor = total, None
        return lever

    @property
    def mean(self) -> Tensor:
        """(D,) float64.

        Raises:
            ValueError: before the first vector.
        """
        self._require(1)
        return self._mean.clone()

    @property
    def covariance(self) -> Tensor:
        """(D, D) float64, unbiased: divided by n - 1, as numpy.cov does.

        Raises:
            ValueError: for fewer than two vectors.
        """
        self._require(2)
        return self._scatter / (self.n - 1)

    @property
    def factor(self) -> Tensor:
        """R (D, r) float64 with R R^T = covariance, from its eigenvectors; computed once, and read from the file.

        r = min(D, n - 1): n vectors span no more, and what eigh returns beyond that is rounding, of which the square
        roots in a Frechet distance would make an error of 1e-5.
        """
        if self._factor is None:
            values, vectors = torch.linalg.eigh(self.covariance)
            rank = min(self.dim, self.n - 1)
            self._factor = vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()
        return self._factor

    def save(self, path: Path) -> None:
        """Write mean, covariance and factor to one file, with n, network and protocol inside."""
        tensors = {"mean": self.mean, "covariance": self.covariance, "factor": self.factor}
        about = {"n": self.n, "network": self.network, "protocol": self.protocol}
        data = save({k: v.cpu().contiguous() for k, v in tensors.items()}, metadata={"moments": json.dumps(about)})
        write_bytes(path, data)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Moments:
        """Read what `save` wrote.

        Raises:
            ValueError: when the file is missing, damaged, or of another kind.
        """
        if not path.is_file():
            raise ValueError(f"There is no {path} with the statistics of the real pictures.")
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["moments"])
                mean, covariance, factor = (file.get_tensor(k).to(device) for k in ("mean", "covariance", "factor"))
            moments = cls(len(mean), about["network"], about["protocol"], device)
            moments.n = about["n"]
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path} is damaged or holds no statistics of pictures ({error}). Delete it, and it is rebuilt."
            ) from None
        moments._mean, moments._scatter, moments._factor = mean, covariance * (moments.n - 1), factor
        return moments

    def _require(self, n: int) -> None:
        if self.n < n:
            raise ValueError(
                f"Moments: {self.n} feature vector{'s' * (self.n != 1)} collected, needs {n} or more. "
                "Use more pictures."
            )
