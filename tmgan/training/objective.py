"""What a training step computes, as three functions of a batch: the edit, the discriminator's loss, the generator's
loss.

Nothing here updates a weight, draws a random number or waits for the device, so each function is one graph for a
compiler. Signs and order of the calls are those of the published trainer.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tmgan.config.methods import MethodConfig
from tmgan.config.runtime import Runtime
from tmgan.config.settings import LossConfig
from tmgan.losses.adversarial import discriminator_loss, generator_adversarial, kl_loss
from tmgan.losses.matching import sentence_loss, word_level_correlation, word_level_discrimination, words_loss
from tmgan.losses.perceptual import perceptual_loss
from tmgan.losses.regional import keep_mask_loss, mean_difference, palette_loss, restoration_loss
from tmgan.methods.blurred_real import blur_real, counts
from tmgan.methods.image_comparing import keep_mask
from tmgan.methods.recolour import Recolour
from tmgan.methods.sharpness import sharpness_loss, strengthen
from tmgan.models.discriminator import Discriminator
from tmgan.models.editor import EditorGenerator
from tmgan.models.encoders import ImageFeatures, PhotoEncoder
from tmgan.models.lightweight import Generator
from tmgan.models.resampling import shrink
from tmgan.training.loaders.batch import Batch
from tmgan.training.signs import life_signs
from tmgan_kernels import masked_mae


class Edit(NamedTuple):
    """The generator's answer to a batch, and the frozen features that it and the losses use.

    Attributes:
        image: (B, 3, S, S); it, smaller, mu, logvar and keep_logits carry gradients, the rest is constant.
        mu, logvar: of the conditioning augmentation, see GeneratorOutput.
        keep_logits: (B, 1, S, S); None without model.keep_input.
        smaller: the edits of ManiGAN's coarser scales, the smallest first.
        smaller_photos: the photos in these sizes.
        features: of what the generator was given: the photos, some of them recoloured where method.restore is on.
        texture: (B, P, S/2, S/2), perceptual features of the photos; None where no loss needs them.
        answer: (B, 3, S, S), what an edit that follows its text looks like: the photos, some of them with colours
            swapped as in their texts.
        answered: (B,) bool, of which edits that is known.
        words, target_sentence: (B, D, L) and (B, D), of the target texts.
        own_words, sentence: (B, D, L) and (B, D), of the photos' own texts.
        signs: what tells a collapse, see signs.py.
    """

    image: Tensor
    mu: Tensor | None
    logvar: Tensor | None
    keep_logits: Tensor | None
    smaller: tuple[Tensor, ...]
    smaller_photos: tuple[Tensor, ...]
    features: ImageFeatures
    texture: Tensor | None
    answer: Tensor
    answered: Tensor
    words: Tensor
    own_words: Tensor
    sentence: Tensor
    target_sentence: Tensor
    signs: dict[str, Tensor]


Losses = dict[str, Tensor]  # scalars on the device, by the name the status line shows


class Captions(Protocol):
    """Looks up words and sentences of captions, see caption_embeddings.CaptionEmbeddings."""

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """rows (B,) int64 of the caption table -> words (B, D, L), sentences (B, D)."""


class Objective:
    """generate(batch) -> edit; d_loss(batch, edit) and g_loss(batch, edit) -> what to minimise, and its parts.

    The photo encoder must be frozen: its parameters take no gradient.

    Args:
        discriminator: one, or a list of those of several scales, the smallest first: as many as the generator has.
        recolour: what method.restore needs.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: Discriminator | nn.ModuleList,
        captions: Captions,
        photo: PhotoEncoder,
        method: MethodConfig,
        loss: LossConfig,
        runtime: Runtime,
        recolour: Recolour | None = None,
    ):
        self.generator, self.captions, self.photo, self.recolour = generator, captions, photo, recolour
        self.smaller, self.discriminator = _scales(discriminator)
        self.method, self.loss, self.runtime = method, loss, runtime

    def generate(self, batch: Batch) -> Edit:
        """The batch's edits. The frozen features are computed here, once per step."""
        with self.runtime.autocast():
            with torch.no_grad():
                inputs, answer, answered, target_captions = self.inputs(batch)
                features = self.photo.features(inputs, code=getattr(self.generator, "reads_code", True))
                texture = None
                if self.loss.perceptual != 0:
                    texture = features.perceptual if inputs is answer else self.photo.perceptual(answer)
                own_words, sentence = self.captions(batch.captions)
                words, target_sentence = self.captions(target_captions)
            output = self.generator(
                batch.noise, target_sentence, words, batch.target_tokens == 0, batch.eps, features, inputs
            )
        return Edit(
            output.image,
            output.mu,
            output.logvar,
            output.keep_logits,
            output.smaller,
            tuple(shrink(batch.images, batch.images.shape[-1] // image.shape[-1]) for image in output.smaller),
            features,
            texture,
            answer,
            answered,
            words,
            own_words,
            sentence,
            target_sentence,
            life_signs(inputs, output.image),
        )

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the generator gets, (B, 3, S, S); Edit's answer and answered; and the target texts, (B,) caption rows.

        A swap of its own caption, which a photo cannot be made true of, is replaced by the caption.
        """
        answered = ~batch.mismatched
        if self.recolour is None or batch.restore is None:
            return batch.images, batch.images, answered, batch.target_captions
        assert batch.keep is not None and batch.recolour is not None
        objects, answer, rows, tokens = 1 - batch.keep, batch.images, batch.target_captions, batch.tokens
        if self.method.restore.swap > 0:
            swap = batch.restore & batch.mismatched
            answer, true = self.recolour.swap(answer, objects, tokens, batch.target_tokens, batch.recolour, swap)
            rows = torch.where(swap & ~true, batch.captions, rows)
            tokens = torch.where(true[:, None], batch.target_tokens, tokens)
            answered = answered | swap
        return self.recolour.hide(answer, objects, tokens, batch.recolour, batch.restore), answer, answered, rows

    def d_loss(self, batch: Batch, edit: Edit) -> tuple[Tensor, Losses]:
        """Real photos with their own captions are real; edits with the text they should obey are not.

        At every scale; blurred photos are shown at full size only, for which their blur is chosen.
        """
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
            texts = (edit.sentence, edit.target_sentence, class_ids, order)
            smaller = {
                f"d_{photo.shape[-1]}": discriminator_loss(judge, photo, image.detach(), *texts).total
                for judge, photo, image in zip(self.smaller, edit.smaller_photos, edit.smaller, strict=True)
            }
            d = discriminator_loss(
                self.discriminator, batch.images, edit.image.detach(), *texts, blurred, blurred_counts, config.heads
            )
        total = sum(smaller.values(), d.total)
        losses = {"d": total, **smaller}
        if d.blurred is not None:
            losses["d_blurred"] = d.blurred
        if self.method.word_correlation:
            losses["d_words"] = self.word_term(batch, edit)
        return total, losses

    def word_term(self, batch: Batch, edit: Edit) -> Tensor:
        """The word-level term of the published discriminator losses, without a gradient."""
        regions, words, padding = edit.features.regions, edit.own_words, batch.tokens == 0
        if isinstance(self.generator, Generator | EditorGenerator):
            assert batch.word_labels is not None
            return word_level_correlation(regions, words, padding, batch.word_labels, self.loss.gamma1)
        gammas = (self.loss.gamma1, self.loss.gamma2)
        own = word_level_discrimination(regions, words, padding, True, gammas)
        # Each photo with the next one's caption. Published: with one drawn at random, which is then mispaired.
        wrong = word_level_discrimination(regions, words.roll(-1, 0), padding.roll(-1, 0), False, gammas)
        return (own + wrong) / 2

    def g_loss(self, batch: Batch, edit: Edit) -> tuple[Tensor, Losses]:
        """How the edits are judged: by the discriminator as it is now, by text, by photo, and by the methods."""
        method, loss = self.method, self.loss
        with self.runtime.autocast():
            stronger = strengthen(method.gradient, edit.image)  # what the text losses see
            image = stronger if method.gradient.losses == "all" else edit.image  # what the others see
            keep = keep_mask(method, batch.images, edit.image, batch.keep)
            adversarial = generator_adversarial(self.discriminator, stronger, edit.target_sentence).total
            for judge, smaller in zip(self.smaller, edit.smaller, strict=True):
                adversarial = adversarial + generator_adversarial(judge, smaller, edit.target_sentence).total
            losses = {"g_adv": adversarial}
            total = loss.adversarial * adversarial
            texture: Tensor | None = None
            if loss.matching != 0:
                regions, code, texture = self.edit_features(stronger)
                gammas = (loss.gamma1, loss.gamma2, loss.gamma3)
                words = words_loss(regions, edit.words, batch.target_tokens == 0, batch.target_class_ids, gammas)
                sentence = sentence_loss(code, edit.target_sentence, batch.target_class_ids, loss.gamma3)
                losses |= {"words": words.total, "sentence": sentence.total}
                total = total + loss.matching * (words.total + sentence.total)
            if loss.perceptual != 0:
                if texture is None or image is not stronger:
                    texture = self.photo.perceptual(image)
                losses["perceptual"] = self.perceptual(batch, edit, texture, self.resembles(batch, edit, keep))
                total = total + loss.perceptual * losses["perceptual"]
            if edit.mu is not None and edit.logvar is not None:
                losses["kl"] = kl_loss(edit.mu, edit.logvar)
                total = total + loss.kl * losses["kl"]
            if loss.difference != 0:
                losses["difference"] = mean_difference(edit.answer, image)
                total = total - loss.difference * losses["difference"]
        if keep is not None:
            losses["kept"] = keep.float().mean()  # the share of the picture to keep: not a loss, but worth watching
            losses["masked_mae"] = masked_mae(edit.answer, image, keep, method.mae_alpha)
            total = total + losses["masked_mae"]
            if edit.keep_logits is not None:
                losses["keep"] = keep_mask_loss(edit.keep_logits, keep)
                total = total + method.keep_weight * losses["keep"]
        if batch.restore is not None:
            assert keep is not None
            region = (1 - keep) * edit.answered.to(keep.dtype).view(-1, 1, 1, 1)
            if method.restore.weight > 0:
                losses["restore"] = restoration_loss(edit.answer, image, region)
                total = total + method.restore.weight * losses["restore"]
            if method.restore.palette > 0:
                losses["palette"] = palette_loss(edit.answer, image, region)
                total = total + method.restore.palette * losses["palette"]
        if method.sharpness.weight > 0:
            losses["sharpness"] = sharpness_loss(method.sharpness, edit.answer, image)
            total = total + method.sharpness.weight * losses["sharpness"]
        return total, losses

    def edit_features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the matching losses need of an edit, regions and code, and the perceptual features if a loss does."""
        return self.photo.features(image) if self.loss.perceptual != 0 else (*self.photo.regions_and_code(image), None)

    def perceptual(self, batch: Batch, edit: Edit, texture: Tensor, keep: Tensor | None) -> Tensor:
        """The perceptual loss, the mean over the scales; `texture` is that of the edit at full size."""
        assert edit.texture is not None
        total = perceptual_loss(edit.texture, texture, keep)
        for photo, image in zip(edit.smaller_photos, edit.smaller, strict=True):
            with torch.no_grad():
                target = self.photo.perceptual(photo)
            total = total + perceptual_loss(target, self.photo.perceptual(image), keep)
        return total / (1 + len(edit.smaller)) if edit.smaller else total

    def resembles(self, batch: Batch, edit: Edit, keep: Tensor | None) -> Tensor | None:
        """(B, 1, S, S) weights of the perceptual loss: where edit and photo should look alike. None: everywhere.

        An edit that follows another photo's text must not be pulled back to its own photo: there only the
        text-irrelevant region counts, or nothing when no mask is known.
        """
        if self.method.mismatched_text_p == 0 and self.method.swapped_text_p == 0:
            return None
        own = edit.answered.to(batch.images.dtype).view(-1, 1, 1, 1)
        if keep is None:
            return own.expand(-1, 1, *batch.images.shape[2:])
        return torch.maximum(own, keep.to(own.dtype))


def _scales(discriminator: Discriminator | nn.ModuleList) -> tuple[list[Discriminator], Discriminator]:
    """Those of the coarser scales, and that of the full one."""
    scales = discriminator if isinstance(discriminator, nn.ModuleList) else [discriminator]
    networks = []
    for network in scales:
        assert isinstance(network, Discriminator)
        networks.append(network)
    return networks[:-1], networks[-1]
