"""Masks that a network finds: the published FCN mask, and what is stored in a pack, cropped and flipped with it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.golden import FOLDER, SEGMENTER, assert_golden, fill, image
from tmgan.cli import main
from tmgan.common.progress import Progress
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.data.masks import RANDOM_NOTE, agreement, first_captions, mask_path, open_masks, read_record, write_masks
from tmgan.data.pack import Pack
from tmgan.models.segmentation import VOC, Segmenter, voc_ids
from tmgan.training.editor_task import EditorTask, check_fits
from tmgan.training.jobs import train_editor
from tmgan_kernels import gather_crop

QUIET = Progress(visible=False)


@pytest.fixture(scope="module")
def published() -> Segmenter:
    """The network with the golden's weights."""
    network = Segmenter()
    fill(network, SEGMENTER)
    stored = np.load(FOLDER / "au_fcn_mask.npz")
    for name, value in network.named_parameters():
        if name.endswith("bn3.weight"):
            value.mul_(0.25)
    network.network.classifier[4].bias[VOC.index("bird")] += float(stored["delta"])
    return network.float()


def test_published_mask(published):
    """Input, logits, likeliest class and mask of the published code, which ran in float32 in another torch."""
    images = image("au/fcn", 2).float()
    assert_golden(published.prepare(images, 224), "au_fcn_mask", "input", 1e-6, run="f32")
    logits = published.logits(images, 224)
    assert_golden(logits, "au_fcn_mask", "logits", 1e-5, run="f32")
    stored = np.load(FOLDER / "au_fcn_mask.npz")
    bird = np.unpackbits(stored["f32:argmax_is3_bits"])[: 2 * 224 * 224].reshape(2, 224, 224)
    close = float(stored["f32:frac_margin_lt_1e-3"])  # share of the pixels that rounding may turn
    assert 0.1 < bird.mean() < 0.9
    assert ((logits.argmax(1) == 3).numpy() != bird).mean() <= close
    keep = 1 - published.objects(logits, (256, 256))
    assert abs(keep.mean().item() - float(stored["f32:mask_mean"])) < 2 * close
    flat, stride = keep.numpy().reshape(-1), int(stored["f32:mask|stride"])
    assert (np.abs(flat[::stride] - stored["f32:mask|sub"]) > 1e-5).mean() <= 4 * close + 1 / len(flat[::stride])
    assert ((keep > 0) & (keep < 1)).any()  # As published: fractions along the contours.


class Painted:
    """A provider that needs no weights: the object is what is brighter than mid-grey. It keeps what it was asked."""

    name = "fcn"

    def __init__(self):
        self.seen: list[tuple[int, list[str], float]] = []

    def __call__(self, images, texts, span=1.0):
        self.seen.append((len(images), texts, span))
        return (images.mean(1, keepdim=True) > 0).float()


ABOUT = {"classes": ["bird"], "weights": "random"}


def store(pack: Pack, find=None, about=None):
    return write_masks(pack, "fcn", about or ABOUT, find or Painted(), 7, QUIET)


def test_masks_are_found_once_from_whole_tiles_with_the_first_captions(own):
    find = Painted()
    made = store(own, find)
    assert made.computed == made.images == len(own) and 0 < made.coverage < 1
    assert [n for n, _, _ in find.seen] == [7, 7, 7, 7, 7, 5]
    assert find.seen[0][2] == 76 / 64  # in training crops
    assert [text for _, texts, _ in find.seen for text in texts] == first_captions(own, torch.arange(len(own)))
    expected = (own.tiles.float().mean(3, keepdim=True) > 127.5) * 255
    assert torch.equal(open_masks(own, "fcn").long(), expected.long())
    again = Painted()
    assert store(own, again).computed == 0 and again.seen == []
    assert read_record(own, "fcn")["about"] == ABOUT
    assert open_masks(own, "") is None and open_masks(own, "dataset") is own.masks


def test_where_the_tile_is_the_crop_a_stored_mask_is_the_one_of_the_crop(own, published):
    """The golden's first image in 8 bits: only the rounding of the stored mask is left. At a smaller scale."""
    tile = ((image("au/fcn", 2)[:1] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous()
    one = dataclasses.replace(own, tiles=tile, names=own.names[:1], header={**own.header, "image_size": 256})
    store(one, lambda images, texts, span: published(images, round(64 * span)))
    whole = (torch.zeros(1).long(), torch.zeros(1).long(), torch.zeros(1).long(), torch.zeros(1, dtype=torch.bool), 256)
    stored = 1 - gather_crop(open_masks(one, "fcn"), *whole, (0.0, 1.0))
    direct = 1 - published(gather_crop(tile, *whole), 64)
    assert 0.1 < direct.mean() < 0.9
    torch.testing.assert_close(stored, direct, rtol=0, atol=0.5 / 255 + 1e-6)


def test_stored_masks_are_cropped_and_flipped_with_the_image(own, tiny, encoders):
    """The pack's true masks, stored as if found: every batch brings along what it brings along of the true ones."""

    at = iter(range(100))

    def true(images, texts, span):
        rows = [next(at) for _ in texts]
        return own.masks[rows].permute(0, 3, 1, 2).float() / 255

    store(own, true)
    loaders = []
    for keep_mask in ("fcn", "dataset"):
        config = configfile.merge(tiny, {"method": {"keep_mask": keep_mask}}, "test")
        loaders.append(EditorTask(config, own, encoders, decide(tiny.runtime)).loader)
    flips = set()
    for step in range(3):
        found, known = (loader(step) for loader in loaders)
        assert torch.equal(found.images, known.images) and torch.equal(found.keep, known.keep)
        flips |= set(loaders[0].planner(step).flip.tolist())
        assert 0.2 < found.keep.mean() < 0.98
    assert flips == {True, False}


def test_masks_of_bright_pixels_lie_on_the_bright_pixels_of_each_crop(own, tiny, encoders):
    store(own)
    config = configfile.merge(tiny, {"method": {"keep_mask": "fcn"}}, "test")
    batch = EditorTask(config, own, encoders, decide(tiny.runtime)).loader(1)
    bright = batch.images.mean(1, keepdim=True)
    assert torch.equal((batch.keep == 0)[bright.abs() > 1e-5], (bright > 0)[bright.abs() > 1e-5])


def test_a_run_that_was_killed_goes_on(own, monkeypatch):
    monkeypatch.setattr("tmgan.data.masks.SYNC_SECONDS", 0.0)

    class Killed(Painted):
        def __call__(self, images, texts, span=1.0):
            if len(self.seen) == 3:
                raise KeyboardInterrupt
            return super().__call__(images, texts, span)

    with pytest.raises(KeyboardInterrupt):
        store(own, Killed())
    assert open_masks(own, "fcn") is None  # half a file is no mask
    with open(mask_path(own.path, "fcn").with_suffix(".u8.partial"), "ab") as file:
        file.write(b"what a later batch had written, but not counted")
    rest = Painted()
    assert store(own, rest).computed == len(own) - 21
    assert torch.equal(open_masks(own, "fcn").long(), (own.tiles.float().mean(3, keepdim=True) > 127.5).long() * 255)
    assert sorted(p.name for p in own.path.glob("masks-*")) == ["masks-fcn.json", "masks-fcn.u8"]


def test_what_was_begun_with_other_settings_is_begun_anew(own, monkeypatch):
    monkeypatch.setattr("tmgan.data.masks.SYNC_SECONDS", 0.0)

    calls = []

    def stop(images, texts, span):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return torch.zeros(len(images), 1, 76, 76)

    with pytest.raises(KeyboardInterrupt):
        store(own, stop, {**ABOUT, "classes": ["dog"]})
    assert store(own).computed == len(own)


def test_masks_are_never_overwritten_or_taken_from_another_pack(own):
    store(own)
    with pytest.raises(ValueError, match=r"classes: \['bird'\], not \['dog'\].*\n  tmgan data masks"):
        store(own, about={**ABOUT, "classes": ["dog"]})
    record = mask_path(own.path, "fcn").with_suffix(".json")
    found = json.loads(record.read_text())
    record.write_text(json.dumps({**found, "pack": "another"}))
    with pytest.raises(ValueError, match="another pack"):
        open_masks(own, "fcn")
    record.write_text(json.dumps(found))
    with open(mask_path(own.path, "fcn"), "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="damaged"):
        open_masks(own, "fcn")


def test_a_pack_without_masks_is_refused_with_the_command_that_makes_them(own, tiny, encoders):
    config = configfile.merge(tiny, {"method": {"keep_mask": "fcn"}}, "test")
    with pytest.raises(ValueError, match=f"tmgan data masks {own.path}"):
        check_fits(config, own, encoders)
    store(own)
    check_fits(config, own, encoders)


def test_masks_of_random_weights_are_noted_and_other_masks_are_no_way_to_resume(own, tiny, capsys):
    config = configfile.merge(
        tiny, {"data": str(own.path), "images": 4, "method": {"keep_mask": "fcn"}, "pretrain": {"images": 4}}, "test"
    )
    store(own)
    train_editor(config)
    assert RANDOM_NOTE in capsys.readouterr().out
    for file in own.path.glob("masks-fcn*"):
        file.unlink()
    store(own, about={"classes": ["dog"], "weights": "fcn-12345678.pth"})
    with pytest.raises(ValueError, match="another set of masks"):
        train_editor(dataclasses.replace(config, images=8))


def test_agreement(own):
    store(own)
    masks = open_masks(own, "fcn")
    assert agreement(own, own.masks, None, 8) == {"dataset": 1.0}
    compared = agreement(own, masks, Painted(), 8)
    assert compared["crops"] == 1.0  # a threshold finds the same in every crop
    a, b = masks.view(len(own), -1) > 127, own.masks.view(len(own), -1) > 127
    assert compared["dataset"] == pytest.approx(((a & b).sum(1) / (a | b).sum(1)).mean().item())


def test_classes_by_name():
    assert voc_ids(("bird",)) == (3,) and voc_ids(("dog", "cat", "dog")) == (8, 12)
    with pytest.raises(ValueError, match="no class 'brid'.*bird"):
        voc_ids(("brid",))
    with pytest.raises(ValueError, match="No class"):
        voc_ids(())


def test_the_command(own, monkeypatch, capsys):
    made = Painted()
    made.about = ABOUT
    monkeypatch.setattr("tmgan.methods.mask_providers.make_provider", lambda *a: made)
    main(["data", "masks", str(own.path), "--weights", "random"])
    said = capsys.readouterr().out
    assert "40 masks" in said and "true masks" in said and "random weights" in said and "crop by crop" not in said
    main(["data", "masks", str(own.path)])
    main(["data", "doctor", str(own.path)])
    said = capsys.readouterr().out
    assert "masks found by fcn: classes ['bird'], weights random" in said
    assert "exists already" in said and "crop by crop: 1.000" in said and "random weights" not in said


def test_the_command_says_what_to_do(own, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    for flags, message in [
        (["--classes", "brid"], "no class 'brid'"),
        ([], "https://download.pytorch.org/models/fcn_resnet101_coco-7ecb50ca.pth"),
        (["--batch", "0"], "--batch is 0"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(["data", "masks", str(own.path), *flags])
        assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_masks_without_any_object_are_not_offered_to_a_training(own, monkeypatch, capsys):
    provider = Painted()
    provider.about = ABOUT
    monkeypatch.setattr("tmgan.methods.mask_providers.make_provider", lambda *arguments: provider)
    command = ["data", "masks", str(own.path), "--weights", "random", "--runtime.threads", "1"]
    main(command)
    assert "Next: tmgan train" in capsys.readouterr().out
    mask_path(own.path, "fcn").unlink()
    monkeypatch.setattr(Painted, "__call__", lambda self, images, texts, span=1.0: torch.zeros_like(images[:, :1]))
    main(command)
    out = capsys.readouterr().out
    assert "40 images show none" in out and "No training can use these masks" in out and "Next:" not in out
