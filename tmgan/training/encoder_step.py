"""One training step of the encoders (DAMSM), of a batch that is given: losses, clipping, update.

Everything random is an argument, and the epoch follows from the step's number, so the step is a pure function of its
arguments, the weights and Adam's moments.
Source: AttnGAN (Xu et al., CVPR 2018), section 3.2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from tmgan.config.runtime import Runtime
from tmgan.config.settings import LossConfig, PretrainConfig
from tmgan.losses.matching import sentence_loss, words_loss
from tmgan.models.encoders import PhotoEncoder, TextEncoder
from tmgan.training.guard import Guard

_ADAM = (0.5, 0.999)


class EncoderStep:
    """step(number, images, tokens, lengths, class_ids, ...) -> losses, scalars on the device by name.

    Owns the optimiser. As published, with the default settings and both `pretrain.batch_statistics` (of the photo
    encoder that is given) and `pretrain.rebuild_adam`.

    Args:
        text, photo: on the device; of the photo encoder, what requires a gradient is trained.
        photos: how many photos the training set has, of which epochs are made.

    Raises:
        ValueError: with rebuild_adam, fewer photos than a batch has.
    """

    def __init__(
        self,
        text: TextEncoder,
        photo: PhotoEncoder,
        pretrain: PretrainConfig,
        loss: LossConfig,
        photos: int,
        runtime: Runtime,
    ):
        if pretrain.rebuild_adam and photos < pretrain.batch:
            raise ValueError(
                f"pretrain.rebuild_adam counts an epoch in whole batches, and {photos} photos make none of "
                f"{pretrain.batch}: give a smaller --pretrain.batch, or leave it out (--pretrain.no-rebuild-adam)."
            )
        self.text, self.photo, self.pretrain, self.loss = text, photo, pretrain, loss
        self.photos, self.runtime = photos, runtime
        self.adam = self._new_adam()
        self.guard = Guard(self.adam, text, photo)
        self.before_update: Callable[[], None] = lambda: None  # a save waits here, see snapshot.py

    def __call__(
        self,
        step: int,
        images: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        class_ids: Tensor,
        dropout: Tensor | None = None,
        swap_tokens: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """One update.

        Args:
            step: its number, from 0.
            images: (B, 3, S, S) in [-1, 1].
            tokens: (B, L) int64 word ids, 0 from each caption's length on.
            lengths: (B,) int64.
            class_ids: (B,) int64; another photo of the same class is no wrong answer.
            dropout: (B, L, word_dim) factors of the word embeddings, see `TextEncoder`. None: no dropout.
            swap_tokens: (B, K, L) int64, more wrong captions of each photo, of the lengths of its own: hard negatives
                (not as published); those that equal its own do not count.

        Returns:
            words and sentence, each the sum of both directions, and loss, their sum; grad, the L2 norm of all
            gradients. Where that is not finite, the encoders stay as they were: see guard.py.
        """
        self._begin(step)
        self.guard.begin()
        self.text.train()
        self.photo.train()
        with self.runtime.autocast():
            regions, code = self.photo.regions_and_code(images)
            words, sentence = self.text(tokens, lengths, dropout)
            gammas = (self.loss.gamma1, self.loss.gamma2, self.loss.gamma3)
            swap_words = swap_sentences = same = None
            if swap_tokens is not None:
                swap_words, swap_sentences = encode_swaps(self.text, swap_tokens, lengths)
                same = (swap_tokens == tokens[:, None]).all(2)
            by_words = words_loss(regions, words, tokens == 0, class_ids, gammas, swap_words, same)
            by_sentence = sentence_loss(code, sentence, class_ids, self.loss.gamma3, swap_sentences, same)
        total = by_words.total + by_sentence.total
        self.adam.zero_grad(set_to_none=True)
        total.backward()
        norm = self.guard.check()
        # As published: of the text encoder alone.
        torch.nn.utils.clip_grad_norm_(self.text.parameters(), self.pretrain.clip)
        self.before_update()
        self.adam.step()
        self.guard.settle()
        return {"loss": total, "words": by_words.total, "sentence": by_sentence.total, "grad": norm}

    def _begin(self, step: int) -> None:
        """The learning rate of the step's epoch, and a new Adam at the first step of each, if so wanted."""
        pretrain = self.pretrain
        if pretrain.rebuild_adam:
            # Counted as published, in whole batches. The photos left over come first in the next one; there, never.
            epoch, place = divmod(step, self.photos // pretrain.batch)
            if place == 0:
                self.adam = self.guard.adam = self._new_adam()
        else:
            epoch = step * pretrain.batch // self.photos
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(pretrain.lr, pretrain.lr_decay, epoch)

    def _new_adam(self) -> torch.optim.Adam:
        parameters = [*self.text.parameters(), *(p for p in self.photo.parameters() if p.requires_grad)]
        return torch.optim.Adam(parameters, lr=self.pretrain.lr, betas=_ADAM, fused=True)

    def buffers(self) -> list[Tensor]:
        """Of the state, what forward passes change."""
        return [*self.text.buffers(), *self.photo.buffers()]

    def state_dict(self) -> dict:
        """Everything that a step changes, as plain types."""
        return {"text": self.text.state_dict(), "photo": self.photo.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""
        self.text.load_state_dict(state["text"])
        self.photo.load_state_dict(state["photo"])
        self.adam.load_state_dict(state["adam"])


@functools.cache
def learning_rate(first: float, decay: float, epoch: int) -> float:
    """Of an epoch, counted from 0. As published: each epoch multiplies it by `decay` while it is above a tenth of the
    first one."""
    rate = first
    for _ in range(epoch):
        if rate <= first / 10:
            break
        rate *= decay
    return rate


def encode_swaps(text: TextEncoder, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """tokens (B, K, L), lengths (B,) -> words (B, K, D, L), sentences (B, K, D). Without dropout: a swap differs in one
    word or two, which must not be dropped."""
    count = tokens.shape[1]
    words, sentences = text(tokens.flatten(0, 1), lengths.repeat_interleave(count))
    return words.unflatten(0, (-1, count)), sentences.unflatten(0, (-1, count))
