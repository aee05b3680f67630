"""Table 4, ours: which runs it has, with which encoders, and what the page says of them."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from benchmarks import report
from tests.paper.made_up import evaluation, results, with_measures
from tmgan.cli import main
from tmgan.config import configfile
from tmgan.data.pack import Pack
from tmgan.data.vocabulary import Vocabulary
from tmgan.evaluation.metrics.measure import Measure
from tmgan.models.bundle import load_encoders, save_encoders
from tmgan.paper import make
from tmgan.paper import variants as rows
from tmgan.paper.pages import document

FOUR = ["ours", "ours-encoders", "ours-network", "ours-mismatched", "ours-swaps"]


def of(name: str, reduced: bool, pre_trained: rows.PreTrained = "dataset") -> dict:
    variant = next(v for v in rows.variants(pre_trained) if v.name == name)
    return configfile.to_dict(rows.configuration(variant, reduced))


# ------------------------------------------------------------------- what is compared
@pytest.mark.parametrize("reduced, preset", [(True, "quickstart"), (False, "editor")])
def test_ours_is_our_preset_on_as_many_images(reduced, preset):
    ours = of("ours", reduced)
    assert set(configfile.differences(ours, configfile.to_dict(configfile.from_preset(preset)))) <= {"images"}
    assert ours["images"] == of("lightweight", reduced)["images"]
    assert of("ours", reduced, "fcn")["method"]["keep_mask"] == "fcn"


@pytest.mark.parametrize("reduced", [True, False])
def test_each_other_row_is_ours_without_one_part(reduced):
    ours, baseline = of("ours", reduced), of("lightweight", reduced)
    restoring = {"method.restore.p", "loss.matching"}
    changed = {name: set(configfile.differences(ours, of(name, reduced))) for name in FOUR[1:]}
    assert changed["ours-encoders"] == set()
    assert changed["ours-mismatched"] == restoring | {"method.mismatched_text_p"}
    assert changed["ours-swaps"] == restoring | {"method.swapped_text_p"}
    network = of("ours-network", reduced)
    assert all(change.startswith("model.") for change in changed["ours-network"])
    assert network["model"] == baseline["model"] | {"keep_input": True}
    pairs = {v.name: v.encoders for v in rows.variants("dataset")}
    assert [name for name, pair in pairs.items() if pair == "hard"] == [n for n in FOUR if n != "ours-encoders"]


def test_which_rows_a_table_has():
    everything = rows.variants("dataset")
    assert [v.name for v in rows.select(everything, [4], False)] == ["lightweight", *FOUR]
    assert not {v.name for v in rows.select(everything, rows.PAPER, True)} & {*FOUR}
    one_pair = {v.name for v in rows.select(everything, [1, 4], False, one_pair=True)}
    assert one_pair == {"lightweight", "histogram", "masks", "combined", *FOUR} - {"ours-encoders"}


# ------------------------------------------------------------------- what the page says
def measured(accuracy: float, psnr: float = 30.0):
    """40 birds, of which this share obeys."""
    right = [float(k < 40 * accuracy) for k in range(40)]
    return with_measures(
        colour_accuracy=Measure.of(right, "of the named parts", "higher"),
        others_kept=Measure.of([0.75] * 40, "of the other parts", "higher"),
        background_psnr=Measure.of([10 ** (-psnr / 10)] * 40, "dB", "higher", "psnr"),
        preserved_psnr__dataset=Measure.of([1e-3] * 40, "dB", "higher", "psnr"),
    )


def four(**changes):
    found = {
        "lightweight": [measured(0.25)],
        "nsl": [measured(0.25)],
        "ours": [measured(0.9, 40.0)],
        "ours-encoders": [measured(0.5)],
        "ours-network": [measured(0.9)],
    }
    return results(found, tables=[1, 2, 3, 4], encoders_given=False, **changes)


def test_the_page_says_what_matters_by_the_numbers():
    about = four()
    text = document(about, {}).markdown("x")
    before, ours = text.split("## Ours: does the edit obey its text?")
    table, changes = ours.split("## How this was made")[0].split("| in place of ours")
    assert "| method | colour accuracy | other parts kept | background PSNR, dB | sharpness |" in table
    assert re.search(r"\| ours \| 0\.900 \(.*\) \| 0\.75.* \| 40\.0 .* \| 12\.0 .*\|", table)
    assert re.search(r"\| the photos \| - \| - \| - \| 12\.0", table)
    assert (
        "**Colour accuracy against ours**: down with Lightweight GAN, ours with the baseline's encoders; no change can "
        "be told with ours with Lightweight GAN's network." in table
    )
    assert re.search(r"\| ours with the baseline's encoders \| -0\.4 \*\*down\*\* \(.*\) \| \+0 \*\*=\*\*", changes)
    assert "ours" not in before.split("## What each method changes")[1].lower(), "the paper's methods only"
    assert set(about["changes"]) == {"nsl"} and "nsl" not in about["ablation"]
    assert "PSNR outside the object" not in text, "the background once"


def test_without_table_4_the_page_is_as_it_was():
    found = {"lightweight": [evaluation()], "nsl": [evaluation(2)]}
    with_ours, without = (
        document(results(found, tables=tables, encoders_given=False), {}).markdown("x")
        for tables in ([1, 2, 3, 4], [1, 2, 3])
    )
    assert "Ours" in with_ours and "Ours" not in without and "ours" not in without


def test_only_table_4():
    found = {"lightweight": [measured(0.25)], "ours": [measured(0.9)]}
    text = document(results(found, tables=[4], encoders_given=True), {}).markdown("x")
    assert "## What each method changes" not in text and "## Table I" not in text
    assert "All runs have the encoders that `--encoders` named" in text


def test_photographs_have_other_columns():
    one = with_measures(
        colour_words=Measure.of([0.5] * 40, "of the named colours", "higher"),
        colour_words_photo=Measure.of([0.25] * 40),
        preserved_psnr__fcn=Measure.of([1e-3] * 40, "dB", "higher", "psnr"),
    )
    text = document(results({"lightweight": [one], "ours": [one]}, tables=[4], encoders_given=False), {}).markdown("x")
    assert "| method | named colours | PSNR outside the object, FCN masks, dB | sharpness |" in text
    assert re.search(r"\| the photos \| 0\.25.* \| - \| 12", text)
    assert "as that takes drawn birds: colour accuracy, other parts kept, background PSNR." in text


def test_ours_may_have_failed():
    about = results({"lightweight": [measured(0.25)], "ours-swaps": [measured(0.5)]}, tables=[4], encoders_given=False)
    text = document(about, {}).markdown("x")
    assert about["ablation"] == {} and "| ours with swapped captions in place of restoring |" in text
    assert "in place of ours" not in text


def test_the_committed_results_are_a_page_with_and_without_our_rows():
    about = json.loads((report.RESULTS / "tables.json").read_text())
    about["setup"]["tables"] = [1, 2, 3]
    paper = document(about, {}).markdown("x")
    ours = four()
    about["setup"] |= {"tables": [1, 2, 3, 4], "encoders_given": False}
    about["variants"] |= ours["variants"]
    about["runs"] |= {name: ours["runs"][name] for name in FOUR[:3]}
    about["ablation"] = ours["ablation"]
    both = document(about, {}).markdown("x")
    for section in ("## Table I:", "## Table II:", "## What each method changes"):
        assert section in paper and section in both
    assert "| ours with Lightweight GAN's network | " in both


# ------------------------------------------------------------------- the command
@pytest.fixture
def few(monkeypatch):
    def only(masks):
        return tuple(v for v in rows.variants(masks) if v.name in {"lightweight", "ours", "ours-encoders"})

    monkeypatch.setattr(make, "variants", only)


def command(packed, out, *more: str) -> list[str]:
    size = ["--reduced", "--images", "4", "--count", "4", "--seeds", "0", "--runtime.threads", "1"]
    return ["tables", "--data", str(packed), "--out", str(out), *size, *more]


def test_a_second_pair_of_encoders_is_made_when_it_is_needed(small, few, packed, tmp_path, capsys):
    out = tmp_path / "out"
    main(command(packed, out, "--only", "1"))
    assert (out / "encoders").exists() and not (out / "encoders-hard").exists()
    main(command(packed, out, "--only", "4"))
    assert "3 runs: 1 are finished and reused, 2 to train" in capsys.readouterr().out
    shared, hard = load_encoders(out / "encoders"), load_encoders(out / "encoders-hard")
    assert shared.hash() != hard.hash()
    assert configfile.read_yaml(out / "encoders-hard" / "config.yaml", make.DamsmConfig()).pretrain.hard_negatives == 2
    seen = {name: load_encoders(out / "runs" / f"{name}-seed-0").hash() for name in ("ours", "ours-encoders")}
    assert seen == {"ours": hard.hash(), "ours-encoders": shared.hash()}
    numbers = json.loads((out / "tables.json").read_text())
    assert "code_distance" in numbers["runs"]["ours-encoders"] and "code_distance" not in numbers["runs"]["ours"]
    assert {"encoders", "encoders-hard"} <= set(numbers["setup"]["seconds"])
    assert set(numbers["ablation"]) == {"lightweight", "ours-encoders"} and "obedience" not in numbers["captions"]
    identity = json.loads((out / "identity.json").read_text())
    main(command(packed, out, "--only", "1"))
    assert json.loads((out / "identity.json").read_text()) == identity, "the second pair is not forgotten"
    with pytest.raises(ValueError, match="other encoders-hard"):
        make._same_as_before(out, identity | {"encoders-hard": "another"})


def test_given_encoders_serve_all_runs(small, packed, encoders, tmp_path, capsys):
    (tmp_path / "given").mkdir()
    save_encoders(encoders, tmp_path / "given")
    main(command(packed, tmp_path / "out", "--only", "4", "--encoders", str(tmp_path / "given")))
    assert "5 runs: 0 are finished" in capsys.readouterr().out
    assert load_encoders(tmp_path / "out" / "runs" / "ours-seed-0").hash() == encoders.hash()
    page = (tmp_path / "out" / "tables.md").read_text()
    assert "All runs have the encoders that" in page and "](tables/obedience.png)" in page
    assert not list((tmp_path / "out").glob("encoders*"))


def test_captions_without_colours_leave_the_papers_tables(small, few, packed, tmp_path, monkeypatch, capsys):
    opened = Pack.open

    def words(pack):
        return (f"w{k}" for k in range(1, len(pack.vocabulary)))

    def colourless(path, *size):
        pack = opened(path, *size)
        return dataclasses.replace(pack, vocabulary=Vocabulary(("<end>", *words(pack))))

    monkeypatch.setattr(make.Pack, "open", colourless)
    with pytest.raises(SystemExit):
        main(command(packed, tmp_path / "out", "--only", "4"))
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "No word of the captions is a colour" in said and "without ours (table 4): --only 1 2 3" in said
    assert not (tmp_path / "out" / "encoders").exists()


def test_at_full_size_the_second_pair_has_imagenets_eyes(pack, encoders, tmp_path, monkeypatch):
    """And sees colours swapped inside the masks that the runs have. Without the weights nothing is trained."""
    wanted = []
    monkeypatch.setattr(make, "shared_encoders", lambda config: wanted.append(config) or tmp_path)
    monkeypatch.setattr(make.bundle, "load_encoders", lambda folder: encoders)
    monkeypatch.setattr(make.weights, "require", lambda key: wanted.append(key))
    request = make.Request(data="pack", out=tmp_path)
    assert list(make._encoders(request, pack, False, ["shared", "hard"], "fcn")) == ["shared", "hard"]
    first, shared, hard = wanted
    assert first == "efficientnet" == hard.encoder.kind and hard.pretrain.masks == "fcn"
    assert shared == make.DamsmConfig(data=str(pack.path), run=str(tmp_path / "encoders"))

    def missing(key):
        raise ValueError("The weights are missing.")

    monkeypatch.setattr(make.weights, "require", missing)
    with pytest.raises(ValueError, match=r"(?s)weights are missing.*--only 1 2 3"):
        make._encoders(request, pack, False, ["shared", "hard"], "fcn")
    assert len(wanted) == 3
