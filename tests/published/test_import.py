"""`tmgan import`: published files become a run that computes what the published code does."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from tests.conftest import write_run
from tests.golden import LENGTHS, assert_golden, captions, generator_inputs, padding, tensor, words
from tests.published.conftest import ENCODERS, FILES, VOCABULARY, WIDTH
from tmgan.cli import main
from tmgan.config import configfile
from tmgan.editing.editor import load
from tmgan.models import bundle
from tmgan.published.networks import CORRECTION, LIGHTWEIGHT, MAIN, discriminator
from tmgan.published.read import import_published
from tmgan.published.write import export_published
from tmgan.reports.run_report import report

GENERATORS = {
    "lightweight": (FILES[LIGHTWEIGHT], FILES[discriminator(256)]),
    "manigan": (FILES[MAIN], *(FILES[discriminator(size)] for size in (64, 128, 256))),
    "manigan-dcm": (FILES[MAIN], FILES[CORRECTION], FILES[discriminator(256)]),
}


def imported(files: Path, out: Path, *names: str) -> Path:
    return import_published([files / name for name in (*ENCODERS, *names)], out, "random").run


@pytest.fixture(scope="module")
def imports(files: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each architecture, by its name."""
    folder = tmp_path_factory.mktemp("imports")
    return {name: imported(files, folder / name, *names) for name, names in GENERATORS.items()}


GOLDEN = {"lightweight": ("lw_generator", "eval/img"), "manigan": ("mg_generator", "eval/img2")}


@pytest.mark.parametrize("architecture", ["lightweight", pytest.param("manigan", marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_run_paints_what_the_published_generator_paints(imports, architecture):
    run = imports[architecture]
    encoders = bundle.load_encoders(run)
    generator = bundle.load_generator(run, encoders)[0].eval().double()
    out = generator(**generator_inputs())
    assert_golden(out.image, *GOLDEN[architecture])


@pytest.mark.slow
@torch.no_grad()
def test_a_run_corrects_details_as_the_published_second_stage_does(imports):
    encoders = bundle.load_encoders(imports["manigan-dcm"])
    generator = bundle.load_generator(imports["manigan-dcm"], encoders)[0].double()
    image, _ = generator.correction(
        tensor("dcm/h_code", (4, WIDTH, 256, 256)),
        tensor("g/vgg_features", (4, 128, 128, 128)).clamp(min=0),
        words("g/words_embs", LENGTHS),
        padding(LENGTHS),
    )
    assert_golden(image, "mg_dcm", "img")


@torch.no_grad()
def test_a_run_reads_captions_as_the_published_text_encoder_does(imports):
    text = bundle.load_encoders(imports["lightweight"]).text.double()
    embedded, sentence = text(captions("captions", LENGTHS)[:, :9], torch.tensor(LENGTHS))
    assert_golden(embedded, "lw_text_encoder", "cap/words_embs")
    assert_golden(sentence, "lw_text_encoder", "cap/sent_emb")


@pytest.mark.parametrize("architecture", GENERATORS)
def test_the_settings_are_those_that_the_weights_need(imports, architecture):
    config = configfile.read_yaml(imports[architecture] / "config.yaml", configfile.from_preset("quickstart"))
    model = config.model
    assert (config.preset, model.architecture, model.attention) == (architecture, architecture, "published")
    assert (model.g_width, model.d_width, model.residual_blocks, model.image_size) == (WIDTH, WIDTH, 2, 256)
    assert (config.encoder.kind, config.encoder.dim, config.text.words) == ("inception", 256, 18)
    status = json.loads((imports[architecture] / "run.json").read_text())
    assert status["status"] == "imported"
    assert [row["is"] for row in status["files"]][:3] == ["text encoder", "image encoder", "vocabulary"]
    assert all(len(row["sha256"]) == 64 for row in status["files"])


@pytest.mark.parametrize("architecture", GENERATORS)
def test_what_is_exported_is_what_was_imported(files, imports, tmp_path, architecture):
    written = export_published(imports[architecture], tmp_path / "out")
    assert [path.name for path in written if path.name != "vocabulary.pickle"] == {
        "lightweight": ["text_encoder.pth", "image_encoder.pth", "netG_epoch_0.pth", "netD0.pth"],
        "manigan": ["text_encoder.pth", "image_encoder.pth", "netG_epoch_0.pth", "netD0.pth", "netD1.pth", "netD2.pth"],
        "manigan-dcm": ["text_encoder.pth", "image_encoder.pth", "netG_epoch_0.pth", "netC_epoch_0.pth", "netD0.pth"],
    }[architecture]
    names = (*ENCODERS[:2], *GENERATORS[architecture])
    for name, path in zip(names, written, strict=False):
        before, after = (torch.load(file, weights_only=True) for file in (files / name, path))
        assert before.keys() == after.keys(), path
        assert all(torch.equal(after[key], value) for key, value in before.items()), path
    assert pickle.loads(written[-1].read_bytes())[2:] == pickle.loads((files / "captions.pickle").read_bytes())[2:]
    again = import_published(written, tmp_path / "again", "random").run
    for name in (bundle.GENERATOR, bundle.ENCODERS, bundle.DISCRIMINATOR):
        assert (again / name).read_bytes() == (imports[architecture] / name).read_bytes()


def test_a_run_edits_and_has_a_report(imports, tmp_path, capsys):
    Image.new("RGB", (300, 280), (90, 120, 60)).save(tmp_path / "photo.png")
    run, out = imports["lightweight"], tmp_path / "edited.png"
    main(["edit", str(run), str(tmp_path / "photo.png"), "--text", "a bird with a red head", "--out", str(out)])
    assert Image.open(out).size == (300, 280)
    assert "unfinished" not in capsys.readouterr().err
    page = report(run).markdown(str(tmp_path))
    assert "**Imported** from files of the published code" in page
    assert "| Lightweight GAN's generator |" in page
    with pytest.raises(SystemExit):
        main(["evaluate", str(run)])
    assert "does not say what it was trained on" in capsys.readouterr().err


def test_the_command_says_what_it_found(files, tmp_path, capsys):
    names = [str(files / name) for name in (*ENCODERS, FILES[LIGHTWEIGHT])]
    main(["import", *names, "--out", str(tmp_path / "run"), "--weights", "random"])
    said = capsys.readouterr().out
    assert f"{files / FILES[LIGHTWEIGHT]}: Lightweight GAN's generator" in said
    assert "NOTE: no discriminator was given" in said
    assert "Next: tmgan edit" in said


def test_encoders_alone_are_encoders(files, tmp_path, capsys):
    run = imported(files, tmp_path / "encoders")
    assert bundle.load_encoders(run).vocabulary.words[3] == "red"
    assert "pretrain" in yaml.safe_load((run / "config.yaml").read_text())
    with pytest.raises(ValueError, match="holds no generator"):
        load(run)


def test_the_file_that_no_publisher_of_these_has_is_asked_for(files, tmp_path, monkeypatch):
    monkeypatch.setenv("TMGAN_WEIGHTS", str(tmp_path / "nothing"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="tmgan weights get vgg16"):
        import_published([files / name for name in ENCODERS], tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.pth", "b.pth"), r"Missing: captions\.pickle of the data set's metadata\."),
        (("captions.pickle", FILES[LIGHTWEIGHT]), r"Missing: text_encoder\*\.pth, image_encoder\*\.pth\."),
        ((*ENCODERS, FILES[CORRECTION]), "corrects ManiGAN's main module: give the file of that"),
        ((*ENCODERS, FILES[LIGHTWEIGHT], FILES[MAIN]), "are two generators. Give one"),
        ((*ENCODERS, FILES[MAIN], "f64.pth"), "Of the discriminators of 64, 128, 256 pixels, 128, 256 are missing"),
        ((*ENCODERS, FILES[LIGHTWEIGHT], "f64.pth"), "f64.pth is of no use here without discriminators of 256"),
        ((*ENCODERS, "f256.pth"), r"f256.pth is of no use here without a generator\."),
        ((*ENCODERS, "a.pth"), r"a\.pth is given twice"),
    ],
)
def test_files_that_are_not_one_model_are_refused(files, tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        import_published([files / name for name in names], tmp_path / "run", "random")
    assert list(tmp_path.iterdir()) == []


def test_another_vocabulary_is_refused(files, tmp_path):
    by_id = {0: "<end>", 1: "bird"}
    content = pickle.dumps([[], [], by_id, {"<end>": 0, "bird": 1}], protocol=2)
    (tmp_path / "captions.pickle").write_bytes(content)
    given = [files / "a.pth", files / "b.pth", tmp_path / "captions.pickle"]
    with pytest.raises(ValueError, match=rf"a\.pth knows {VOCABULARY} words, .*captions\.pickle has 2"):
        import_published(given, tmp_path / "run", "random")


def test_networks_of_other_sizes_are_refused(files, tmp_path):
    state = torch.load(files / FILES[discriminator(256)], weights_only=True)
    state["COND_DNET.jointConv.0.weight"] = torch.zeros(64, 64 + 128, 3, 3)
    torch.save(state, tmp_path / "d.pth")
    given = [*(files / name for name in (*ENCODERS, FILES[LIGHTWEIGHT])), tmp_path / "d.pth"]
    with pytest.raises(ValueError, match=r"not of one training: words and sentences of length .*128 in .*d\.pth"):
        import_published(given, tmp_path / "run", "random")


def test_two_files_of_a_kind_are_refused(files, tmp_path):
    shutil.copy(files / "a.pth", tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth are both a text encoder. Give one of them"):
        import_published([*(files / name for name in ENCODERS), tmp_path / "other.pth"], tmp_path / "run", "random")


def test_what_python_users_may_get_wrong(files, tmp_path):
    with pytest.raises(ValueError, match="give a list of files"):
        import_published(files / "a.pth", tmp_path / "run")
    with pytest.raises(ValueError, match="use 'pretrained' or 'random'"):
        import_published([files / "a.pth"], tmp_path / "run", weights="rnd")


def test_a_folder_that_is_there_is_left_alone(files, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="run exists and is not an empty folder. Choose another --out"):
        imported(files, tmp_path / "run")
    with pytest.raises(ValueError, match="not an empty folder"):
        export_published(tmp_path / "nowhere", tmp_path / "run")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "mine.txt"]


def test_what_fails_half_way_leaves_nothing(files, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "save_generator", full)
    with pytest.raises(OSError, match="No space left"):
        imported(files, tmp_path / "run", FILES[LIGHTWEIGHT])
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_half_way_can_be_repeated(imports, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("tmgan.published.write.write_bytes", full)  # the last file
        export_published(imports["lightweight"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    export_published(imports["lightweight"], tmp_path / "out")


@pytest.mark.parametrize("place", [".", "link"])
def test_out_may_be_the_current_folder_or_a_link(files, tmp_path, monkeypatch, place):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here" if place == "." else tmp_path)
    assert (imported(files, Path(place)) / "run.json").exists()
    assert (tmp_path / "here" / "encoders.safetensors").exists() and (tmp_path / "link").is_symlink()
    (tmp_path / "here" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        imported(files, Path(place))
    assert (tmp_path / "here" / "mine.txt").exists()


def test_the_published_code_is_given_nothing_that_it_cannot_build(imports, tiny, encoders, tmp_path):
    small = write_run(tmp_path / "small", tiny, encoders)
    with pytest.raises(ValueError, match="are of kind small, and the published code has only Inception's"):
        export_published(small, tmp_path / "out")
    other = shutil.copytree(imports["lightweight"], tmp_path / "other")
    own = bundle.load_encoders(other)
    _, config, images = bundle.load_generator(other, own)
    wide = configfile.merge(config, {"model": {"top_width": 4, "affine_dim": 16}}, "test")
    bundle.save_generator(bundle.build_generator(wide.model, own), wide, own.vocabulary, other, images)
    with pytest.raises(ValueError, match=r"model\.affine_dim 16 \(there: 128\), model\.top_width 4 \(there: 8\)"):
        export_published(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_names_its_form(imports, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(imports["lightweight"]), "--out", str(tmp_path / "out")])
    assert "Say in which form: --published" in capsys.readouterr().err
