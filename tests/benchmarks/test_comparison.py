"""A measured step beside the prediction, and the rates that follow, on a step whose rates are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import schema
from benchmarks.offline import comparison, measured, predict, rates, tables

CARD = "H200"
REPORT = tables.load(tables.RESULTS / tables.STEPS[-1][0])
TRUE = {
    rates.FUSED: 0.6,
    rates.OURS: 0.5,
    rates.SWEEPS_TWICE: 1.3,
    rates.PRODUCT_FP32: 0.25,
    rates.LAUNCH_SECONDS: 2e-6,
    "convolutions, 5 to 32": 0.2,
    "convolutions, 33 to 64": 0.3,
    "convolutions, 65 to 128": 0.5,
    "convolutions, more": 0.6,
}


def truth(card: str) -> dict[str, rates.Rate]:
    return {name: rate._replace(value=TRUE.get(name, rate.value)) for name, rate in rates.assumed(card).items()}


def document(joined: bool = False) -> dict:
    """What a GPU of the true rates would have measured, where what binds a row is as it was assumed."""
    rows: dict[tuple[str, ...], dict] = {}

    def add(component: str, label: str, what: str, sizes: str, seconds: float, kernels: int) -> None:
        if joined and component.endswith("backward") and not component.startswith("discriminator"):
            component = "losses of the generator backward + generate backward"
        key = dict(zip(("component", "label", "what", "sizes"), (component, label, what, sizes), strict=True))
        row = rows.setdefault(tuple(key.values()), {**key, "seconds": 0.0, "kernels": 0.0})
        row["seconds"] += seconds
        row["kernels"] += kernels

    for graph in (*REPORT["graphs"], predict.outside(REPORT)):
        for row in graph["rows"]:
            assumed = predict.bounds(row, CARD, rates.assumed)
            seconds = predict.bounds(row, CARD, truth)[max(assumed, key=lambda name: assumed[name])]
            operator = comparison._operator(row)
            add(graph["graph"], predict.label(row), *operator, seconds, row["launches"])
            add(graph["graph"], predict.LAUNCHES, "", "", 2e-6 * row["launches"], row["launches"])
    whole = sum(row["seconds"] for row in rows.values())
    return {
        "machine": {"gpu": "NVIDIA H200", "date": "2026-12-01"},
        "settings": {"preset": "combined", "batch": 40, "precision": "bf16"},
        "rows": [{"engine": "compiled", "part": "step", "seconds": whole}],
        "components": list(rows.values()),
    }


@pytest.mark.parametrize("joined", [False, True])
def test_the_rates_of_a_step_are_found_again(joined):
    made = document(joined)
    comparison.check(made)
    both = comparison.pairs(made, REPORT)
    assert not comparison.one_sided(both)
    found = comparison.corrected(made, both)
    assert {name: found[name].value for name in TRUE} == pytest.approx(TRUE, rel=1e-6)
    others = {name: found[name].value for name in found if name not in TRUE}
    assert others == {
        "convolutions, up to 4 channels": pytest.approx(0.03),
        rates.CONVOLUTION_MEMORY: pytest.approx(0.75),
    }
    assert rates.assumed(CARD).keys() - found.keys() == {rates.PRODUCT_BF16, rates.ATOMICS_PER_SECOND}, "bind nothing"
    predicted = predict.predict(REPORT, rates.assumed)[CARD]
    assert sum(pair.predicted for pair in both) == pytest.approx(
        sum(sum(times.values()) for times in predicted.values())
    )


def test_corrected_rates_predict_what_was_measured(monkeypatch):
    made = document()
    lines = measured.lines(made, REPORT, "steps-x.json")
    start = lines.index("For MEASURED in rates.py:")
    entry = eval("{" + "".join(lines[start + 1 :]) + "}", {"Rate": rates.Rate})
    assert entry[CARD][rates.FUSED] == rates.Rate(0.6, "measured, steps-x.json, 2026-12-01")
    monkeypatch.setattr(rates, "MEASURED", entry)
    predicted = predict.predict(REPORT)
    before = predict.predict(REPORT, rates.assumed)
    assert predicted["H100"] == before["H100"]
    whole = sum(sum(times.values()) for times in predicted[CARD].values())
    assert whole == pytest.approx(made["rows"][0]["seconds"], rel=0.03)  # what binds some rows has changed
    assert [pair.predicted for pair in comparison.pairs(made, REPORT)] == pytest.approx(
        [pair.predicted for pair in comparison.pairs(made, REPORT, rates.assumed)]
    ), "the comparison goes by what was assumed"


def test_gaps_that_a_profiler_made_do_not_count():
    made = document()
    for row in made["components"]:
        if row["label"] == predict.LAUNCHES:
            row["seconds"] *= 3
    both = comparison.pairs(made, REPORT)
    assert comparison.corrected(made, both)[rates.LAUNCH_SECONDS].value == pytest.approx(2e-6, rel=1e-6)
    made["rows"] = []
    assert comparison.corrected(made, both)[rates.LAUNCH_SECONDS].value == pytest.approx(6e-6, rel=1e-6)


def test_a_table_has_counts_times_and_what_was_reached():
    made = document()
    rows = comparison.table_rows(made, comparison.pairs(made, REPORT))
    (row,) = [row for row in rows if row[:2] == ("discriminator backward", "convolutions, more")]
    about = dict(zip(comparison.HEAD, row, strict=True))
    gflop = sum(each["flop"] for each in REPORT["graphs"][2]["rows"] if each.get("width", 0) > 128) / 1e9
    assert about["GFLOP"] == f"{gflop:,.1f}" and float(about["measured ms"]) > 0
    reached = gflop / float(about["measured ms"])
    assert float(about["TFLOP/s"]) == pytest.approx(reached, rel=0.01)
    assert float(about["of the peak"].rstrip("%")) / 100 == pytest.approx(reached / 989.4, rel=0.01)
    assert rows[-1][:2] == ("step", "sum")
    assert float(rows[-1][5]) == pytest.approx(1e3 * made["rows"][0]["seconds"], abs=1e-3)


def test_what_only_one_side_has_is_listed_and_corrects_nothing():
    made = document()
    lost = max(made["components"], key=lambda row: row["seconds"] * row["label"].startswith("convolutions"))
    lost["sizes"] = "1x2x3x4 5x6x7x8"
    both = comparison.pairs(made, REPORT)
    alone = comparison.one_sided(both)
    assert {(pair.measured > 0, pair.predicted > 0) for pair in alone} == {(True, False), (False, True)}
    assert comparison.corrected(made, both)[lost["label"]].value == pytest.approx(TRUE[lost["label"]], rel=1e-6)
    assert any("1x2x3x4" in line for line in measured.lines(made, REPORT, "x"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.pop("components"), "no profile of the compiled step"),
        (lambda d: d["components"][0].update(seconds=-1.0), "must not be negative"),
        (lambda d: d["components"][0].update(kernels=0.0), "must be more than 0"),
        (lambda d: d["components"][0].pop("label"), "lacks 'label'"),
    ],
)
def test_the_checker_says_what_is_wrong(spoil, message):
    made = document()
    spoil(made)
    with pytest.raises(schema.SchemaError, match=message):
        comparison.check(made)


def test_another_card_and_another_step_are_errors():
    made = document()
    made["machine"]["gpu"] = "NVIDIA GH200 480GB"
    with pytest.raises(ValueError, match="rates.py knows A100, H100, H200"):
        comparison.pairs(made, REPORT)
    made = document()
    made["settings"]["batch"] = 64
    with pytest.raises(ValueError, match="'batch': 64"):
        comparison.pairs(made, REPORT)
    with pytest.raises(ValueError, match="make one with `python -m benchmarks.offline`"):
        tables.newest(tables.RESULTS, made)


def test_the_command_and_the_page_show_a_document(tmp_path, monkeypatch, capsys):
    made = document()
    (tmp_path / "steps-h200.json").write_text(json.dumps(made))
    for path in tables.RESULTS.glob("offline-*.json"):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr("sys.argv", ["measured", str(tmp_path / "steps-h200.json")])
    measured.main()
    printed = capsys.readouterr().out
    assert "generate backward" in printed and '"fused": Rate(0.6, "measured, steps-h200.json, 2026-12-01")' in printed
    machine = {"driver": "1", "cuda": "13.0", "torch": "2.11", "triton": "3.6", "python": "3.12", "commit": "abc"}
    made["machine"] |= machine
    (tmp_path / "steps-h200.json").write_text(json.dumps(made))
    section = tables.section(Path(tmp_path))
    assert "**Measured beside the prediction**" in section and "| fused | 0.75 | 0.6 |" in section
