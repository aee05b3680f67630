"""Our state_dict keys in terms of the published ones, by prefix. A longer prefix wins."""


def _stage(ours: str, published: str) -> dict[str, str]:
    names = {
        f"{ours}.spatial.project": f"{published}.att.conv_context",
        f"{ours}.channel.project": f"{published}.channel_att.conv_context",
        **_affine(f"{ours}.affine", f"{published}.ACM"),
    }
    for i in range(3):
        names[f"{ours}.residual.{i}.gated.conv"] = f"{published}.residual.{i}.block.0"
        names[f"{ours}.residual.{i}.conv"] = f"{published}.residual.{i}.block.3"
    return names


def _affine(ours: str, published: str) -> dict[str, str]:
    return {
        f"{ours}.hidden": f"{published}.conv",
        f"{ours}.scale": f"{published}.conv_weight",
        f"{ours}.shift": f"{published}.conv_bias",
    }


GENERATOR = {
    "condition.linear": "ca_net.fc",
    "start": "h_net1.fc.0",
    "start_norm": "h_net1.fc.1",
    "grow.0.conv": "h_net1.upsample1.1",
    "grow.1.conv": "h_net1.upsample2.1",
    "grow.2.conv": "h_net1.upsample3.1",
    "photo_coarse.conv": "imgUpSample1.1",
    **_stage("coarse", "h_net1"),
    "up_coarse.conv": "h_net1.upsample4.1",
    "photo_fine.conv": "imgUpSample2.0",
    "photo_fine.norm": "imgUpSample2.1",
    **_stage("fine", "h_net3"),
    "up_fine.0.conv": "h_net3.upsample.1",
    "up_fine.1.conv": "h_net3.upsample2.1",
    "photo_up.0.conv": "imgUpSample3.1",
    "photo_up.1.conv": "imgUpSample4.1",
    **_affine("affine", "ACM"),
    "to_image": "img_net.img.0",
}

DISCRIMINATOR = {
    "first": "img_code_s16.0",
    "down.0.conv": "img_code_s16.2",
    "down.0.norm": "img_code_s16.3",
    "down.1.conv": "img_code_s16.5",
    "down.1.norm": "img_code_s16.6",
    "down.2.conv": "img_code_s16.8",
    "down.2.norm": "img_code_s16.9",
    "down.3.conv": "img_code_s32.0",
    "down.3.norm": "img_code_s32.1",
    "down.4.conv": "img_code_s64.0",
    "down.4.norm": "img_code_s64.1",
    "narrow.0.conv": "img_code_s64_1.0",
    "narrow.0.norm": "img_code_s64_1.1",
    "narrow.1.conv": "img_code_s64_2.0",
    "narrow.1.norm": "img_code_s64_2.1",
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

VGG = {"layers": "vgg"}

SEGMENTER = {"network": ""}

SPATIAL_ATTENTION = {"project": "sp.conv_context"}
CHANNEL_ATTENTION = {"project": "ch.conv_context"}


def published_key(key: str, names: dict[str, str]) -> str:
    """The published name of one of our state_dict keys. KeyError if no prefix fits."""
    parts = key.split(".")
    for cut in range(len(parts), 0, -1):
        prefix = ".".join(parts[:cut])
        if prefix in names:
            return ".".join(part for part in (names[prefix], *parts[cut:]) if part)
    raise KeyError(f"no published name for {key}")
