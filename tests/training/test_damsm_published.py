"""The encoders' training as the published loop does it, written out: packed sequences, torchvision's Inception whose
batch norms use and update batch statistics, losses caption by caption, Adam built anew at each epoch.

To hold other numbers against our step, numbers of the published code for instance: `published_step` gives it with
weights by the goldens' recipe, and it is called with tensors of one's own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchvision.models import inception_v3

import tmgan.models.encoders.inception as inception
from tests import golden
from tests.training.test_train import StopAfter, assert_equal_states, latest
from tmgan.config.runtime import decide
from tmgan.config.settings import LossConfig, PretrainConfig, RuntimeConfig
from tmgan.models import bundle
from tmgan.models.encoders import InceptionEncoder, PhotoEncoder, TextEncoder, VGGFeatures
from tmgan.models.published_names import IMAGE_ENCODER, TEXT_ENCODER, published_key
from tmgan.training.encoder_step import EncoderStep, learning_rate
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.loop import train
from tmgan.training.run_folder import RunFolder

PUBLISHED = PretrainConfig(batch_statistics=True, rebuild_adam=True)  # all else is as published by default
WORDS, BATCH, BATCHES = 60, 4, 2  # in the vocabulary; photos of a step; steps of an epoch, and a photo is left over


def published_step() -> EncoderStep:
    """Our step in float64."""
    text = golden.fill(TextEncoder(WORDS), TEXT_ENCODER)
    matcher = golden.fill(InceptionEncoder(batch_statistics=PUBLISHED.batch_statistics), IMAGE_ENCODER)
    pretrain = dataclasses.replace(PUBLISHED, batch=BATCH)
    photos = BATCHES * BATCH + 1
    runtime = decide(RuntimeConfig(device="cpu", threads=1))
    return EncoderStep(text, PhotoEncoder(matcher, VGGFeatures()), pretrain, LossConfig(), photos, runtime)


def make_batch(name: str, width: int = 18) -> dict[str, Tensor]:
    """What a step takes, longest captions first; two photos of one class, half of the embeddings' entries dropped."""
    return {
        "images": golden.image(f"{name}/image", BATCH),
        "tokens": golden.captions(f"{name}/captions", golden.LENGTHS, width, WORDS),
        "lengths": torch.tensor(golden.LENGTHS),
        "class_ids": golden.CLASS_IDS,
        "dropout": 2.0 * (golden.tensor(f"{name}/dropout", (BATCH, width, 300)) > 0),
    }


class WrittenOut:
    """RNN_ENCODER, CNN_ENCODER and the loop of pretrain_DAMSM.py, from their descriptions."""

    def __init__(self, size: int):
        self.size = size
        self.text = nn.ModuleDict(
            {"encoder": nn.Embedding(WORDS, 300), "rnn": nn.LSTM(300, 128, batch_first=True, bidirectional=True)}
        )
        trunk = inception_v3(weights=None, aux_logits=False, init_weights=False)
        trunk.requires_grad_(False)
        del trunk.fc
        self.image = nn.ModuleDict(dict(trunk.named_children()))
        self.image["emb_features"] = nn.Conv2d(768, 256, 1, bias=False)
        self.image["emb_cnn_code"] = nn.Linear(2048, 256)
        with torch.no_grad():
            for net in (self.text, self.image):
                net.double().train()
                for key, value in net.state_dict().items():
                    value.copy_(golden.parameter(key, tuple(value.shape)))
        self.lr = 0.002

    def epoch(self, batches: list[dict[str, Tensor]]) -> list[dict[str, float]]:
        """One epoch; the losses of each step."""
        trained = [*self.text.parameters(), *(p for p in self.image.parameters() if p.requires_grad)]
        optimizer = torch.optim.Adam(trained, lr=self.lr, betas=(0.5, 0.999))
        losses = []
        for batch in batches:
            self.text.zero_grad()
            self.image.zero_grad()
            region, code = self.encode_image(batch["images"])
            words, sentence = self.encode_text(batch["tokens"], batch["lengths"], batch["dropout"])
            w0, w1 = self.words_loss(region, words, batch["lengths"], batch["class_ids"])
            s0, s1 = self.sent_loss(code, sentence, batch["class_ids"])
            loss = w0 + w1 + s0 + s1
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.text.parameters(), 0.25)
            optimizer.step()
            losses.append({"loss": loss.item(), "words": (w0 + w1).item(), "sentence": (s0 + s1).item()})
        if self.lr > 0.0002:
            self.lr *= 0.98
        return losses

    def encode_text(self, tokens: Tensor, lengths: Tensor, dropout: Tensor) -> tuple[Tensor, Tensor]:
        packed = pack_padded_sequence(self.text["encoder"](tokens) * dropout, lengths, batch_first=True)
        output, (hidden, _) = self.text["rnn"](packed)
        words = pad_packed_sequence(output, batch_first=True)[0].transpose(1, 2)
        return words, hidden.transpose(0, 1).reshape(len(tokens), 256)

    def encode_image(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        for name, layer in self.image.items():
            if name == "Mixed_7a":
                region = self.image["emb_features"](x)
            if name.startswith(("Conv2d", "Mixed", "maxpool")):
                x = layer(x)
        return region, self.image["emb_cnn_code"](x.mean((2, 3)))

    @staticmethod
    def words_loss(region: Tensor, words: Tensor, lengths: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        similarities = []
        for i, length in enumerate(lengths.tolist()):
            word, row = words[i, :, :length], []
            for image in region.flatten(2):
                attention = torch.softmax(torch.softmax(image.T @ word, dim=1).T * 4.0, dim=1)  # words, then regions
                context = image @ attention.T
                cosine = (context * word).sum(0) / (context.norm(dim=0) * word.norm(dim=0)).clamp(min=1e-8)
                row.append((5.0 * cosine).exp().sum().log())
            similarities.append(torch.stack(row))
        return cross_entropies(10.0 * torch.stack(similarities, 1), class_ids)

    @staticmethod
    def sent_loss(code: Tensor, sentence: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        norms = code.norm(dim=1)[:, None] * sentence.norm(dim=1)[None]
        return cross_entropies(10.0 * code @ sentence.T / norms.clamp(min=1e-8), class_ids)


def cross_entropies(scores: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Of photos (rows) over captions, and of captions over photos; others of one's class do not count."""
    masked = scores.clone()
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j and class_ids[i] == class_ids[j]:
                masked[i, j] = -torch.inf
    own = torch.arange(len(scores))
    return F.cross_entropy(masked, own), F.cross_entropy(masked.T, own)


@pytest.mark.parametrize("size, steps", [(75, 3), pytest.param(299, 2, marks=pytest.mark.slow)])
def test_steps_are_those_of_the_published_loop(size, steps, monkeypatch):
    """Two steps of one epoch and, on small pictures, the first of the next one."""
    monkeypatch.setattr(inception, "INPUT_SIZE", size)
    step, theirs = published_step(), WrittenOut(size)
    batches = [make_batch(f"damsm{number}") for number in range(steps)]
    before = {name: p.detach().clone() for name, p in step.text.named_parameters()}
    expected = theirs.epoch(batches[:BATCHES]) + (theirs.epoch(batches[BATCHES:]) if steps > BATCHES else [])
    for number, batch in enumerate(batches):
        losses = step(number, **batch)
        assert {name: losses[name].item() for name in expected[number]} == pytest.approx(expected[number], rel=1e-10)
    compared, moved = 0, 0
    published = theirs.text.state_dict() | theirs.image.state_dict()
    for net, names in ((step.text, TEXT_ENCODER), (step.photo.matcher, IMAGE_ENCODER)):
        for key, value in net.state_dict().items():
            wanted = published.pop(published_key(key, names))
            assert (value - wanted).double().norm() <= 1e-10 * wanted.double().norm(), key
            compared += 1
            moved += not torch.equal(wanted, golden.parameter(published_key(key, names), tuple(wanted.shape)))
    assert compared == 9 + 567 and not published
    assert moved == 9 + 3 + 3 * 94, "the text encoder, the heads, and three buffers of each batch norm"
    assert all((p - before[name]).norm() > 0 for name, p in step.text.named_parameters())


def test_the_learning_rate_stops_at_the_first_value_not_above_a_tenth():
    rate, rates = 0.002, []
    for _ in range(200):
        rates.append(rate)
        if rate > 0.0002:
            rate *= 0.98
    assert [learning_rate(0.002, 0.98, epoch) for epoch in range(200)] == rates
    assert rates[113] > 0.0002 > rates[114] == rates[199]


def task_of(config, pack) -> EncoderTask:
    made = bundle.build_encoders(config.encoder, 64, pack.vocabulary, config.seed)
    return EncoderTask(config, pack, made, decide(config.runtime))


def published_epochs(config, pack):
    """tiny_damsm with Adam built anew at each epoch, which is two steps: the photos make nearly three batches."""
    batch = len(pack.train) // 3 + 1
    pretrain = dataclasses.replace(config.pretrain, rebuild_adam=True, batch=batch, images=5 * batch, dropout=0.5)
    return dataclasses.replace(config, pretrain=pretrain)


def test_adam_begins_anew_with_the_first_step_of_each_epoch(tiny_damsm, pack):
    config = published_epochs(tiny_damsm, pack)
    task, plain = task_of(config, pack), task_of(tiny_damsm, pack)
    counts, rates = [], []
    for number in range(5):
        task.step(number)
        plain.step(number)
        (count,) = {int(state["step"]) for state in task.train_step.adam.state.values()}
        counts.append(count)
        rates.append(task.train_step.adam.param_groups[0]["lr"])
    assert counts == [1, 2, 1, 2, 1]
    assert rates == [learning_rate(config.pretrain.lr, 0.98, number // 2) for number in range(5)]
    assert {int(state["step"]) for state in plain.train_step.adam.state.values()} == {5}, "otherwise it runs on"


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_it_resumes_to_the_same_bits_around_the_end_of_an_epoch(stop, tiny_damsm, pack, tmp_path):
    def go(config, signal):
        run = RunFolder(config.run, config, 3)
        result = train(signal.watch(task_of(config, pack)), run, config.pretrain.images, config.output, signal)
        run.close()
        return result

    whole = published_epochs(tiny_damsm, pack)
    assert go(whole, StopAfter(10**9)) == "done"
    pieces = dataclasses.replace(whole, run=str(tmp_path / "pieces"))
    assert [go(pieces, StopAfter(stop)), go(pieces, StopAfter(10**9))] == ["stopped", "done"]
    assert_equal_states(latest(Path(whole.run))["task"], latest(Path(pieces.run))["task"])


def test_photos_that_make_no_batch_are_refused(tiny_damsm, pack):
    config = published_epochs(tiny_damsm, pack)
    few = dataclasses.replace(pack, train=pack.train[: config.pretrain.batch - 1])
    with pytest.raises(ValueError, match=r"whole batches, and \d+ photos make none of \d+"):
        task_of(config, few)
