"""One training step of the editor: discriminator update, generator update, averaged generator.

Every random number the step uses is in the batch, so the step itself is deterministic. Losses stay on the device.
Order and signs are those of the published trainer; the real photo's frozen features are computed once, not twice.
"""
from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tmgan.config import LossConfig, MethodConfig, OptimConfig
from tmgan.data.loaders.batch import Batch
from tmgan.losses.adversarial import discriminator_loss, generator_adversarial, kl_loss
from tmgan.losses.matching import sentence_loss, words_loss
from tmgan.losses.perceptual import perceptual_loss
from tmgan.losses.regional import keep_mask_loss
from tmgan.methods.blurred_real import blurred, counts
from tmgan.methods.image_comparing import keep_mask
from tmgan.methods.sharpness import sharpness_loss, strengthen
from tmgan.models.encoders import PhotoEncoder
from tmgan.models.encoders.text import TextEncoder
from tmgan.runtime import Runtime
from tmgan_kernels import masked_mae


class TrainStep:
    """step(batch, images_seen) -> losses, scalars on the device by name. Owns the optimisers and the averaged
    generator `ema`."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, text: TextEncoder, photo: PhotoEncoder,
                 method: MethodConfig, loss: LossConfig, optim: OptimConfig, runtime: Runtime):
        self.generator, self.discriminator, self.text, self.photo = generator, discriminator, text, photo
        self.method, self.loss, self.optim, self.runtime = method, loss, optim, runtime
        self.ema = copy.deepcopy(generator).eval().requires_grad_(False)
        betas = (optim.beta1, optim.beta2)
        self.adam_g = torch.optim.Adam(generator.parameters(), lr=optim.lr_g, betas=betas, fused=True)
        self.adam_d = torch.optim.Adam(discriminator.parameters(), lr=optim.lr_d, betas=betas, fused=True)

    def __call__(self, batch: Batch, images_seen: int) -> dict[str, Tensor]:
        method = self.method
        with self.runtime.autocast():
            # Frozen features, once a step.
            with torch.no_grad():
                features = self.photo.features(batch.images)
                words, sentence = self.text(batch.tokens, batch.lengths)
                if method.mismatched_text_p > 0:
                    words, target_sentence = self.text(batch.target_tokens, batch.target_lengths)
                else:
                    target_sentence = sentence
            padding = batch.target_tokens == 0
            fake = self.generator(batch.noise, target_sentence, words, padding, batch.eps, features, batch.images)

            # Discriminator: real photos with their own captions, edits with the text they were asked to obey.
            self.discriminator.requires_grad_(True)
            blur = {}
            if method.blur.sizes:
                blur = {"blurred": blurred(method.blur, batch.images, batch.blur_sizes),
                        "blurred_counts": counts(method.blur, batch.images), "blurred_heads": method.blur.heads}
            d = discriminator_loss(self.discriminator, batch.images, fake.image.detach(), sentence, target_sentence,
                                   batch.class_ids, **blur)
        self._update(self.adam_d, d.total)

        # Generator, judged by the updated discriminator.
        self.discriminator.requires_grad_(False)
        with self.runtime.autocast():
            judged = strengthen(method.gradient, fake.image)  # what the text losses see
            edit = judged if method.gradient.losses == "all" else fake.image  # what the others see
            keep = keep_mask(method, batch.images, fake.image, batch.keep)
            g = generator_adversarial(self.discriminator, judged, target_sentence)
            fake_features = self.photo.features(judged)
            gammas = (self.loss.gamma1, self.loss.gamma2, self.loss.gamma3)
            matched_words = words_loss(fake_features.regions, words, padding, batch.target_class_ids, gammas)
            matched_sentences = sentence_loss(fake_features.code, target_sentence, batch.target_class_ids, gammas[2])
            seen = fake_features.perceptual if edit is judged else self.photo.perceptual(edit)
            perceptual = perceptual_loss(features.perceptual, seen, self._resembles(batch, keep))
            kl = kl_loss(fake.mu, fake.logvar)
        matching = matched_words.total + matched_sentences.total
        total = g.total + self.loss.matching * matching + self.loss.perceptual * perceptual + self.loss.kl * kl
        losses = {"d": d.total, "g_adv": g.total, "words": matched_words.total,
                  "sentence": matched_sentences.total, "perceptual": perceptual, "kl": kl}
        if d.blurred is not None:
            losses["d_blurred"] = d.blurred
        if keep is not None:
            losses["kept"] = keep.float().mean()  # the share of the picture that should stay: not a loss, but watch it
            losses["masked_mae"] = masked_mae(batch.images, edit, keep, method.mae_alpha)
            total = total + losses["masked_mae"]
            if fake.keep_logits is not None:
                losses["keep"] = keep_mask_loss(fake.keep_logits, keep)
                total = total + method.keep_weight * losses["keep"]
        if method.sharpness.weight > 0:
            losses["sharpness"] = sharpness_loss(method.sharpness, batch.images, edit)
            total = total + method.sharpness.weight * losses["sharpness"]
        self._update(self.adam_g, total)
        self._average(len(batch.images), images_seen)
        return losses

    def _resembles(self, batch: Batch, keep: Tensor | None) -> Tensor | None:
        """(B,1,S,S) weights of the perceptual loss: where edit and photo should look alike. None: everywhere.

        An edit that was asked for another photo's text must not be pulled back to its own photo: there only the
        text-irrelevant region counts, or nothing when no mask is known.
        """
        if self.method.mismatched_text_p == 0:
            return None
        own = (~batch.mismatched).to(batch.images.dtype).view(-1, 1, 1, 1)
        if keep is None:
            return own.expand(-1, 1, *batch.images.shape[2:])
        return torch.maximum(own, keep.to(own.dtype))

    @staticmethod
    def _update(adam: torch.optim.Adam, total: Tensor) -> None:
        adam.zero_grad(set_to_none=True)
        total.backward()
        adam.step()

    @torch.no_grad()
    def _average(self, batch: int, images_seen: int) -> None:
        half_life = self.optim.ema_half_life
        if self.optim.ema_rampup > 0:
            half_life = min(half_life, images_seen * self.optim.ema_rampup)
        keep = 0.5 ** (batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.generator.parameters()), 1.0 - keep)
        for mine, theirs in zip(self.ema.buffers(), self.generator.buffers()):
            mine.copy_(theirs)

    def state_dict(self) -> dict:
        """Plain tensors and numbers."""
        return {name: getattr(self, name).state_dict()
                for name in ("generator", "discriminator", "ema", "adam_g", "adam_d")}

    def load_state_dict(self, state: dict) -> None:
        """Restore state_dict()."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)
        for adam, lr in ((self.adam_g, self.optim.lr_g), (self.adam_d, self.optim.lr_d)):
            for group in adam.param_groups:       # may have been lowered after a run diverged
                group["lr"] = lr
