"""Frechet distance between two sets of features (Heusel et al., NeurIPS 2017), exact, without complex numbers.

    fid = |m_r - m_f|^2 + Tr(S_r + S_f - 2 (S_r S_f)^1/2)

The trace of the root is the sum of the roots of the eigenvalues of S_r S_f. With S_r = R R^T they are those of the
symmetric R^T S_f R, which eigvalsh finds to full precision, and R is kept with the reals. No epsilon is added to a
covariance. With fewer vectors than dimensions that matrix has at most n - 1 eigenvalues above zero; only those count,
so the features themselves are not needed for an accurate result.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from tmgan.evaluation.metrics.moments import Moments

ENOUGH = 2048  # pictures per side, below which the 2048-dimensional covariance is singular


class FrechetDistance(NamedTuple):
    """Lower is better. `fid` is the sum of its two parts, in the squared units of the features."""

    fid: float
    means: float  # |m_r - m_f|^2
    covariances: float  # the trace term
    n_real: int
    n_fake: int
    network: str

    @property
    def note(self) -> str:
        """What a reader must know about this number, or ""."""
        notes, n = [], min(self.n_real, self.n_fake)
        if self.network.startswith("random"):
            notes.append("The network's weights are random numbers: this is no FID, and compares only with itself.")
        if n < ENOUGH:
            notes.append(
                f"FID from {n} pictures is biased upwards, by much: compare it only with a FID from as many. "
                f"{ENOUGH} or more are customary; KID has no such bias."
            )
        return " ".join(notes)


def frechet_distance(real: Moments, fake: Moments) -> FrechetDistance:
    """The distance; symmetric, but the factor of `real` is the one used and kept, so pass the cached set there.

    Computed on the device of `real`.

    Raises:
        ValueError: for fewer than two vectors per side, or when network or protocol differ.
    """
    real.require_comparable(fake)
    factor = real.factor
    mean, covariance = fake.mean.to(factor.device), fake.covariance.to(factor.device)
    product = factor.T @ covariance @ factor
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    rank = min(len(eigenvalues), fake.n - 1)
    overlap = eigenvalues[-rank:].clamp(min=0).sqrt().sum()
    means = (real.mean - mean).square().sum().item()
    # Never below zero but for rounding: for equal sets the two sides cancel.
    covariances = max(0.0, (factor.square().sum() + covariance.trace() - 2 * overlap).item())
    return FrechetDistance(means + covariances, means, covariances, real.n, fake.n, real.network)
