"""Files as the published code writes them, with numbers whose outputs are known: those of the golden values."""

import pickle
from pathlib import Path

import pytest
import torch

from tests.golden import parameter
from tmgan.published.networks import BY_NAME, CORRECTION, IMAGE, LIGHTWEIGHT, MAIN, SCALES, TEXT, discriminator

WIDTH, VOCABULARY = 8, 60  # of the golden values
START = {"condition_dim": 100, "start_inputs": 456, "word_dim": 256, "affine_dim": 128, "residual_blocks": 2}
SETTINGS = {
    TEXT: {"vocabulary_size": VOCABULARY, "word_dim": 300, "half_dim": 128},
    IMAGE: {"dim": 256},
    LIGHTWEIGHT: {**START, "width": WIDTH, "top_width": WIDTH},
    MAIN: {**START, "width": WIDTH, "top_width": WIDTH},
    CORRECTION: {"word_dim": 256, "affine_dim": 128, "residual_blocks": 2, "width": WIDTH},
    **{discriminator(size): {"width": WIDTH, "joint": 8 * WIDTH + 256} for size in SCALES},
}
# Names under which nobody would guess what they hold: that follows from the contents.
FILES = {
    TEXT: "a.pth",
    IMAGE: "b.pth",
    LIGHTWEIGHT: "c.pth",
    MAIN: "d.pth",
    CORRECTION: "e.pth",
    **{discriminator(size): f"f{size}.pth" for size in SCALES},
}
ENCODERS = ("a.pth", "b.pth", "captions.pickle")
WORDS = ["<end>", "a", "bird", "red", "head", "white", "wings", *(f"word{i}" for i in range(VOCABULARY - 7))]


def published_state(kind: str) -> dict[str, torch.Tensor]:
    """A state dict by published names, in float32."""
    shapes = BY_NAME[kind].shapes(SETTINGS[kind])
    values = {key: parameter(key, shape) for key, shape in shapes.items()}
    return {key: value if value.dtype == torch.int64 else value.float() for key, value in values.items()}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every published file."""
    folder = tmp_path_factory.mktemp("published")
    for kind, name in FILES.items():
        torch.save(published_state(kind), folder / name)
    by_id = dict(enumerate(WORDS))
    content = [[[1, 2]], [[2, 1]], by_id, {word: number for number, word in by_id.items()}]
    (folder / "captions.pickle").write_bytes(pickle.dumps(content, protocol=2))
    return folder
