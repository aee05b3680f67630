"""Image-text matching losses (DAMSM): does a photo's content select its own caption from the batch, and vice versa?

All B x B pairs of images and captions are compared at once. The order of the two softmaxes of the word attention
matters: over the words first, then over the regions.
Source: AttnGAN (Xu et al., CVPR 2018), section 3.2.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.models.precision import at_least_float32


class MatchingLoss(NamedTuple):
    """Cross entropies of finding the caption of each photo and the photo of each caption, and their sum."""

    photo_to_text: Tensor
    text_to_photo: Tensor
    total: Tensor


class WordAttention(NamedTuple):
    """Where words look.

    Attributes:
        context: (B, D, L), the regions each word attends to.
        attention: (B, L, g, g), sums to 1 over the regions.
    """

    context: Tensor
    attention: Tensor


def word_attention(regions: Tensor, words: Tensor, padding: Tensor, gamma1: float = 4.0) -> WordAttention:
    """Where in its own photo each word of a caption is. Entries of padding are meaningless.

    Args:
        regions: (B, D, g, g).
        words: (B, D, L).
        padding: (B, L) bool, True where there is no word.
        gamma1: sharpness of the attention over regions.
    """
    with torch.autocast(regions.device.type, enabled=False):
        flat, words = _positions(regions), at_least_float32(words)
        attention = _attend(torch.einsum("brd,bdl->brl", flat, words), padding, gamma1)
        context = torch.einsum("brd,brl->bdl", flat, attention)
        return WordAttention(context, attention.transpose(1, 2).unflatten(2, regions.shape[2:]))


def word_level_correlation(
    regions: Tensor, words: Tensor, padding: Tensor, labels: Tensor, gamma1: float = 4.0
) -> Tensor:
    """How well the words that match a photo's regions best are its caption's nouns and adjectives.

    As published, a term of the discriminator's loss, though nothing of the discriminator takes part in it. The
    comparison is odd too: a softmax over the words, which sums to 1, with several labels of 1.

    Args:
        regions, words, padding, gamma1: as in `word_attention`.
        labels: (B, L), 1 for nouns and adjectives.

    Returns:
        A scalar, the sum over the batch.
    """
    context = word_attention(regions, words, padding, gamma1).context
    with torch.autocast(context.device.type, enabled=False):
        share = torch.softmax(context.sum(1).masked_fill(padding, float("-inf")), dim=1)
        # Its clamp of the logarithm at -100 is the published one.
        losses = F.binary_cross_entropy(share, labels.to(share.dtype), reduction="none").masked_fill(padding, 0.0)
        return (losses.sum(1) / (~padding).sum(1)).sum()


def word_level_discrimination(
    regions: Tensor, words: Tensor, padding: Tensor, own: bool, gammas: tuple[float, float] = (4.0, 5.0)
) -> Tensor:
    """Cross entropy of telling from the words whether a caption is a photo's own: ManiGAN's word-level term.

    As published, the mean of one for own captions and one for wrong ones is added to each discriminator's loss, though
    nothing of the discriminator takes part in it. Source: the published code; ControlGAN (Li et al., NeurIPS 2019).

    Args:
        regions, words, padding: as in `word_attention`.
        own: whether these captions are the photos' own.
        gammas: as the first two of `words_loss`.

    Returns:
        A scalar, the mean over the batch.
    """
    gamma1, gamma2 = gammas
    context = word_attention(regions, words, padding, gamma1).context
    with torch.autocast(context.device.type, enabled=False):
        words = at_least_float32(words).masked_fill(padding[:, None], 0.0)
        mean = words.sum(2) / (~padding).sum(1, keepdim=True)
        importance = (mean[:, :, None] * words).sum(1).masked_fill(padding, float("-inf")).softmax(1)
        cosine = (gamma2 * _cosine(words, importance[:, None] * context, dim=1)).masked_fill(padding, float("-inf"))
        logits = torch.logsumexp(cosine, dim=1)
        return (F.softplus(-logits) if own else F.softplus(logits)).mean()


def words_loss(
    regions: Tensor,
    words: Tensor,
    padding: Tensor,
    class_ids: Tensor | None = None,
    gammas: tuple[float, float, float] = (4.0, 5.0, 10.0),
    wrong_words: Tensor | None = None,
    same: Tensor | None = None,
) -> MatchingLoss:
    """Word-level matching loss.

    Args:
        regions: (B, D, g, g) of the photos.
        words: (B, D, L).
        padding: (B, L) bool, True where there is no word.
        class_ids: (B,) int; another sample of the same class is no wrong answer. None compares with all samples.
        gammas: sharpness of the attention over regions, of the sum over words, and of the choice in the batch.
        wrong_words: (B, K, D, L), of more wrong answers for each photo: its own caption with an attribute swapped, of
            the same length (not in the paper; compare NegCLIP, Yuksekgonul et al., ICLR 2023).
        same: (B, K) bool, those that equal the caption and are no wrong answers.
    """
    gamma1, gamma2, gamma3 = gammas
    with torch.autocast(regions.device.type, enabled=False):
        flat, words = _positions(regions), at_least_float32(words)
        # b: photo, i: caption, r: region, l: word
        attention = _attend(torch.einsum("brd,idl->birl", flat, words), padding, gamma1)
        context = attention.transpose(2, 3).flatten(1, 2) @ flat  # a product whose gradient keeps the layout of flat
        cosine = _cosine(context.unflatten(1, words.shape[::2]), words.transpose(1, 2)[None], dim=3)
        cosine = (gamma2 * cosine).masked_fill(padding, float("-inf"))
        wrong = None if wrong_words is None else gamma3 * words_score(regions, wrong_words, padding, gammas[:2])
        return _both_ways(gamma3 * torch.logsumexp(cosine, dim=2), class_ids, wrong, same)


def words_score(regions: Tensor, words: Tensor, padding: Tensor, gammas: tuple[float, float] = (4.0, 5.0)) -> Tensor:
    """How well each photo fits texts of its own: regions (B, D, g, g), words (B, K, D, L), padding (B, L) -> (B, K)."""
    gamma1, gamma2 = gammas
    with torch.autocast(regions.device.type, enabled=False):
        flat, words = _positions(regions), at_least_float32(words)
        attention = _attend(torch.einsum("brd,bkdl->bkrl", flat, words), padding[:, None], gamma1)
        context = torch.einsum("bkrl,brd->bkld", attention, flat)
        cosine = _cosine(context, words.transpose(2, 3), dim=3)
        return torch.logsumexp((gamma2 * cosine).masked_fill(padding[:, None], float("-inf")), dim=2)


def sentence_loss(
    code: Tensor,
    sentence: Tensor,
    class_ids: Tensor | None = None,
    gamma3: float = 10.0,
    wrong_sentences: Tensor | None = None,
    same: Tensor | None = None,
) -> MatchingLoss:
    """Sentence-level matching loss of code (B, D) and sentence (B, D); the others as in `words_loss`, with
    wrong_sentences (B, K, D)."""
    with torch.autocast(code.device.type, enabled=False):
        scores = gamma3 * _cosine(at_least_float32(code)[:, None], at_least_float32(sentence)[None], dim=2)
        wrong = None if wrong_sentences is None else gamma3 * sentence_score(code, wrong_sentences)
        return _both_ways(scores, class_ids, wrong, same)


def sentence_score(code: Tensor, sentences: Tensor) -> Tensor:
    """How well each photo fits texts of its own: code (B, D), sentences (B, K, D) -> (B, K), cosines."""
    with torch.autocast(code.device.type, enabled=False):
        return _cosine(at_least_float32(code)[:, None], at_least_float32(sentences), dim=2)


def _positions(regions: Tensor) -> Tensor:
    """(B, D, g, g) -> (B, g * g, D) in fp32 or better: a view if regions is channels_last, and so is its gradient."""
    return at_least_float32(regions).permute(0, 2, 3, 1).flatten(1, 2)


def _attend(similarity: Tensor, padding: Tensor, gamma1: float) -> Tensor:
    """(..., R, L) similarities, (..., L) padding -> attention over regions."""
    over_words = torch.softmax(similarity.masked_fill(padding[..., None, :], float("-inf")), dim=-1)
    return torch.softmax(gamma1 * over_words, dim=-2)


def _cosine(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Cosine similarity whose denominator is clamped at 1e-8 as a product (F.cosine_similarity clamps each norm)."""
    norms = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim) / norms.clamp(min=1e-8)


def _both_ways(
    scores: Tensor, class_ids: Tensor | None, wrong: Tensor | None = None, same: Tensor | None = None
) -> MatchingLoss:
    """Cross entropies of the diagonal of scores (photos, captions), over rows and over columns.

    wrong (photos, K) are scores of more wrong captions, but for those that are the `same`.
    """
    own = torch.arange(len(scores), device=scores.device)
    if class_ids is not None:
        alike = (class_ids[:, None] == class_ids[None]) & (own[:, None] != own[None])
        scores = scores.masked_fill(alike, float("-inf"))
    text_to_photo = F.cross_entropy(scores.t(), own)
    if wrong is not None:
        wrong = wrong if same is None else wrong.masked_fill(same, float("-inf"))
        scores = torch.cat([scores, wrong], 1)
    photo_to_text = F.cross_entropy(scores, own)
    return MatchingLoss(photo_to_text, text_to_photo, photo_to_text + text_to_photo)
