"""The paper's tables: what is compared with what, that runs are reused and resumed, and what the page says."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch

from tests.paper.made_up import evaluation, results, with_measures
from tmgan.cli import main
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.evaluation.metrics.measure import Measure
from tmgan.models.bundle import GENERATOR, build_encoders, save_encoders
from tmgan.paper import make
from tmgan.paper import runs as paper_runs
from tmgan.paper import variants as rows
from tmgan.paper.measure import change, over_seeds
from tmgan.paper.pages import document
from tmgan.paper.published import Bench
from tmgan.paper.results import gather, paper
from tmgan.paper.runs import Estimate, Run, images_done, is_finished, train_all
from tmgan.training import jobs
from tmgan.training.editor_task import EditorTask
from tmgan_kernels import change_mask, laplace_sharpness, sharp_regions


def runs_of(names, packed, tmp_path, images=8):
    found = {v.name: v for v in rows.variants("dataset")}
    return [
        Run(
            n,
            0,
            rows.configuration(
                found[n],
                True,
                data=str(packed),
                encoders=str(tmp_path / "encoders"),
                images=images,
                run=str(tmp_path / "runs" / n),
                output={"tick_images": 8, "sample_images": 8, "checkpoint_images": 8},
            ),
            found[n].encoders,
        )
        for n in names
    ]


# ------------------------------------------------------------------- what is compared
def test_only_the_method_differs_from_the_baseline():
    everything = rows.variants("fcn")
    for reduced in (True, False):
        base = configfile.to_dict(rows.configuration(everything[0], reduced))
        for variant in rows.select(everything, rows.PAPER, True)[1:]:
            now = configfile.to_dict(rows.configuration(variant, reduced))
            changed = configfile.differences(base, now)
            allowed = {
                "sad9-wide": {"model.d_width"},
                "manigan-main": {"model.architecture", "loss.perceptual"},
                "manigan": {"model.architecture", "loss.perceptual", "loss.kl", "loss.difference"},
            }.get(variant.name, set())
            if reduced:
                allowed = allowed - {"loss.kl"}  # 0 there anyway
            assert changed and {c for c in changed if not c.startswith("method.")} == allowed, variant.name
    assert rows.configuration(everything[0], True).method.keep_mask == "none"


@pytest.mark.parametrize(
    "name", ["nsl", "gm", "sad5", "sad9", "histogram", "fcn", "combined", "manigan", "manigan-dcm"]
)
def test_variants_are_the_presets(name):
    """At full size a row of the paper's tables is what its preset trains."""
    named = {"fcn": "masks", "manigan": "manigan-main", "manigan-dcm": "manigan"}
    variant = next(v for v in rows.variants("fcn") if v.name == named.get(name, name))
    ours, preset = (configfile.to_dict(c) for c in (rows.configuration(variant, False), configfile.from_preset(name)))
    # All rows are trained with batches of one size; ManiGAN's preset has the published one.
    same = {"preset", "batch", "optim.ema_half_life"} if name.startswith("manigan") else {"preset"}
    assert [d for d in configfile.differences(ours, preset) if d not in same] == []


def test_paired_runs_begin_alike_and_see_the_same(small, packed, pack, encoders, tmp_path):
    tasks = [
        EditorTask(run.config, pack, encoders, decide(run.config.runtime))
        for run in runs_of(["lightweight", "masks", "sad9", "combined"], packed, tmp_path)
    ]
    first = tasks[0]
    for task in tasks[1:]:
        for network in ("generator", "discriminator"):
            pairs = zip(
                getattr(first.train_step, network).parameters(),
                getattr(task.train_step, network).parameters(),
                strict=True,
            )
            assert all(torch.equal(a, b) for a, b in pairs)
        one, other = first.loader(5), task.loader(5)
        for field in ("images", "tokens", "target_tokens", "noise", "eps"):
            assert torch.equal(getattr(one, field), getattr(other, field)), field


def test_the_papers_numbers_are_consistent():
    """The printed improvements follow from the printed scores, and every row is a variant of ours."""
    numbers, names = paper(), {v.name for v in rows.variants("fcn")} | {"original"}
    for row in numbers["table1"]["mask_score"].values():
        assert 1 - row["ours"] / row["lightweight"] == pytest.approx(row["improve"], abs=6e-4)
    for table in ("table2", "table3"):
        assert all(set(measure) <= names for measure in numbers[table].values())


# ------------------------------------------------------------------- time, reuse, resume
def test_estimate_prefers_what_was_measured(tmp_path, tiny):
    run = Run("gm", 0, dataclasses.replace(tiny, run=str(tmp_path / "none"), images=100))
    estimate = Estimate(first=0.5)
    assert estimate.left([run, run]) == 100
    estimate.add("sad9", 10, 20.0)
    assert estimate.left([run]) == 200  # the others' speed
    estimate.add("gm", 10, 10.0)
    assert estimate.left([run]) == 100  # its own
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "run.json").write_text('{"images": 40}')
    assert images_done(run.path) == 40 and estimate.left([run]) == 60
    estimate.add("nsl", 0, 5.0)  # nothing was trained: no division by it
    assert estimate.seconds("nsl", 10) == pytest.approx(15)


def test_runs_are_resumed_reused_and_never_mixed(small, packed, pack, encoders, tmp_path, monkeypatch):
    (tmp_path / "encoders").mkdir()
    save_encoders(encoders, tmp_path / "encoders")
    said: list[str] = []
    pairs = {"shared": encoders}
    first = runs_of(["lightweight"], packed, tmp_path)
    train_all(first, pack, pairs, said.append)
    assert "about" in said[1].lower() and is_finished(first[0].config, 8, GENERATOR)

    longer = runs_of(["lightweight", "nsl"], packed, tmp_path, images=16)
    assert not is_finished(longer[0].config, 16, GENERATOR)
    began = []
    monkeypatch.setattr(jobs, "EditorTask", lambda config, *rest: began.append(config.run) or EditorTask(config, *rest))
    train_all(longer, pack, pairs, said.append)
    log = (longer[0].path / "log.txt").read_text()
    assert "Resuming" in log and images_done(longer[0].path) == 16 and len(began) == 2

    before = (longer[1].path / GENERATOR).stat().st_mtime_ns
    train_all(longer, pack, pairs, said.append)
    assert len(began) == 2 and (longer[1].path / GENERATOR).stat().st_mtime_ns == before
    assert "2 are finished and reused, 0 to train" in said[-1]

    with pytest.raises(ValueError, match="16 images and 8 are wanted"):
        train_all(first, pack, pairs, said.append)
    other = dataclasses.replace(longer[0].config, optim=dataclasses.replace(longer[0].config.optim, lr_g=1e-5))
    assert not is_finished(other, 16, GENERATOR), "another learning rate is another run"


# ------------------------------------------------------------------- comparison
def test_moves_need_the_interval_and_every_seed():
    base = [evaluation(), evaluation()]
    assert change("sharpness", base, [evaluation(1), evaluation(2)]).moves == "up"
    assert change("sharpness", base, [evaluation(-1), evaluation(-2)]).moves == "down"
    assert change("sharpness", base, base).moves == ""
    disagree = change("sharpness", base, [evaluation(3), evaluation(-1)])
    assert disagree.difference.distinct and disagree.moves == "", "the mean moves, but the seeds disagree"
    assert disagree.seeds == (3.0, -1.0) and disagree.difference.value == pytest.approx(1.0)


def test_over_seeds_is_each_photos_mean():
    pooled = over_seeds([Measure.of([1.0, 2.0, 3.0]), Measure.of([3.0, 4.0, 5.0])])
    assert pooled.values == (2.0, 3.0, 4.0) and pooled.n == 3


def test_page_says_where_nothing_moved_and_what_is_reduced():
    everything = rows.variants("dataset")
    found = {"lightweight": [evaluation()], "nsl": [evaluation(2)], "gm": [evaluation()], "masks": [evaluation(-3)]}
    setup = {
        "command": "tmgan tables",
        "drawn": True,
        "reduced": True,
        "tables": [1, 2, 3],
        "n": 40,
        "seeds": [0],
        "images": 16,
        "image_size": 64,
        "pre_trained": "dataset",
        "encoder_weights": "none",
        "seconds": {"encoders": 1.0},
        "photos": "",
    }
    machine = dict.fromkeys(("device", "cores", "processor", "gpu", "tmgan", "torch", "date"), "x")
    about = json.loads(json.dumps(gather(setup, machine, everything, found, {}, None)))  # as read back from a file
    text = document(about, {}).markdown("x")
    assert "**Sharpness**: up with NSL; down with true masks; no change can be told with GM." in text
    for words in (
        "Drawn birds are not CUB",
        "n = 40",
        "95% interval",
        "389.94",
        "13.719",
        "885,500",
        "true masks",
        "seed 0",
        "FID and Inception score were not measured",
    ):
        assert words in text, words
    assert re.search(r"\| true masks \| 9\.0+ \(.*\) \| \+25\.0%", text)


@pytest.mark.parametrize("protocol", ["test", "paper"])
def test_fid_and_kid_are_in_the_tables_by_whatever_photos(protocol):
    def measured(fid):
        note = Measure(fid, 40, better="lower", note="of 40 photos")
        return with_measures(**{f"fid__{protocol}": note, f"kid__{protocol}": note})

    text = document(
        results({"lightweight": [measured(12.5)], "nsl": [measured(11.25)], "combined": [measured(10.5)]}), {}
    )
    text = text.markdown("x")
    two, three = text.split("## Table II:")[1].split("## Table III:")
    assert "| NSL | 11.2 | 11.2 |" in two and "| Lightweight GAN | 12.5 | 12.5 |" in two and "of 40 photos" in two
    assert "| combined | 10.5 | 10.5 |" in three
    assert "FID and" not in text and text.count("Inception score was not measured here.") == 2


def test_undefined_infinite_and_missing_numbers_are_told_apart():
    undefined, infinite = Measure.of([math.nan] * 40), Measure(math.inf, 40, low=math.inf, high=math.inf)
    base = with_measures(others_kept=Measure.of([1.0] * 40), inception_score=infinite, colour_accuracy=undefined)
    method = with_measures(others_kept=undefined, inception_score=Measure(-math.inf, 40))
    about = results({"lightweight": [base], "combined": [method], "nsl": [evaluation(1)]})
    assert about["runs"]["lightweight"]["colour_accuracy"]["value"] is None
    assert about["runs"]["lightweight"]["inception_score"]["high"] == "inf"
    assert about["runs"]["combined"]["inception_score"]["value"] == "-inf"
    assert about["changes"]["combined"]["others_kept"]["value"] is None
    text = document(about, {}).markdown("x")
    assert re.search(r"\| Lightweight GAN \| inf \(inf to inf\) \| [\d.]+ \(.*\) \| [\d.]+ \(.*\) \| - \|", text)
    assert "| combined | -inf | " in text


def test_what_a_seed_has_not_measured_is_left_out():
    """KID may fail at the end, for one run."""
    kid = {"kid__test": Measure(1.0, 40)}
    about = results(
        {"lightweight": [with_measures(**kid)] * 2, "nsl": [with_measures(**kid), evaluation()]}, seeds=[0, 1]
    )
    assert "kid/test" in about["runs"]["lightweight"] and "kid/test" not in about["runs"]["nsl"]
    assert "| NSL | - |" in document(about, {}).markdown("x")


# ------------------------------------------------------------------- runs that fail
def test_a_run_that_diverges_costs_its_own_variant_only(small, packed, encoders, tmp_path, capsys, monkeypatch):
    """sad9 and ManiGAN's first stage diverge; the edits of nsl are not finite. The baseline must not."""
    (tmp_path / "encoders").mkdir()
    save_encoders(encoders, tmp_path / "encoders")
    few = ("lightweight", "nsl", "sad9", "masks", "manigan-main", "manigan")
    monkeypatch.setattr(make, "variants", lambda masks: tuple(v for v in rows.variants(masks) if v.name in few))
    fatal = {"sad9-seed-0": "The loss is not finite.", "manigan-main-seed-0": "Nor is this one."}
    train, measure = paper_runs.train_editor, make.evaluation_of

    def training(config, evaluated):
        if reason := fatal.get(Path(config.run).name):
            raise FloatingPointError(reason)
        train(config, evaluated=evaluated)

    def measuring(run, *rest):
        if run.name == "nsl-seed-0":
            raise FloatingPointError("The edits are not finite.")
        return measure(run, *rest)

    monkeypatch.setattr(paper_runs, "train_editor", training)
    monkeypatch.setattr(make, "evaluation_of", measuring)
    out = tmp_path / "out"
    command = ["tables", "--data", str(packed), "--encoders", str(tmp_path / "encoders"), "--reduced", "--images", "4"]
    command += ["--count", "4", "--seeds", "0", "--out", str(out), "--runtime.threads", "1"]
    with pytest.raises(SystemExit) as end:
        main(command)
    said = capsys.readouterr().err
    assert (
        end.value.code == 3
        and "sad9-seed-0, manigan-main-seed-0, manigan-seed-0, nsl-seed-0" in said
        and str(out / "tables.html") in said
    )
    numbers = json.loads((out / "tables.json").read_text())
    assert set(numbers["runs"]) == {"lightweight", "masks"}
    second = {"manigan-seed-0": "It goes on from manigan-main-seed-0, which failed."}
    assert numbers["setup"]["failures"] == {**fatal, **second, "nsl-seed-0": "The edits are not finite."}
    page = (out / "tables.md").read_text()
    assert (
        "`sad9-seed-0` failed, so its method is not shown. The loss is not finite." in page and "| true masks |" in page
    )

    fatal["lightweight-seed-1"] = "The baseline diverged."
    (out / "tables.md").unlink()
    with pytest.raises(SystemExit) as end:
        main([*command, "--seeds", "1"])
    assert end.value.code == 3 and "The baseline diverged." in capsys.readouterr().err
    assert not (out / "tables.md").exists() and not (out / "runs" / "nsl-seed-1").exists()


def test_a_first_stage_that_would_be_trained_further_is_refused(small, packed, encoders, tmp_path, monkeypatch, capsys):
    (tmp_path / "encoders").mkdir()
    save_encoders(encoders, tmp_path / "encoders")
    few = ("lightweight", "manigan-main", "manigan")
    monkeypatch.setattr(make, "variants", lambda masks: tuple(v for v in rows.variants(masks) if v.name in few))
    command = ["tables", "--data", str(packed), "--encoders", str(tmp_path / "encoders"), "--reduced", "--count", "4"]
    command += ["--seeds", "0", "--only", "3", "--out", str(tmp_path / "out"), "--runtime.threads", "1"]
    main([*command, "--images", "4"])
    with pytest.raises(SystemExit):
        main([*command, "--images", "64"])
    assert "manigan-main-seed-0, which would be trained further. Ask for as many images" in capsys.readouterr().err
    log = (tmp_path / "out" / "runs" / "manigan-main-seed-0" / "run.json").read_text()
    assert json.loads(log)["images"] < 64, "nothing was trained"


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"status": "do', "a: ["])
def test_a_damaged_file_of_a_run_is_an_unfinished_run(tiny, tmp_path, name, content):
    config = dataclasses.replace(tiny, run=str(tmp_path))
    (tmp_path / GENERATOR).touch()
    (tmp_path / "run.json").write_text('{"status": "done", "images": 24}')
    (tmp_path / "config.yaml").write_text(configfile.to_yaml(config))
    assert is_finished(config, 24, GENERATOR) and images_done(tmp_path) == 24
    (tmp_path / name).write_text(content)
    assert not is_finished(config, 24, GENERATOR) or (name, content) == ("config.yaml", "{}")
    assert images_done(tmp_path) == (0 if name == "run.json" else 24)


@pytest.mark.parametrize("content", ["", "[1]", '{"pack"'])
def test_a_damaged_identity_ends_in_a_sentence(tmp_path, content):
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(ValueError, match="identity.json is damaged"):
        make._same_as_before(tmp_path, {"pack": "a"})


# ------------------------------------------------------------------- as published
def test_published_histogram_mask_is_one_everywhere():
    photo, edit = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(k)) * 2 - 1 for k in (0, 1))
    published = change_mask(photo, edit, value_range=(0.0, 255.0))  # images in [-1, 1] taken for 0-255
    assert published.min() == 1 and torch.equal(published, change_mask(photo, edit, threshold=254.9))
    assert change_mask(photo, edit).min() == 0


def test_command_end_to_end_and_gradients_as_published(small, packed, pack, encoders, tmp_path, capsys, monkeypatch):
    """Everything at its smallest; then the gradients of every wiring on the same runs."""
    (tmp_path / "encoders").mkdir()
    save_encoders(encoders, tmp_path / "encoders")
    few = {"lightweight", "sad9", "manigan-main", "manigan", "combined", "sad-published"}
    monkeypatch.setattr(make, "variants", lambda masks: tuple(v for v in rows.variants(masks) if v.name in few))
    command = [
        "tables",
        "--data",
        packed,
        "--encoders",
        tmp_path / "encoders",
        "--reduced",
        "--images",
        "4",
        "--count",
        "4",
        "--seeds",
        "0",
        "--out",
        tmp_path / "out",
        "--runtime.threads",
        "1",
    ]
    main([*map(str, command), "--only", "3"])
    assert "4 to train" in capsys.readouterr().out
    table = (tmp_path / "out" / "tables.md").read_text()
    assert re.search(r"^\| ManiGAN, main module \| [\d,.]+ \|.*\| - \| - \|$", table, re.M)
    assert re.search(r"^\| ManiGAN \| [\d,.]+ \|.*\| 7.120 \| 5.745 \|$", table, re.M)
    main([*map(str, command), "--as-published"])
    out = capsys.readouterr().out
    assert "4 are finished and reused, 2 to train" in out and "about" in out
    numbers = json.loads((tmp_path / "out" / "tables-as-published.json").read_text())
    assert set(numbers["runs"]) == few and numbers["setup"]["n"] == 4
    page = (tmp_path / "out" / "tables-as-published.html").read_text()
    assert page.count("<figure>") == 2 + 5 and "<strong>0</strong><br><small>exactly</small>" in page

    by = {(m["method"], m["as"], m["about"].split(",")[0]): m for m in numbers["gradients"]["maps"]}
    assert by["GM", "published", "on a Python list"]["strength"] == 0
    assert by["NSL", "published", "what was left of it in G's update"]["strength"] == 0
    assert (
        by["NSL", "published", "in D's loss: what its gradient was before G's gradients were set to zero"]["strength"]
        > 0
    )
    assert by["NSL", "paper", "in the generator's loss"]["strength"] > 0
    assert by["GM", "paper", "on the image"]["sharp"] == pytest.approx(1, abs=1e-6)
    assert by["masked MAE, true masks", "paper", "inside the mask only"]["bird"] < 0.1

    config = rows.configuration(
        rows.variants("dataset")[0],
        True,
        data=str(packed),
        encoders=str(tmp_path / "encoders"),
        run=str(tmp_path / "out" / "runs" / "lightweight-seed-0"),
    )
    bench = Bench(config, "dataset", pack, encoders, {})
    sharp = sharp_regions(laplace_sharpness(bench.edit.image))[0]
    assert torch.allclose(
        bench.with_method(gradient={"mode": "regions", "gain": 1.5}), 0.5 * bench.plain * sharp, atol=1e-7
    )
    (tmp_path / "others").mkdir()
    save_encoders(build_encoders(encoders.config, 64, pack.vocabulary, seed=2), tmp_path / "others")
    with pytest.raises(SystemExit):
        main([*map(str, command), "--encoders", str(tmp_path / "others")])
    assert "other encoders. Choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "5"], "tables 1, 2 and 3, and 4 is ours"),
        (["--seeds", "1", "1"], "different numbers"),
        (["--images", "-1"], "0 or more"),
        (["--count", "1"], "use 2 or more"),
        (["--as-published", "--only", "3"], "leave out --only"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["tables", *arguments])
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())  # a box may break the line
    assert message in shown and not list(tmp_path.iterdir())
