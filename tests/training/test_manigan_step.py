"""ManiGAN's two training steps, written out as the published trainers run them: three discriminators one after the
other, each with its own Adam, then the generator; two such steps end in the same weights."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training import steps
from tmgan.losses.matching import sentence_loss, words_loss
from tmgan.models.resampling import shrink
from tmgan.training.loaders.batch import Batch
from tmgan.training.step import TrainStep

ADAM = {"lr": 2e-4, "betas": (0.5, 0.999)}
TOLERANCE = 1e-11  # relative, in l2


def published(preset: str) -> tuple[TrainStep, Batch]:
    """A step as published, in float64: pairs of neighbours by length, an average of 0.999 a step."""

    def change(config):
        half_life = 4 * math.log(2) / -math.log(0.999)
        return dataclasses.replace(
            config,
            method=dataclasses.replace(config.method, wrong_pairs="published"),
            model=dataclasses.replace(config.model, attention="published"),
            optim=dataclasses.replace(config.optim, ema_half_life=half_life, ema_rampup=0.0),
        )

    step, batch = steps.in_double(*steps.make(preset, change=change))
    step.ema.double()
    # The published spatial mask depends on the order of a batch, which is that of the captions' lengths.
    order = batch.lengths.argsort(descending=True, stable=True)
    return step, batch.map(lambda column: column[order])


class WrittenOut:
    """The published trainer: `trainer.py`, or `trainerDCM.py` where the generator holds a main module."""

    def __init__(self, step: TrainStep):
        self.net_g = copy.deepcopy(step.generator)
        self.second_stage = hasattr(self.net_g, "main")
        trained = self.net_g.correction if self.second_stage else self.net_g
        judges = [step.discriminator] if self.second_stage else step.discriminator
        self.nets_d = [copy.deepcopy(net) for net in judges]
        self.optimizers_d = [torch.optim.Adam(net.parameters(), **ADAM) for net in self.nets_d]
        self.optimizer_g = torch.optim.Adam(trained.parameters(), **ADAM)
        self.trained = trained
        self.average = [p.detach().clone() for p in trained.parameters()]
        self.texts, self.photo = step.objective.captions, step.photo

    def step(self, batch: Batch) -> None:
        real = batch.images
        reals = [real] if self.second_stage else [shrink(real, 4), shrink(real, 2), real]
        words, sent = self.texts(batch.captions)
        mask = batch.tokens == 0
        with torch.no_grad():
            features = self.photo.features(real)
        out = self.net_g(batch.noise, sent, words, mask, batch.eps, features)
        fakes = [*out.smaller, out.image]
        for net, optimizer, real_i, fake in zip(self.nets_d, self.optimizers_d, reals, fakes, strict=True):
            net.zero_grad()
            self.d_loss(net, real_i, fake.detach(), sent).backward()
            optimizer.step()
        self.net_g.zero_grad()
        self.g_loss(batch, reals, fakes, words, sent, mask, out).backward()
        self.optimizer_g.step()
        for p, average in zip(self.trained.parameters(), self.average, strict=True):
            average.mul_(0.999).add_(p.detach(), alpha=0.001)

    @staticmethod
    def d_loss(net: nn.Module, real: Tensor, fake: Tensor, sent: Tensor) -> Tensor:
        real_features, fake_features = net(real), net(fake)
        real_c, fake_c = bce(net.conditional(real_features, sent), 1), bce(net.conditional(fake_features, sent), 0)
        wrong_c = bce(net.conditional(real_features[:-1], sent[1:]), 0)
        real_u, fake_u = bce(net.unconditional(real_features), 1), bce(net.unconditional(fake_features), 0)
        return (real_u + real_c) / 2 + (fake_u + fake_c + wrong_c) / 3

    def g_loss(
        self, batch: Batch, reals: list[Tensor], fakes: list[Tensor], words: Tensor, sent: Tensor, mask: Tensor, out
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for net, fake in zip(self.nets_d, fakes, strict=True):
            features = net(fake)
            total = total + bce(net.conditional(features, sent), 1) + bce(net.unconditional(features), 1)
        regions, code = self.photo.regions_and_code(fakes[-1])
        total = total + 5 * words_loss(regions, words, mask, batch.class_ids).total
        total = total + 5 * sentence_loss(code, sent, batch.class_ids).total
        if self.second_stage:
            return total - F.l1_loss(fakes[0], reals[0])
        for real, fake in zip(reals, fakes, strict=True):
            total = total + F.mse_loss(self.photo.perceptual(fake), self.photo.perceptual(real)) / 3
        kl = -0.5 * torch.mean(1 + out.logvar - out.mu.pow(2) - out.logvar.exp())
        return total + kl


def bce(logits: Tensor, label: int) -> Tensor:
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, label))


@pytest.mark.parametrize("preset", ["manigan", "manigan-dcm"])
def test_two_steps_are_those_of_the_published_trainer(preset):
    step, batch = published(preset)
    theirs = WrittenOut(step)
    start = {name: p.detach().clone() for name, p in step.generator.named_parameters()}
    other = dataclasses.replace(batch, images=batch.images.flip(0), noise=batch.noise.flip(1))
    for seen, one in ((0, batch), (4, other)):
        theirs.step(one)
        step(one, seen)
    judges = [step.discriminator] if theirs.second_stage else step.discriminator
    pairs = [(step.generator, theirs.net_g), *zip(judges, theirs.nets_d, strict=True)]
    compared = 0
    for ours, published_net in pairs:
        for (name, value), other_value in zip(
            ours.state_dict().items(), published_net.state_dict().values(), strict=True
        ):
            if value.is_floating_point():
                assert (value - other_value).norm() <= TOLERANCE * other_value.norm(), name
                compared += 1
    assert compared > 50
    trained = step.ema.correction if theirs.second_stage else step.ema
    prefix = "correction." if theirs.second_stage else ""
    for (name, value), average in zip(trained.named_parameters(), theirs.average, strict=True):
        change = (average - start[prefix + name]).norm()  # 0.001 is a number in fp32 in our step
        assert (value - average).norm() <= 1e-6 * change + 1e-14, name
    moved = {name for name, p in step.generator.named_parameters() if not torch.equal(p, start[name])}
    still = start.keys() - moved
    if theirs.second_stage:
        assert still == {name for name in start if name.startswith("main.")}, "the main module is frozen"
    else:
        assert still == {"middle_unused.weight", "large_unused.weight"}, "nothing depends on these"
