"""Adversarial losses: binary cross entropy on logits in fp32 or better, and the KL term of the conditioning.

The order in which the discriminator is called is part of the definition: each call in train mode updates its batch
normalisation buffers.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from tmgan.models.discriminator import Discriminator
from tmgan.models.precision import at_least_float32


class DiscriminatorLoss(NamedTuple):
    """Mean binary cross entropies, and total = (real_u + real_c)/2 + (fake_u + fake_c + wrong_c)/3 + blurred."""

    real_unconditional: Tensor
    real_conditional: Tensor
    fake_unconditional: Tensor
    fake_conditional: Tensor
    wrong_conditional: Tensor
    blurred: Tensor | None
    total: Tensor


class AdversarialLoss(NamedTuple):
    """The generator's two binary cross entropies, and their sum."""

    unconditional: Tensor
    conditional: Tensor
    total: Tensor


def discriminator_loss(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    sentence: Tensor,
    fake_sentence: Tensor,
    class_ids: Tensor | None = None,
    order: Tensor | None = None,
    blurred: Tensor | None = None,
    blurred_counts: Tensor | None = None,
    blurred_heads: str = "conditional",
) -> DiscriminatorLoss:
    """Real photos with their own text are real; generated ones, and real ones with another photo's text, are not.

    Args:
        real, fake: (B, 3, S, S) in [-1, 1], B >= 2. No gradient flows into `fake`.
        sentence: (B, D), the text of each real photo.
        fake_sentence: (B, D), the text that each generated image should show.
        class_ids: (B,) int. Photo i is paired with the text of photo i + 1 as a wrong pair, unless both are of the same
            class: that text may be true. As published with None: every such pair counts as wrong.
        order: (B,) int64, the order of the photos in which one is next to another. None: as they are.
        blurred: (B, 3, S, S), the photos blurred: fake too, with their own text (sharpness-aware discriminator).
        blurred_counts: (B,) weights of these, 0 or 1. None: all count.
        blurred_heads: "conditional", or "both" for the mean of the losses of both heads.

    Raises:
        ValueError: the batch has 1 photo.
    """
    if len(real) < 2:
        raise ValueError("discriminator_loss: the batch has 1 sample, but wrong pairs need 2; use a larger batch")
    real_features = discriminator(real)
    fake_features = discriminator(fake.detach())
    real_c = discriminator.conditional(real_features, sentence)
    fake_c = discriminator.conditional(fake_features, fake_sentence)
    blurred_loss = None
    if blurred is not None:
        blurred_loss = _blurred_loss(discriminator, blurred, sentence, blurred_counts, blurred_heads)
    photos, next_ones = (slice(0, -1), slice(1, None)) if order is None else (order[:-1], order[1:])
    wrong_c = discriminator.conditional(real_features[photos], sentence[next_ones])
    real_u = discriminator.unconditional(real_features)
    fake_u = discriminator.unconditional(fake_features)

    wrong_losses = _cross_entropies(wrong_c, 0.0)
    if class_ids is None:
        wrong = wrong_losses.mean()
    else:
        differs = (class_ids[photos] != class_ids[next_ones]).to(wrong_losses.dtype)
        wrong = (wrong_losses * differs).sum() / differs.sum().clamp(min=1)
    parts = (
        _cross_entropies(real_u, 1.0).mean(),
        _cross_entropies(real_c, 1.0).mean(),
        _cross_entropies(fake_u, 0.0).mean(),
        _cross_entropies(fake_c, 0.0).mean(),
        wrong,
    )
    total = (parts[0] + parts[1]) / 2 + (parts[2] + parts[3] + parts[4]) / 3
    if blurred_loss is not None:
        total = total + blurred_loss
    return DiscriminatorLoss(*parts, blurred=blurred_loss, total=total)


def _blurred_loss(
    discriminator: Discriminator, blurred: Tensor, sentence: Tensor, counts: Tensor | None, heads: str
) -> Tensor:
    features = discriminator(blurred)
    losses = _cross_entropies(discriminator.conditional(features, sentence), 0.0)
    if heads == "both":
        losses = (losses + _cross_entropies(discriminator.unconditional(features), 0.0)) / 2
    if counts is None:
        return losses.mean()
    weights = counts.to(losses.dtype).view(-1, *[1] * (losses.dim() - 1)).expand_as(losses)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def generator_adversarial(discriminator: Discriminator, fake: Tensor, sentence: Tensor) -> AdversarialLoss:
    """How far the generated images (B, 3, S, S) are from passing as real, alone and with their text (B, D)."""
    features = discriminator(fake)
    conditional = _cross_entropies(discriminator.conditional(features, sentence), 1.0).mean()
    unconditional = _cross_entropies(discriminator.unconditional(features), 1.0).mean()
    return AdversarialLoss(unconditional, conditional, unconditional + conditional)


def kl_loss(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, 1), averaged over batch and dimensions; mu, logvar (B, K)."""
    mu, logvar = at_least_float32(mu), at_least_float32(logvar)
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).mean()


def _cross_entropies(logits: Tensor, label: float) -> Tensor:
    """-log sigmoid(logits) for label 1, -log(1 - sigmoid(logits)) for label 0, per sample."""
    logits = at_least_float32(logits)
    return F.softplus(-logits) if label == 1.0 else F.softplus(logits)
