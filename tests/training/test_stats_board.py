"""What a run shows in TensorBoard, read back from its files as TensorBoard reads them."""

from __future__ import annotations

import builtins
import dataclasses
import io
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tmgan.config import configfile
from tmgan.config.settings import RuntimeConfig
from tmgan.models.bundle import save_encoders
from tmgan.training.jobs import train_editor
from tmgan.training.stats import TensorBoard

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata")
SETTINGS = yaml.safe_dump({"images": 24, "optim": {"lr_g": 0.5, "fused": True}, "blur": {"sizes": [5, 7]}, "data": ""})


def read(folder: Path):
    """All that is shown, in the order of steps."""
    events = accumulator.EventAccumulator(str(folder), {"images": 0, "scalars": 0, "tensors": 0})
    return events.Reload()


def scalars(events, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def hyperparameters(events) -> dict:
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


def picture(path: Path, colour: int) -> Path:
    Image.new("RGB", (6, 4), (colour, 0, 0)).save(path)
    return path


def red(event) -> int:
    return Image.open(io.BytesIO(event.encoded_image_string)).getpixel((0, 0))[0]


def test_settings_are_text_and_hyperparameters(tmp_path):
    TensorBoard(tmp_path, 0, SETTINGS)
    events = read(tmp_path)
    assert hyperparameters(events) == {
        "images": 24.0,
        "optim.lr_g": 0.5,
        "optim.fused": "True",
        "blur.sizes": "[5, 7]",
        "data": "",
    }
    (text,) = events.Tensors("settings/text_summary")
    assert SETTINGS in text.tensor_proto.string_val[0].decode()


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    """Ticks at 4, 8 and 12, killed; resumed from the checkpoint at 8."""
    board = TensorBoard(tmp_path / "board", 0, SETTINGS)
    for images in (4, 8, 12):
        board.scalars("loss", {"d": float(images)}, images)
        board.picture(picture(tmp_path / "p.png", images), images)
    board.scalars("metric", {"score": 0.25}, 8)
    again = TensorBoard(tmp_path / "board", 8, SETTINGS)
    again.scalars("loss", {"d": 120.0}, 12)
    again.picture(picture(tmp_path / "p.png", 120), 12)
    events = read(tmp_path / "board")
    assert scalars(events, "loss/d") == [(4, 4.0), (8, 8.0), (12, 120.0)]
    assert [(event.step, red(event)) for event in events.Images("samples")] == [(4, 4), (8, 8), (12, 120)]
    assert scalars(events, "metric/score") == [(8, 0.25)]
    assert [event.step for event in events.Tensors("settings/text_summary")] == [0, 8]


def test_a_run_writes_all_of_it_in_groups(tiny, encoders, tmp_path):
    (tmp_path / "encoders").mkdir()
    save_encoders(encoders, tmp_path / "encoders")
    config = dataclasses.replace(tiny, encoders=str(tmp_path / "encoders"), runtime=RuntimeConfig(threads=1))
    train_editor(config, evaluated=False)
    events = read(tmp_path / "run" / "tensorboard")
    tags = events.Tags()
    assert {tag.split("/")[0] for tag in tags["scalars"]} == {"loss", "metric", "sign", "speed"}
    assert {"loss/d", "loss/g_adv", "metric/score", "metric/mask_score/dataset"} <= set(tags["scalars"])
    assert [step for step, _ in scalars(events, "speed/images_per_second")] == [8, 16, 24]
    images = {int(path.stem.removeprefix("images-")): path for path in (tmp_path / "run" / "samples").glob("*.png")}
    assert [event.step for event in events.Images("samples")] == sorted(images) == [16, 24]
    for event in events.Images("samples"):
        there = Image.open(io.BytesIO(event.encoded_image_string))
        assert there.convert("RGB").tobytes() == Image.open(images[event.step]).convert("RGB").tobytes()
    settings = hyperparameters(events)
    assert settings["model.g_width"] == 4 and settings["encoders"] == config.encoders
    assert configfile.to_yaml(config) in events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if "tensorboard" in name:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    board = TensorBoard(tmp_path / "board", 0, SETTINGS)
    board.scalars("loss", {"d": 1.0}, 4)
    board.picture(tmp_path / "none.png", 4)
    assert list(tmp_path.iterdir()) == []
