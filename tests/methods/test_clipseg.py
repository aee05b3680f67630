"""Masks for any text by CLIPSeg: a tiny random model of the real class, saved and loaded as the real one is."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from tmgan.common.progress import Progress
from tmgan.data.masks import agreement, open_masks, write_masks
from tmgan.methods.mask_providers import ClipSegMasks, make_provider

transformers = pytest.importorskip("transformers", reason="extra `clip` is not installed")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clipseg")
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]).save_pretrained(path)
    layer = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.CLIPSegConfig(
        text_config={
            **layer,
            "vocab_size": len(words),
            "max_position_embeddings": 24,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={**layer, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        reduce_dim=16,
        extract_layers=[1, 2],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        conditional_layer=0,
    )
    torch.manual_seed(0)
    model = transformers.CLIPSegForImageSegmentation(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": 64, "width": 64}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]})
    )
    return path


def test_mask_follows_image_and_text(folder):
    """The network is given the picture in its own size and statistics, and the text; each image is judged by itself."""
    provider = make_provider("clipseg", (), "pretrained", str(folder), CPU)
    images = torch.rand(3, 3, 76, 76, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images[1:] = images[0]
    images[2, :, 30:] *= -1
    texts = ["a bird", "a very long sentence about a dog that is longer than what the network reads", "a bird"]
    seen = {}
    provider.network.register_forward_pre_hook(lambda m, a, kw: seen.update(kw), with_kwargs=True)
    masks = provider(images, texts)
    assert masks.shape == (3, 1, 76, 76) and masks.min() >= 0 and masks.max() <= 1
    assert seen["pixel_values"].shape == (3, 3, 64, 64) and seen["input_ids"].shape == (3, 24)
    whole = images.mean((2, 3)) / 2 + 0.5
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    torch.testing.assert_close(seen["pixel_values"].mean((2, 3)), (whole - mean) / std, rtol=0, atol=0.03)
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    alone = provider(images[:1], texts[:1])
    assert (alone != masks[:1]).float().mean() < 0.01


def test_masks_are_stored_by_first_caption_and_name(folder, own):
    provider = ClipSegMasks(str(folder), CPU)
    own = dataclasses.replace(own, tiles=own.tiles[:6], masks=own.masks[:6], names=own.names[:6])
    made = write_masks(own, provider.name, provider.about, provider, 4, Progress(visible=False))
    assert made.path.name == "masks-clipseg.u8" and provider.about["weights"].startswith("clipseg-")
    assert open_masks(own, "clipseg").shape == (6, 76, 76, 1) and open_masks(own, "fcn") is None
    assert set(agreement(own, open_masks(own, "clipseg"), provider, 4)) == {"dataset", "crops"}


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="--weights-dir names none"):
        make_provider("clipseg", (), "pretrained", "", CPU)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{tmp_path} lacks model.safetensors"):
        make_provider("clipseg", (), "pretrained", str(tmp_path), CPU)
    with pytest.raises(ValueError, match="no --weights random"):
        make_provider("clipseg", (), "random", str(folder), CPU)
