"""Our state_dict keys in terms of those of the published code, by prefix: for reading and writing its files.

The published files are plain state dicts: netG and netC (generators), netD0 to netD2 (discriminators), text_encoder and
image_encoder. Their words are projected by 1x1 convolutions with 4 dimensions; ours have 3, and the same numbers.
"""

BLOCKS = 3  # residual blocks of a stage, at most: published are 2 for birds, 3 for COCO


def _stage(
    ours: str, published: str, channel: str = "channel_att.conv_context", affine: str = "SAIN"
) -> dict[str, str]:
    names = {
        f"{ours}.spatial.project": f"{published}.att.conv_context",
        f"{ours}.channel.project": f"{published}.{channel}",
        **_affine(f"{ours}.affine", f"{published}.{affine}"),
    }
    for i in range(BLOCKS):
        names[f"{ours}.residual.{i}.gated.conv"] = f"{published}.residual.{i}.block.0"
        names[f"{ours}.residual.{i}.conv"] = f"{published}.residual.{i}.block.3"
    return names


def _affine(ours: str, published: str) -> dict[str, str]:
    return {
        f"{ours}.hidden": f"{published}.conv",
        f"{ours}.scale": f"{published}.conv_weight",
        f"{ours}.shift": f"{published}.conv_bias",
    }


_START = {
    "condition.linear": "ca_net.fc",
    "start": "h_net1.fc.0",
    "start_norm": "h_net1.fc.1",
    "grow.0.conv": "h_net1.upsample1.1",
    "grow.1.conv": "h_net1.upsample2.1",
    "grow.2.conv": "h_net1.upsample3.1",
}

# lightweight.Generator
LIGHTWEIGHT = {
    **_START,
    "photo_coarse.conv": "imgUpSample1.1",
    **_stage("coarse", "h_net1", affine="ACM"),
    "up_coarse.conv": "h_net1.upsample4.1",
    "photo_fine.conv": "imgUpSample2.0",
    "photo_fine.norm": "imgUpSample2.1",
    **_stage("fine", "h_net3", affine="ACM"),
    "up_fine.0.conv": "h_net3.upsample.1",
    "up_fine.1.conv": "h_net3.upsample2.1",
    "photo_up.0.conv": "imgUpSample3.1",
    "photo_up.1.conv": "imgUpSample4.1",
    **_affine("affine", "ACM"),
    "to_image": "img_net.img.0",
}

# manigan.MainModule
MAIN_MODULE = {
    **_START,
    "grow.3.conv": "h_net1.upsample4.1",
    "photo_small.conv": "imgUpSample.1",
    **_stage("middle", "h_net2", channel="channel_att.conv_context2"),
    "middle_unused": "h_net2.channel_att.conv_context3",
    "up_middle.conv": "h_net2.upsample.1",
    "photo_middle.conv": "imgUpSample2.1",
    **_stage("large", "h_net3", channel="channel_att.conv_context3"),
    "large_unused": "h_net3.channel_att.conv_context2",
    "up_large.conv": "h_net3.upsample.1",
    "photo_large.conv": "imgUpSample3.1",
}
for _scale in range(3):
    MAIN_MODULE |= _affine(f"images.{_scale}.affine", f"SAIN{_scale + 1}")
    MAIN_MODULE[f"images.{_scale}.to_image"] = f"img_net{_scale + 1}.img.0"

# detail_correction.DetailCorrection
DETAIL_CORRECTION = {
    "photo.conv": "upsample.1",
    **_stage("stage", "h_net", channel="color_channel_att.conv_context"),
    "narrow.conv": "h_net.block.0",
    **_affine("image.affine", "SAIN"),
    "image.to_image": "img_net.img.0",
}


def discriminator(image_size: int) -> dict[str, str]:
    """Of a discriminator.Discriminator: D_NET64, D_NET128 or D_NET256."""
    wider = {64: [], 128: ["s32"], 256: ["s32", "s64"]}[image_size]  # halvings below 4x4 of 64 pixels
    narrow = {64: [], 128: ["s32_1"], 256: ["s64_1", "s64_2"]}[image_size]
    names = {"first": "img_code_s16.0"}
    for i in range(3):
        names |= {f"down.{i}.conv": f"img_code_s16.{2 + 3 * i}", f"down.{i}.norm": f"img_code_s16.{3 + 3 * i}"}
    for ours, published in [
        *((f"down.{3 + i}", name) for i, name in enumerate(wider)),
        *((f"narrow.{i}", name) for i, name in enumerate(narrow)),
    ]:
        names |= {f"{ours}.conv": f"img_code_{published}.0", f"{ours}.norm": f"img_code_{published}.1"}
    return names | {
        "joint.conv": "COND_DNET.jointConv.0",
        "joint.norm": "COND_DNET.jointConv.1",
        "conditional_logit": "COND_DNET.outlogits.0",
        "unconditional_logit": "UNCOND_DNET.outlogits.0",
    }


TEXT_ENCODER = {
    "embedding": "encoder",
    **{f"forwards.{kind}_l0": f"rnn.{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    **{f"backwards.{kind}_l0": f"rnn.{kind}_l0_reverse" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
}

IMAGE_ENCODER = {"trunk": "", "region_head": "emb_features", "code_head": "emb_cnn_code"}


def published_key(key: str, names: dict[str, str]) -> str:
    """The published name of one of our state_dict keys. KeyError if no prefix fits."""
    parts = key.split(".")
    for cut in range(len(parts), 0, -1):
        prefix = ".".join(parts[:cut])
        if prefix in names:
            return ".".join(part for part in (names[prefix], *parts[cut:]) if part)
    raise KeyError(f"no published name for {key}")
