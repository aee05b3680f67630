"""A step whose gradients are not finite changes nothing, in every engine, and the host is not asked."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from tests.training import steps
from tests.training.test_train import assert_equal_states
from tmgan.config.runtime import decide
from tmgan.models import bundle
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.engine import Eager
from tmgan.training.guard import Guard
from tmgan.training.step import TrainStep

LATE = 10**6  # images seen: the average is slow by then, and not where the weights are


def poison(step: TrainStep, batch, which: str):
    """A batch that gives gradients which are not finite: of both networks, or of one."""
    if which == "both":
        return dataclasses.replace(batch, images=batch.images * float("nan"))
    name = {"discriminator": "d_loss", "generator": "g_loss"}[which]
    function = getattr(step.functions, name)

    def infinite(batch, edit):
        if which == "generator":  # the discriminator sees it too, and its batch norms take it in
            return function(batch, edit._replace(image=edit.image * float("nan")))
        total, losses = function(batch, edit)
        return total * float("inf"), losses

    setattr(step.functions, name, infinite)
    return batch


def state_of(step: TrainStep) -> dict:
    return copy.deepcopy(step.state_dict())


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_bad_step_leaves_no_trace(engine):
    """Weights, moments, their counts, batch norms and average: as if the step had never been."""
    step, batch = steps.make("lightweight", engine)
    other = dataclasses.replace(batch, images=batch.images.flip(0))
    plain, _ = steps.make("lightweight", engine)
    step(batch, LATE)
    before = state_of(step)
    losses = step(poison(step, batch, "both"), LATE + 4)
    assert not torch.isfinite(losses["grad_d"]) and not torch.isfinite(losses["grad_g"])
    assert_equal_states(step.state_dict(), before)
    step(other, LATE + 8)
    plain(batch, LATE)
    plain(other, LATE + 8)
    assert_equal_states(step.state_dict(), plain.state_dict())


@pytest.mark.parametrize("which", ["discriminator", "generator"])
def test_each_network_is_judged_by_its_own_gradients(which):
    step, batch = steps.make("lightweight")
    step(batch, LATE)
    before = state_of(step)
    losses = step(poison(step, batch, which), LATE + 4)
    bad, good = ("grad_d", "grad_g") if which == "discriminator" else ("grad_g", "grad_d")
    assert not torch.isfinite(losses[bad]) and torch.isfinite(losses[good])
    now = step.state_dict()
    other, adam = {"discriminator": ("generator", "adam_d"), "generator": ("discriminator", "adam_g")}[which]
    assert_equal_states(now[which], before[which])
    assert_equal_states(now[adam]["state"][0], before[adam]["state"][0])
    weights = [name for name, _ in getattr(step, other).named_parameters()]
    assert any(not torch.equal(now[other][name], before[other][name]) for name in weights)
    if which == "generator":
        assert_equal_states(now["ema"], before["ema"])
    assert all(torch.isfinite(buffer).all() for buffer in step.discriminator.buffers())


def test_what_a_graph_would_capture_decides_too():
    """The decision is part of the function that is captured, which is called again here in place of a replay."""
    step, batch = steps.make("quickstart", "graphed")
    step.functions = Eager(step.objective)
    for adam in (step.adam_g, step.adam_d):
        for group in adam.param_groups:
            group["capturable"] = False  # torch allows it on a GPU only
    step._step(batch)
    before = state_of(step)
    step._step(poison(step, batch, "both"))
    assert_equal_states(step.state_dict(), before)
    step._step(batch)
    assert any(not torch.equal(v, before["generator"][k]) for k, v in step.state_dict()["generator"].items())


def test_a_gradient_that_adam_could_not_square_is_skipped():
    weight = torch.nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([weight], fused=True)
    guard = Guard(adam)
    for size, skipped in ((1e20, 1), (1e18, 0)):
        weight.grad = torch.full((3,), size)
        guard.begin()
        guard.check()
        adam.step()
        guard.settle()
        assert guard.skipped.item() == skipped and torch.equal(weight, torch.ones(3)) == bool(skipped)
    assert torch.isfinite(adam.state[weight]["exp_avg_sq"]).all()


def test_the_encoders_step_is_guarded_too(tiny_damsm, pack, monkeypatch):
    def make() -> EncoderTask:
        made = bundle.build_encoders(tiny_damsm.encoder, 64, pack.vocabulary, 0)
        return EncoderTask(tiny_damsm, pack, made, decide(tiny_damsm.runtime))

    task, plain = make(), make()
    task.step(0)
    before = copy.deepcopy(task.state_dict())
    with monkeypatch.context() as patch:
        patch.setattr(task, "shown", lambda batch: (batch.images * float("nan"), batch.tokens, batch.swap_tokens))
        numbers = task.step(1)
    assert not torch.isfinite(numbers["grad"])
    assert_equal_states(task.state_dict(), before)
    task.step(2)
    plain.step(0)
    plain.step(2)
    assert_equal_states(task.state_dict(), plain.state_dict())


def test_guarding_changes_no_bit_of_a_good_step(monkeypatch):
    step, batch = steps.make("everything")
    plain, _ = steps.make("everything")
    for name in ("begin", "settle"):
        monkeypatch.setattr(plain.guard_g, name, lambda *_: None)
        monkeypatch.setattr(plain.guard_d, name, lambda *_: None)

    def unguarded(guard):
        guard.norm = guard.skipped = torch.zeros(())
        return guard.norm

    for guard in (plain.guard_g, plain.guard_d):
        monkeypatch.setattr(guard, "check", lambda guard=guard: unguarded(guard))
    for images in (0, 4):
        step(batch, images)
        plain(batch, images)
    assert_equal_states(step.state_dict(), plain.state_dict())
    assert not hasattr(plain.adam_g, "found_inf")
