"""The plan: a pure function of (seed, step, row), with the distribution it claims."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tmgan.config.methods import BlurConfig, MethodConfig, RestoreConfig
from tmgan.data.pack import Pack
from tmgan.training.plan import CaptionTable, Plan, Planner


@pytest.fixture
def table(pack: Pack) -> CaptionTable:
    return CaptionTable.from_pack(pack, words=18, subsets=8, swaps=4, recolours=2)


def planner(pack: Pack, table: CaptionTable, batch: int = 8, seed: int = 5, p: float = 0.5) -> Planner:
    method = MethodConfig(
        mismatched_text_p=p,
        swapped_text_p=0.2,
        restore=RestoreConfig(p=0.2, swap=0.5),
        keep_mask="dataset",
        blur=BlurConfig(sizes=(5, 7, 9)),
    )
    return Planner(seed, table, pack.train, 76, 64, batch, 6, 3, method, 2)


def fields(plan: Plan) -> dict[str, torch.Tensor]:
    return {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}


def test_same_step_same_plan_whatever_came_before(pack, table):
    one, other = planner(pack, table), planner(pack, table)
    for step in range(7):
        one(step)
    for name, value in fields(one(7)).items():
        assert torch.equal(value, fields(other(7))[name]), name


def test_rows_do_not_depend_on_the_batch_size(pack, table):
    small, large = fields(planner(pack, table, batch=4)(0)), fields(planner(pack, table, batch=12)(0))
    for name, value in small.items():
        assert torch.equal(value, large[name][:4]), name


def test_seed_and_step_change_everything(pack, table):
    base = fields(planner(pack, table)(0))
    for other in (planner(pack, table)(1), planner(pack, table, seed=6)(0)):
        for name, value in fields(other).items():
            assert not torch.equal(value, base[name]), name


def test_every_epoch_visits_every_image_once(pack, table):
    n = len(pack.train)
    stream = torch.cat([planner(pack, table, batch=4)(step).index for step in range(n)])  # four epochs
    epochs = stream.view(4, n)
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, pack.train.sort().values)
    assert not torch.equal(epochs[0], epochs[1])


def test_captions_belong_to_their_images(pack, table):
    plan = planner(pack, table, batch=16)(3)
    owner = torch.repeat_interleave(torch.arange(len(pack.first) - 1), pack.first.diff())
    own = torch.repeat_interleave(owner, table.variants)
    changed = (own[:, None].expand_as(rows)[rows >= len(own)] for rows in (table.swaps, table.recolours))
    row_owner = torch.cat([own, *changed])
    assert torch.equal(row_owner[plan.caption], plan.index)
    assert torch.equal(row_owner[plan.target_caption], plan.target_index)


def test_ranges_and_distribution(pack, table):
    make = planner(pack, table, batch=64)
    plans = [make(step) for step in range(40)]
    corners = torch.cat([torch.cat([p.top, p.left]) for p in plans])
    assert corners.min() == 0 and corners.max() == 76 - 64 - 1  # as published, the last offset is never drawn
    assert abs(torch.cat([p.flip for p in plans]).float().mean() - 0.5) < 0.05
    assert abs(torch.cat([p.target_index != p.index for p in plans]).float().mean() - 0.5) < 0.06
    noise = torch.cat([p.noise for p in plans])
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03 and torch.isfinite(noise).all()
    assert abs(torch.corrcoef(torch.stack([noise.flatten()[:-1], noise.flatten()[1:]]))[0, 1]) < 0.03


def test_own_text_without_mismatch(pack, table):
    plan = Planner(5, table, pack.train, 76, 64, 8)(0)
    assert torch.equal(plan.index, plan.target_index) and torch.equal(plan.caption, plan.target_caption)
    assert plan.restore is None and plan.swaps.shape == (8, 0)


def test_long_captions_become_fixed_subsets_in_order(pack):
    table = CaptionTable.from_pack(pack, words=6, subsets=8)
    caption = int(pack.lengths.argmax())
    words = pack.tokens[caption, : int(pack.lengths[caption])].tolist()
    rows = table.tokens[table.first[caption] : table.first[caption] + 8].tolist()
    assert table.variants[caption] == 8 and len({tuple(r) for r in rows}) > 1
    for row in rows:
        remaining = iter(words)
        assert len(row) == 6 and all(word in remaining for word in row), "not a subsequence"
    short = int(pack.lengths.argmin())
    whole = CaptionTable.from_pack(pack, words=18, subsets=8)
    assert whole.variants[short] == 1
    assert (
        whole.tokens[whole.first[short]][: pack.lengths[short]].tolist()
        == pack.tokens[short, : pack.lengths[short]].tolist()
    )


@pytest.mark.parametrize("words", [6, 18])
def test_labels_stay_with_their_words(pack, words):
    odd = dataclasses.replace(pack, word_labels=(pack.tokens % 2).to(torch.uint8))
    table = CaptionTable.from_pack(odd, words, subsets=8)
    assert torch.equal(table.labels, table.tokens % 2 == 1) and table.labels.any()


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_dropout_keeps_its_share_and_the_mean(pack, table, p):
    scale = planner(pack, table, batch=16).dropout(2, 18, 50, p)
    assert scale.shape == (16, 18, 50) and abs((scale == 0).float().mean() - p) < 0.02
    assert abs(scale.mean() - 1) < 0.03 and set(scale.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).item()}
    assert torch.equal(scale, planner(pack, table, batch=16).dropout(2, 18, 50, p))
    assert not torch.equal(scale, planner(pack, table, batch=16).dropout(3, 18, 50, p))


def test_global_generators_are_untouched(pack, table):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    planner(pack, table)(0)
    assert torch.equal(before, torch.get_rng_state())
