"""Names and shapes tell which network a state dict is."""

import pytest
import torch

from tests.golden import _load
from tests.published.conftest import FILES, SETTINGS, published_state
from tmgan.published.networks import (
    BY_NAME,
    CORRECTION,
    IMAGE,
    LIGHTWEIGHT,
    MAIN,
    TEXT,
    discriminator,
    recognise,
    to_published,
)

# Where the published code's own names of its parameters are stored: those of its gradients.
GRADIENTS = {
    TEXT: ("lw_text_encoder", "grad/"),
    LIGHTWEIGHT: ("lw_generator", "train/grad/"),
    MAIN: ("mg_generator", "train/grad/"),
    CORRECTION: ("mg_dcm", "grad/"),
    discriminator(256): ("lw_discriminator", "train/grad/"),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_published_network_is_recognised_and_written_back_exactly(kind):
    state = published_state(kind)
    network = recognise(state, "x.pth")
    assert (network.kind, network.settings) == (kind, SETTINGS[kind])
    back = to_published(network.state, kind)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize("kind", GRADIENTS)
def test_the_names_are_those_of_the_published_code(kind):
    file, prefix = GRADIENTS[kind]
    start = f"f64:{prefix}"
    names = {key[len(start) :].split("|")[0] for key in _load(file) if key.startswith(start)}
    assert len(names) > 5
    assert names <= published_state(kind).keys()


@pytest.mark.parametrize(
    ("kind", "keys", "parameters"),
    [
        (TEXT, 9, 2_075_320),
        (IMAGE, 567, 22_506_720),
        (LIGHTWEIGHT, 45, 15_809_840),
        (MAIN, 49, 23_382_960),
        (CORRECTION, 15, 17_781_600),
        (discriminator(64), 29, 6_313_730),
        (discriminator(128), 41, 19_424_002),
        (discriminator(256), 53, 71_858_946),
    ],
)
def test_the_networks_for_birds_have_as_many_weights_as_the_published_ones(kind, keys, parameters):
    birds = BY_NAME[kind].empty({name: size.birds for name, size in BY_NAME[kind].sizes.items()})
    assert len(birds.state_dict()) == keys == len(BY_NAME[kind].keys)
    assert sum(parameter.numel() for parameter in birds.parameters()) == parameters


def test_the_sizes_for_coco_are_read_from_the_shapes():
    settings = {**SETTINGS[LIGHTWEIGHT], "width": 48, "top_width": 48, "residual_blocks": 3}
    state = {key: torch.zeros(shape) for key, shape in BY_NAME[LIGHTWEIGHT].shapes(settings).items() if shape}
    assert recognise(state, "x.pth").settings == settings


def test_a_file_from_before_batch_norms_counted_is_read():
    kind = discriminator(64)
    state = {key: value for key, value in published_state(kind).items() if not key.endswith("num_batches_tracked")}
    network = recognise(state, "x.pth")
    assert all(value == 0 for key, value in network.state.items() if key.endswith("num_batches_tracked"))


def refusal(kind: str, change) -> str:
    state = published_state(kind)
    change(state)
    with pytest.raises(ValueError) as error:
        recognise(state, "x.pth")
    return str(error.value)


def test_names_and_shapes_that_are_off_are_named():
    def change(state):
        del state["img_net.img.0.weight"]
        state["img_net.img.9.weight"] = torch.zeros(1)
        state["ca_net.fc.bias"] = torch.zeros(7)

    message = refusal(LIGHTWEIGHT, change)
    assert message.startswith("x.pth looks like Lightweight GAN's generator, but it is not: ")
    assert "missing: img_net.img.0.weight" in message
    assert "unknown: img_net.img.9.weight" in message
    assert "shape: ca_net.fc.bias (7,) instead of (400,)" in message


def test_counters_alone_are_whole_numbers():
    kind = discriminator(64)
    message = refusal(kind, lambda state: state.update({"img_code_s16.0.weight": torch.ones(8, 3, 4, 4).long()}))
    assert "not float32: img_code_s16.0.weight" in message


def test_the_discriminator_with_a_fourth_channel_is_explained():
    message = refusal(
        discriminator(256), lambda state: state.update({"img_code_s16.0.weight": torch.zeros(8, 4, 4, 4)})
    )
    assert "fourth channel" in message


def test_a_network_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"x\.pth is none of the published networks: it holds conv1.weight, fc.bias"):
        recognise({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, "x.pth")


def test_the_projections_that_nothing_depends_on_are_zeros_where_a_run_has_none():
    state = {key: value for key, value in recognise(published_state(MAIN), "").state.items() if "unused" not in key}
    published = to_published(state, MAIN)
    assert published.keys() == published_state(MAIN).keys()
    assert not published["h_net2.channel_att.conv_context3.weight"].any()
