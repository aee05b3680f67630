"""The training step as the published code works: the baseline of the ratio in docs/performance.md, not part of tmgan.

Same networks, same weights, same losses as tmgan's step (tests/benchmarks/test_rewrites.py), but every image-text pair
in a Python loop, frozen networks run again for each use, all of VGG16 for its ninth layer, weight gradients of the
discriminator that nobody uses, one Adam and one averaging call per parameter, losses read on the host in every step,
all in fp32; and, for the paper's combined method, a segmentation network with its auxiliary head on every batch and a
dense 9x9 blur. Written from a description of that code: tmgan's networks in NCHW, none of its fused operations.
"""

from __future__ import annotations

import copy
import types

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import vgg16
from torchvision.models.segmentation import fcn_resnet101

import tmgan_kernels
from tmgan.config.settings import LossConfig, OptimConfig
from tmgan.models.encoders import PhotoEncoder, TextEncoder
from tmgan.models.layers import AffineCombination, ResidualBlock
from tmgan.training.loaders.batch import Batch

_BIRD, _FCN_SIZE, _ALPHA, _BLUR = 3, 224, 25.0, 9
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def full_vgg(photo: PhotoEncoder) -> nn.Sequential:
    """All 31 layers of VGG16's features; the first four convolutions are those of `photo`."""
    layers = vgg16(weights=None, init_weights=False).features
    for index, layer in photo.perceptor.layers.items():
        layers[int(index)] = copy.deepcopy(layer)
    return layers.eval().requires_grad_(False)


def published_fcn() -> nn.Module:
    """FCN-ResNet101 with its auxiliary head; random weights: only its work matters here."""
    return fcn_resnet101(weights=None, weights_backbone=None, aux_loss=True, num_classes=21).eval()


def _two_convolutions(self: AffineCombination, x: Tensor, condition: Tensor) -> Tensor:
    hidden = self.hidden(condition)
    return x * self.scale(hidden) + self.shift(hidden)


def _library_norm(self: ResidualBlock, x: Tensor) -> Tensor:
    return x + F.instance_norm(self.conv(self.gated(x)))


class PublishedStep:
    """step(batch) -> losses by name, as Python numbers.

    Args:
        generator: copied.
        discriminator: copied.
        text: embeds the captions.
        photo: an Inception with VGG, not folded; copied.
        loss: weights of the losses.
        optim: settings of both optimisers.
        fcn: the segmentation network of the masked loss, or None.
        blur: whether to train the discriminator on blurred photos.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        text: TextEncoder,
        photo: PhotoEncoder,
        loss: LossConfig,
        optim: OptimConfig,
        fcn: nn.Module | None = None,
        blur: bool = False,
    ):
        self.generator, self.discriminator = copy.deepcopy(generator), copy.deepcopy(discriminator)
        self.text, self.encoder, self.vgg = text, copy.deepcopy(photo.matcher), full_vgg(photo)
        for network in (self.generator, self.discriminator, self.encoder, self.vgg):
            network.to(device=next(generator.parameters()).device, memory_format=torch.contiguous_format)
        for module in self.generator.modules():
            if isinstance(module, AffineCombination):
                module.forward = types.MethodType(_two_convolutions, module)
            elif isinstance(module, ResidualBlock):
                module.forward = types.MethodType(_library_norm, module)
        self.loss, self.fcn, self.blur = loss, fcn, blur
        betas = (optim.beta1, optim.beta2)
        self.adam_g = torch.optim.Adam(self.generator.parameters(), lr=optim.lr_g, betas=betas, foreach=False)
        self.adam_d = torch.optim.Adam(self.discriminator.parameters(), lr=optim.lr_d, betas=betas, foreach=False)
        self.average = [p.detach().clone() for p in self.generator.parameters()]

    def __call__(self, batch: Batch) -> dict[str, float]:
        with tmgan_kernels.prefer("eager"):
            return self._step(batch)

    def _step(self, batch: Batch) -> dict[str, float]:
        real = batch.images.contiguous()
        lengths = batch.lengths.tolist()
        longest = max(lengths)
        with torch.no_grad():
            words, sentence = self.text(batch.tokens[:, :longest], batch.lengths)
            self.text(batch.tokens[:, :longest].flip(0), batch.lengths.flip(0))  # wrong captions, used by nothing
        padding = batch.tokens[:, :longest] == 0
        regions, code = self.encoder(real)
        features = types.SimpleNamespace(regions=regions, code=code, perceptual=self._relu2_2(real))
        edit = self.generator(batch.noise, sentence, words, padding, batch.eps, features, real)
        mask = None if self.fcn is None else self.keep_mask(real)

        self.discriminator.zero_grad()
        d_parts = self._d_loss(real, edit.image, words, sentence, lengths)
        sum(d_parts.values()).backward(retain_graph=True)
        self.adam_d.step()

        self.generator.zero_grad()
        g_parts = self._g_loss(real, edit.image, words, sentence, lengths, batch.class_ids)
        g_parts["kl"] = -0.5 * torch.mean(1 + edit.logvar - edit.mu.pow(2) - edit.logvar.exp())
        if mask is not None:
            g_parts["masked_mae"] = _ALPHA * torch.mean(torch.abs(real - edit.image) * mask)
        sum(g_parts.values()).backward()
        self.adam_g.step()
        for mean, parameter in zip(self.average, self.generator.parameters(), strict=True):
            mean.mul_(0.999).add_(parameter.data, alpha=0.001)
        return {name: value.item() for name, value in (d_parts | g_parts).items()}

    # ---------------------------------------------------------------- frozen
    def _relu2_2(self, image: Tensor) -> Tensor:
        for index, layer in enumerate(self.vgg):
            image = layer(image)
            if index == 8:
                features = image  # the layers after it work for nothing
        return features

    def keep_mask(self, real: Tensor) -> Tensor:
        """1 - (is it a bird), (B, 1, S, S); with a graph that is never used."""
        mean, std = real.new_tensor(_MEAN).view(1, 3, 1, 1), real.new_tensor(_STD).view(1, 3, 1, 1)
        small = F.interpolate((real + 1) / 2, size=(_FCN_SIZE, _FCN_SIZE), mode="bilinear", align_corners=False)
        bird = (self.fcn((small - mean) / std)["out"].argmax(1, keepdim=True) == _BIRD).float()
        return 1 - F.interpolate(bird, size=real.shape[2:], mode="bilinear", align_corners=False)

    # ---------------------------------------------------------------- losses
    def _d_loss(
        self, real: Tensor, fake: Tensor, words: Tensor, sentence: Tensor, lengths: list[int]
    ) -> dict[str, Tensor]:
        d, fake = self.discriminator, fake.detach()
        real_features, fake_features = d(real), d(fake)
        real_c, fake_c = (
            _bce(d.conditional(real_features, sentence), 1),
            _bce(d.conditional(fake_features, sentence), 0),
        )
        parts = {}
        if self.blur:
            weight = real.new_full((3, 3, _BLUR, _BLUR), 1 / (3 * _BLUR**2))
            blurred = F.conv2d(real, weight, padding=_BLUR // 2)
            parts["d_blurred"] = _bce(d.conditional(d(blurred), sentence), 0)
        wrong_c = _bce(d.conditional(real_features[:-1], sentence[1:]), 0)
        real_u, fake_u = _bce(d.unconditional(real_features), 1), _bce(d.unconditional(fake_features), 0)
        parts["d_pairs"] = (real_u + real_c) / 2 + (fake_u + fake_c + wrong_c) / 3
        parts["words_without_gradient"] = self._word_level_correlation(real, words, lengths)
        return parts

    def _word_level_correlation(self, real: Tensor, words: Tensor, lengths: list[int]) -> Tensor:
        """The encoder once more on the photos, and a term that is constant in every weight."""
        regions, _ = self.encoder(real)
        total = real.new_zeros(())
        for i, length in enumerate(lengths):
            own = words[i : i + 1, :, :length]
            context = _context(own, regions[i : i + 1], self.loss.gamma1)
            scores = torch.softmax(context.sum(1), dim=1)
            total = total + F.binary_cross_entropy(scores, torch.zeros_like(scores))
        return total

    def _g_loss(
        self, real: Tensor, fake: Tensor, words: Tensor, sentence: Tensor, lengths: list[int], class_ids: Tensor
    ) -> dict[str, Tensor]:
        d, loss = self.discriminator, self.loss
        features = d(fake)  # its weights take gradients too, which the next step throws away
        parts = {"g_adv": _bce(d.conditional(features, sentence), 1) + _bce(d.unconditional(features), 1)}
        regions, code = self.encoder(fake)
        ids = class_ids.tolist()
        same = torch.tensor(
            [[a == b and i != j for j, b in enumerate(ids)] for i, a in enumerate(ids)], device=fake.device
        )
        parts["words"] = loss.matching * self._words_loss(regions, words, lengths, same)
        scores = loss.gamma3 * F.cosine_similarity(code[:, None], sentence[None], dim=2)
        parts["sentence"] = loss.matching * _both_ways(scores.masked_fill(same, float("-inf")))
        parts["perceptual"] = loss.perceptual * F.mse_loss(self._relu2_2(fake), self._relu2_2(real)) / 2
        return parts

    def _words_loss(self, regions: Tensor, words: Tensor, lengths: list[int], same: Tensor) -> Tensor:
        """One caption after the other, each against all pictures."""
        columns = []
        for i, length in enumerate(lengths):
            own = words[i : i + 1, :, :length].repeat(len(regions), 1, 1)
            context = _context(own, regions, self.loss.gamma1)
            cosine = F.cosine_similarity(own.transpose(1, 2), context.transpose(1, 2), dim=2)
            columns.append(torch.log((self.loss.gamma2 * cosine).exp().sum(1, keepdim=True)))
        scores = self.loss.gamma3 * torch.cat(columns, 1)
        return _both_ways(scores.masked_fill(same, float("-inf")))


def _context(words: Tensor, regions: Tensor, gamma1: float) -> Tensor:
    """What each word (B, D, T) attends to in regions (B, D, g, g): softmax over words, then over regions."""
    flat = regions.flatten(2)
    attention = torch.softmax(torch.bmm(flat.transpose(1, 2), words), dim=2).transpose(1, 2)
    attention = torch.softmax(gamma1 * attention.contiguous(), dim=2)
    return torch.bmm(flat, attention.transpose(1, 2))


def _both_ways(scores: Tensor) -> Tensor:
    own = torch.arange(len(scores), device=scores.device)
    return F.cross_entropy(scores, own) + F.cross_entropy(scores.t(), own)


def _bce(logits: Tensor, label: int) -> Tensor:
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, float(label)))
