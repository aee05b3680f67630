"""What a training step computes, as three functions of a batch: the edit, the discriminator's loss, the generator's
loss.

Nothing here updates a weight, draws a random number or waits for the device, so each function is one graph for a
compiler. Signs and order of the calls are those of the published trainer.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tmgan.config.runtime import Runtime
from tmgan.config.settings import LossConfig, MethodConfig
from tmgan.losses.adversarial import discriminator_loss, generator_adversarial, kl_loss
from tmgan.losses.matching import sentence_loss, word_level_correlation, words_loss
from tmgan.losses.perceptual import perceptual_loss
from tmgan.losses.regional import keep_mask_loss
from tmgan.methods.blurred_real import blur_real, counts
from tmgan.methods.image_comparing import keep_mask
from tmgan.methods.sharpness import sharpness_loss, strengthen
from tmgan.models.discriminator import Discriminator
from tmgan.models.encoders import ImageFeatures, PhotoEncoder
from tmgan.models.lightweight import Generator
from tmgan.training.loaders.batch import Batch
from tmgan_kernels import masked_mae


class Edit(NamedTuple):
    """The generator's answer to a batch, and the frozen features that it and the losses use.

    Attributes:
        image: (B, 3, S, S); it, mu, logvar and keep_logits carry gradients, the rest is constant.
        mu, logvar: of the conditioning augmentation, see GeneratorOutput.
        keep_logits: (B, 1, S, S); None without model.keep_input.
        features: of the photos.
        words, target_sentence: (B, D, L) and (B, D), of the target texts.
        own_words, sentence: (B, D, L) and (B, D), of the photos' own texts.
    """

    image: Tensor
    mu: Tensor
    logvar: Tensor
    keep_logits: Tensor | None
    features: ImageFeatures
    words: Tensor
    own_words: Tensor
    sentence: Tensor
    target_sentence: Tensor


Losses = dict[str, Tensor]  # scalars on the device, by the name the status line shows


class Captions(Protocol):
    """Looks up words and sentences of captions, see caption_embeddings.CaptionEmbeddings."""

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """rows (B,) int64 of the caption table -> words (B, D, L), sentences (B, D)."""


class Objective:
    """generate(batch) -> edit; d_loss(batch, edit) and g_loss(batch, edit) -> what to minimise, and its parts.

    The photo encoder must be frozen: its parameters take no gradient.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        captions: Captions,
        photo: PhotoEncoder,
        method: MethodConfig,
        loss: LossConfig,
        runtime: Runtime,
    ):
        self.generator, self.discriminator, self.captions, self.photo = generator, discriminator, captions, photo
        self.method, self.loss, self.runtime = method, loss, runtime

    def generate(self, batch: Batch) -> Edit:
        """The batch's edits. The frozen features are computed here, once per step."""
        with self.runtime.autocast():
            with torch.no_grad():
                features = self.photo.features(batch.images)
                own_words, sentence = self.captions(batch.captions)
                words, target_sentence = self.captions(batch.target_captions)
            output = self.generator(
                batch.noise, target_sentence, words, batch.target_tokens == 0, batch.eps, features, batch.images
            )
        return Edit(
            output.image,
            output.mu,
            output.logvar,
            output.keep_logits,
            features,
            words,
            own_words,
            sentence,
            target_sentence,
        )

    def d_loss(self, batch: Batch, edit: Edit) -> tuple[Tensor, Losses]:
        """Real photos with their own captions are real; edits with the text they should obey are not."""
        config = self.method.blur
        blurred: Tensor | None = None
        blurred_counts: Tensor | None = None
        class_ids: Tensor | None = batch.class_ids
        order: Tensor | None = None
        if self.method.wrong_pairs == "published":
            class_ids, order = None, batch.lengths.argsort(descending=True, stable=True)
        with self.runtime.autocast():
            if config.sizes:
                blurred = blur_real(config, batch.images, batch.blur_sizes)
                blurred_counts = counts(config, batch.images)
            d = discriminator_loss(
                self.discriminator,
                batch.images,
                edit.image.detach(),
                edit.sentence,
                edit.target_sentence,
                class_ids,
                order,
                blurred,
                blurred_counts,
                config.heads,
            )
        losses = {"d": d.total}
        if d.blurred is not None:
            losses["d_blurred"] = d.blurred
        if self.method.word_correlation:
            assert batch.word_labels is not None
            losses["d_words"] = word_level_correlation(
                edit.features.regions, edit.own_words, batch.tokens == 0, batch.word_labels, self.loss.gamma1
            )
        return d.total, losses

    def g_loss(self, batch: Batch, edit: Edit) -> tuple[Tensor, Losses]:
        """How the edits are judged: by the discriminator as it is now, by text, by photo, and by the methods."""
        method, loss = self.method, self.loss
        with self.runtime.autocast():
            stronger = strengthen(method.gradient, edit.image)  # what the text losses see
            image = stronger if method.gradient.losses == "all" else edit.image  # what the others see
            keep = keep_mask(method, batch.images, edit.image, batch.keep)
            adversarial = generator_adversarial(self.discriminator, stronger, edit.target_sentence)
            features = self.photo.features(stronger)
            gammas = (loss.gamma1, loss.gamma2, loss.gamma3)
            words = words_loss(features.regions, edit.words, batch.target_tokens == 0, batch.target_class_ids, gammas)
            sentence = sentence_loss(features.code, edit.target_sentence, batch.target_class_ids, loss.gamma3)
            texture = features.perceptual if image is stronger else self.photo.perceptual(image)
            perceptual = perceptual_loss(edit.features.perceptual, texture, self.resembles(batch, keep))
            kl = kl_loss(edit.mu, edit.logvar)
        matching = words.total + sentence.total
        total = adversarial.total + loss.matching * matching + loss.perceptual * perceptual + loss.kl * kl
        losses = {
            "g_adv": adversarial.total,
            "words": words.total,
            "sentence": sentence.total,
            "perceptual": perceptual,
            "kl": kl,
        }
        if keep is not None:
            losses["kept"] = keep.float().mean()  # the share of the picture to keep: not a loss, but worth watching
            losses["masked_mae"] = masked_mae(batch.images, image, keep, method.mae_alpha)
            total = total + losses["masked_mae"]
            if edit.keep_logits is not None:
                losses["keep"] = keep_mask_loss(edit.keep_logits, keep)
                total = total + method.keep_weight * losses["keep"]
        if method.sharpness.weight > 0:
            losses["sharpness"] = sharpness_loss(method.sharpness, batch.images, image)
            total = total + method.sharpness.weight * losses["sharpness"]
        return total, losses

    def resembles(self, batch: Batch, keep: Tensor | None) -> Tensor | None:
        """(B, 1, S, S) weights of the perceptual loss: where edit and photo should look alike. None: everywhere.

        An edit that follows another photo's text must not be pulled back to its own photo: there only the
        text-irrelevant region counts, or nothing when no mask is known.
        """
        if self.method.mismatched_text_p == 0:
            return None
        own = (~batch.mismatched).to(batch.images.dtype).view(-1, 1, 1, 1)
        if keep is None:
            return own.expand(-1, 1, *batch.images.shape[2:])
        return torch.maximum(own, keep.to(own.dtype))
