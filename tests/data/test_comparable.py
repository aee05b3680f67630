"""A set on which a loss has nothing to compare is refused before anything is trained, or what is missing is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.training.test_interrupted import signal_in
from tmgan.common.interrupt import Interrupted
from tmgan.data.comparable import comparison_notes
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.jobs import train_editor, train_encoders


def test_one_training_image(pack):
    with pytest.raises(ValueError, match="has 1 training image, .* at least two"):
        comparison_notes(dataclasses.replace(pack, train=pack.train[:1]))
    with pytest.raises(ValueError, match="has no training images"):
        comparison_notes(dataclasses.replace(pack, train=pack.train[:0]))
    comparison_notes(dataclasses.replace(pack, train=pack.train[[0, -1]]))


def test_one_class(pack):
    same = dataclasses.replace(pack, class_ids=torch.full_like(pack.class_ids, 2))
    with pytest.raises(ValueError, match=rf"All {len(pack.train)} training images .* class '{pack.class_names[2]}'"):
        comparison_notes(same)


def test_one_caption(pack):
    same = dataclasses.replace(
        pack, tokens=pack.tokens[:1].expand_as(pack.tokens), lengths=pack.lengths[:1].expand(400)
    )
    with pytest.raises(ValueError, match=f"the same caption, {pack.caption(0)!r}"):
        comparison_notes(same)


@pytest.mark.parametrize(
    ("levels", "message"),
    [((0, 0), "show no object:"), ((255, 255), "show nothing but the object:"), ((0, 255), "are empty or full:")],
)
def test_masks_without_a_border(pack, levels, message):
    masks = pack.masks.clone()
    masks[::2], masks[1::2] = levels
    with pytest.raises(ValueError, match=f"masks 'dataset' of .* {message} .*--method.keep-mask none"):
        comparison_notes(dataclasses.replace(pack, masks=masks), 4, "dataset")


def test_some_such_masks_and_a_large_batch_are_said(pack):
    masks = pack.masks.clone()
    masks[pack.train[:2]], masks[pack.train[2:5]] = 0, 255
    few = dataclasses.replace(pack, masks=masks)
    count = len(pack.train)
    assert comparison_notes(few, count, "dataset") == [
        f"2 of {count} training masks 'dataset' show no object.",
        f"3 of {count} training masks 'dataset' show nothing but the object.",
    ]
    assert comparison_notes(pack, count + 1, "dataset") == [
        f"the training split has {count} images, fewer than a batch of {count + 1}: each batch holds some more than "
        "once."
    ]


def test_a_run_that_has_begun_with_an_earlier_version_goes_on(tiny, pack, monkeypatch, capsys):
    train_editor(tiny, evaluated=False)
    monkeypatch.setattr("tmgan.data.pack.Pack.open", lambda *_: one_class(pack))
    capsys.readouterr()
    train_editor(dataclasses.replace(tiny, images=28), evaluated=False)
    assert "NOTE: All" in capsys.readouterr().out


def test_a_run_that_has_begun_with_its_own_encoders_goes_on(tiny, pack, monkeypatch, capsys):
    """It was stopped before it had a checkpoint of its own."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_in(patch, EncoderTask, "step", 2)
        train_editor(tiny)
    assert not list(Path(tiny.run).glob("checkpoints/*.pt"))
    monkeypatch.setattr("tmgan.data.pack.Pack.open", lambda *_: one_class(pack))
    train_editor(tiny, evaluated=False)
    assert "NOTE: All" in capsys.readouterr().out


def test_birds_and_encoders_of_a_run_are_looked_at_too(tiny, tmp_path, capsys):
    """Both exist only once the run has begun."""
    pretrain = dataclasses.replace(tiny.pretrain, batch=19, images=19)
    train_editor(dataclasses.replace(tiny, data="", drawn_images=20, batch=20, pretrain=pretrain), evaluated=False)
    said = capsys.readouterr().out
    for batch in (19, 20):
        assert f"NOTE: the training split has 17 images, fewer than a batch of {batch}" in said


def one_class(pack):
    return dataclasses.replace(pack, class_ids=torch.zeros_like(pack.class_ids))


def test_both_jobs_refuse_before_they_write(tiny, tiny_damsm, pack, monkeypatch, tmp_path):
    one = dataclasses.replace(pack, train=pack.train[:1])
    monkeypatch.setattr("tmgan.data.pack.Pack.open", lambda *_: one)
    for job, config in ((train_editor, tiny), (train_encoders, tiny_damsm)):
        with pytest.raises(ValueError, match="has 1 training image"):
            job(config)
    assert not list(tmp_path.iterdir())
