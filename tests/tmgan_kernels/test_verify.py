"""python -m tmgan_kernels.verify, and what auto makes of its verdict: on a card that only pretends to be there."""

from __future__ import annotations

import json
import os
import shutil
import time
import types
import warnings
from pathlib import Path

import pytest
import torch

import tmgan_kernels
from tmgan_kernels import _children, _parity, _triton, _verdict, verify
from tmgan_kernels._dispatch import choose, prefer
from tmgan_kernels.match_histogram import choose_match

CPU = torch.device("cpu")
ON_GPU = verify.on_gpu
CARD = types.SimpleNamespace(device=torch.device("cuda", 0), is_cuda=True, dtype=torch.float32)  # a tensor on it
DOUBLE = types.SimpleNamespace(device=torch.device("cuda", 0), is_cuda=True, dtype=torch.float64)
PACKAGE = Path(verify.__file__).parent
TINY = {"instance_norm_glu": (2, 2, 3, 5), "gather_crop": (2, 3, 9, 9)}


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A GPU as far as the verdict asks about it. What is set in it is what torch and the driver say."""
    said = {"name": "NVIDIA H200", "capability": (9, 0), "driver": "580.65.06", "cuda": "13.0"}
    monkeypatch.setenv("TMGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=None: said["name"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=None: said["capability"])
    monkeypatch.setattr(_verdict, "driver", lambda: said["driver"])
    monkeypatch.setattr(_verdict, "library_digest", lambda: "library")
    monkeypatch.setattr(_verdict, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(_verdict, "_offered", False)
    monkeypatch.setattr(_parity, "implementations", lambda operation: ["triton"])
    _verdict.forget()
    yield said
    _verdict.forget()


def as_eager(operation: str, spoil=lambda y: y):
    """The operation with its definition in place of its kernels, whose results are spoilt."""
    true = getattr(tmgan_kernels, operation)

    def call(*args, impl, **options):
        out = true(*args, impl="eager", **options)
        if impl == "eager":
            return out
        return spoil(out) if isinstance(out, torch.Tensor) else (*map(spoil, out),)

    return call


def slightly_wrong(y: torch.Tensor) -> torch.Tensor:
    return y * 1.01 if y.is_floating_point() else y ^ (torch.arange(y.numel()).view(y.shape) == 0)


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        return y.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.01


def tiny(operation: str) -> list[tuple]:
    first = _parity.CHECKS[operation].variants[0]
    return [(TINY.get(operation, (2, 3, 6, 7)), "float32", "nchw", first)]


def here(times: dict[str, float] | None = None, stop_after: int | None = None):
    """The runner of `gather` without child processes, on the CPU, with these times for every race."""

    def run(function, jobs, at_once):
        for number, job in enumerate(jobs):
            if number == stop_after:
                raise KeyboardInterrupt
            rows = (
                _parity.check(*job, CPU, only=tiny(job[0]))
                if function is verify.check_on_gpu
                else verify.race(
                    *job,
                    CPU,
                    lambda functions: {name: (times or {}).get(name, 9.0) for name in functions},
                    ((1, *TINY.get(job[0], (2, 3, 6, 7))[1:]),),
                )
            )
            yield from ((job, row) for row in rows)
            yield job, _children.Ended(None)

    return run


def gather(operations, **how) -> dict:
    return verify.gather(_verdict.fingerprint(0), operations, here(**how), lambda line: None)


def stored(parity: dict, race: dict | None = None) -> dict:
    """Write a verdict with these findings, and times of one race for each operation."""
    rows = [{"operation": name, "microseconds": times} for name, times in (race or {}).items()]
    verdict = {
        "format": _verdict.FORMAT,
        "fingerprint": _verdict.fingerprint(0),
        "library": "library",
        "finished": "2026-01-01T00:00:00+00:00",
        "parity": parity,
        "race": rows,
        "rows": [],
    }
    _verdict.write(verdict)
    return verdict


# -------------------------------------------------------------------- parity
def test_every_operation_is_checked():
    assert set(_parity.CHECKS) == set(tmgan_kernels.__all__)
    for name in _parity.CHECKS:
        for impl in ("triton", "cuda"):
            seen = list(_parity.cases(name, impl))
            assert name == "gather_crop" or {case[1:3] for case in seen} == {
                (dtype, layout) for dtype in _parity.DTYPES for layout in _parity.LAYOUTS
            }
            assert any(shape[2] % 2 and shape[3] % 2 for shape, *_ in seen)
        assert impl != "cuda" or name != "change_mask" or all(_parity.counts(case[3]) for case in seen)


@pytest.mark.parametrize("name", _parity.CHECKS)
def test_what_is_right_agrees_and_what_is_slightly_wrong_does_not(name, monkeypatch):
    monkeypatch.setattr(tmgan_kernels, name, as_eager(name))
    assert [row["problem"] for row in _parity.check(name, "triton", CPU, tiny(name))] == [None]
    monkeypatch.undo()
    monkeypatch.setattr(tmgan_kernels, name, as_eager(name, slightly_wrong))
    (row,) = _parity.check(name, "triton", CPU, tiny(name))
    assert row["problem"] and "Error" not in row["problem"]


@pytest.mark.parametrize("name", [name for name, check in _parity.CHECKS.items() if check.differentiable])
def test_a_wrong_gradient_does_not_agree(name, monkeypatch):
    monkeypatch.setattr(tmgan_kernels, name, as_eager(name, Slope.apply))
    (row,) = _parity.check(name, "triton", CPU, tiny(name))
    assert row["problem"].startswith("gradient 0 has an error of")


def test_nan_other_shapes_and_other_bits_in_a_repeat_do_not_agree(monkeypatch):
    calls = iter(range(10))
    for spoil, problem in (
        (lambda y: y * float("nan"), "error of nan"),
        (lambda y: y[:1], "not (2, 3, 6, 7)"),
        (lambda y: y.half(), "torch.float16"),
        (lambda y: y + next(calls) * 1e-8, "a repeat"),
    ):
        monkeypatch.setattr(tmgan_kernels, "gaussian_blur", as_eager("gaussian_blur", spoil))
        (row,) = _parity.check("gaussian_blur", "triton", CPU, tiny("gaussian_blur"))
        assert problem in row["problem"]
        monkeypatch.undo()


def test_no_input_is_near_a_kink_or_a_threshold():
    for shape in (_parity.ODD, _parity.WHOLE, _parity.WIDE):
        (image,) = _parity.prepare("sharp_gradient", shape, "float32", "nchw", CPU)
        sharpness = tmgan_kernels.laplace_sharpness(image.double(), impl="eager")
        threshold = tmgan_kernels.sharp_regions(sharpness, impl="eager")[1][:, None, None, None]
        assert sharpness.min() > 0.5 and ((sharpness - threshold).abs() > 0.04 * threshold).all()


@pytest.mark.skipif(not _triton.INTERPRETED, reason="kernels are not interpreted here")
@pytest.mark.parametrize("name", ["masked_mae", "scale_gradient"])
def test_the_kernels_agree_in_the_interpreter(name):
    for dtype, layout in _parity.PAIRS:
        (row,) = _parity.check(name, "triton", CPU, [((2, 3, 5, 7), dtype, layout, {})])
        assert row["problem"] is None and 0 <= row["share"] <= 1


def test_the_race_times_the_gpu_and_not_the_host(monkeypatch):
    """On a GPU of our own: a queue, and two clocks. The call that costs the host more is the faster one."""
    now = {"host": 0.0, "gpu": 0.0}  # seconds

    def enqueue(host: float, gpu: float) -> None:
        now["host"] += host
        now["gpu"] = max(now.values()) + gpu

    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            enqueue(1e-6, 0.0)
            self.at = now["gpu"]

        def synchronize(self):
            now["host"] = max(now.values())

        def elapsed_time(self, other):
            return (other.at - self.at) * 1e3

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: enqueue(1e-6, cycles / 1.7e9))
    monkeypatch.setattr(verify.time, "perf_counter", lambda: now["host"])
    times = verify.microseconds(
        {"eager": lambda: enqueue(30e-6, 25e-6), "triton": lambda: enqueue(80e-6, 10e-6), "slow": lambda: enqueue(0, 5)}
    )
    assert times == pytest.approx({"eager": 25, "triton": 10, "slow": 5e6}, rel=0.01)


# ------------------------------------------------------- what auto makes of it
def test_a_wrong_kernel_is_replaced_with_one_warning(card, monkeypatch, tmp_path):
    def raises(*args, impl, **options):
        if impl == "triton":
            raise RuntimeError("no kernel image\nat line 7")
        return true(*args, impl=impl, **options)

    true = tmgan_kernels.box_blur
    monkeypatch.setattr(tmgan_kernels, "masked_mae", as_eager("masked_mae", slightly_wrong))
    monkeypatch.setattr(tmgan_kernels, "mask_score", as_eager("mask_score"))
    monkeypatch.setattr(tmgan_kernels, "box_blur", raises)
    verdict = gather(["masked_mae", "box_blur", "mask_score"])
    assert verdict["parity"]["mask_score"] == {"triton": None}
    assert verdict["parity"]["box_blur"]["triton"] == "RuntimeError: no kernel image at 2x3x6x7 float32 nchw"
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    for name in ("masked_mae", "box_blur"):
        with pytest.warns(RuntimeWarning, match=f"^{name}: its Triton kernels failed.*'auto' is 'eager'") as caught:
            assert [choose(name, "auto", CARD) for _ in range(3)] == ["eager"] * 3
        assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose("mask_score", "auto", CARD) == "triton"
        assert choose("masked_mae", "triton", CARD) == "triton", "an explicit choice is never replaced"
        with prefer("triton", "masked_mae"):
            assert choose("masked_mae", "auto", CARD) == "triton"
        assert choose("mask_score", "auto", DOUBLE) == "eager"


GOOD, BAD = {"triton": None, "cuda": None}, "output 0 has an error of 3"


@pytest.mark.parametrize(
    ("found", "times", "taken"),
    [
        (GOOD, {"eager": 20, "triton": 10, "cuda": 5}, "cuda"),
        (GOOD, {"eager": 20, "triton": 5, "cuda": 10}, "triton"),
        (GOOD, {"eager": 5, "triton": 10, "cuda": 8}, "eager"),
        (GOOD, {"eager": 20, "triton": 10, "cuda": 9.7}, "triton"),
        (GOOD, {"eager": 20, "triton": 10}, "triton"),
        (GOOD, None, "triton"),
        (GOOD, {"eager": 5, "triton": 10}, "eager"),
        ({"triton": None, "cuda": BAD}, {"eager": 20, "triton": 10}, "triton"),
        ({"triton": BAD, "cuda": None}, {"eager": 20, "cuda": 10}, "cuda"),
        ({"triton": BAD, "cuda": BAD}, None, "eager"),
        ({"cuda": None}, None, "cuda"),
    ],
)
def test_auto_is_the_fastest_that_agreed(card, found, times, taken):
    stored({"box_blur": found}, {"box_blur": times} if times else None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert choose("box_blur", "auto", CARD) == taken
    assert len(caught) == (found.get("triton") is not None)


def test_times_of_several_sizes_count_alike(card):
    verdict = stored({"box_blur": GOOD}, None)
    verdict["race"] = [
        {"operation": "box_blur", "microseconds": times}
        for times in ({"eager": 1000, "triton": 400, "cuda": 500}, {"eager": 10, "triton": 8, "cuda": 2})
    ]
    assert _verdict.ranking(verdict, "box_blur") == ("cuda", "triton", "eager")


def test_auto_avoids_cuda_where_it_cannot_do_the_call_or_is_another_library(card, monkeypatch):
    stored({"match_histogram": GOOD}, {"match_histogram": {"eager": 20, "triton": 10, "cuda": 5}})
    assert choose_match("match_histogram", "auto", (CARD, CARD), "rank", True) == "cuda"
    assert choose_match("match_histogram", "auto", (CARD, CARD), "rank", False) == "triton"
    for digest in ("another library", None):
        monkeypatch.setattr(_verdict, "library_digest", lambda digest=digest: digest)
        _verdict.forget()
        assert choose("match_histogram", "auto", CARD) == "triton"


def test_without_a_verdict_auto_is_triton_and_says_once_what_to_run(card, caplog):
    for name in ("box_blur", "masked_mae", "box_blur"):
        assert choose(name, "auto", CARD) == ("triton" if _triton.triton else "eager")
    _verdict.forget()
    assert choose("box_blur", "auto", CARD) != "cuda"
    (message,) = caplog.messages
    assert "NVIDIA H200" in message and "python -m tmgan_kernels.verify" in message


def test_the_file_is_read_once(card, monkeypatch):
    stored({"box_blur": GOOD})
    reads = []
    monkeypatch.setattr(_verdict, "read", lambda key, read=_verdict.read: reads.append(key) or read(key))
    for _ in range(5):
        choose("box_blur", "auto", CARD), choose("mask_score", "auto", CARD)
    assert len(reads) == 1


def test_a_compiled_function_takes_the_verdict_as_a_constant(card, monkeypatch):
    stored({"box_blur": GOOD}, {"box_blur": {"eager": 20, "triton": 10, "cuda": 5}})
    key = _verdict.fingerprint(0)
    monkeypatch.setattr(_verdict, "fingerprint", lambda index: key)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # Dynamo would believe it, and ask the driver
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend="eager")
    def compiled(x):
        return x + 1 if _verdict.automatic("box_blur", x.device.index, False) == "cuda" else x - 1

    assert compiled(torch.zeros(2)).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("name", "NVIDIA A100-SXM4-80GB"),
        ("capability", (8, 0)),
        ("driver", "590.1"),
        ("torch", "9.9"),
        ("sources", "other"),
        ("cuda", "14.0"),
        ("triton", "9.9"),
    ],
)
def test_a_verdict_of_another_card_version_or_source_is_none(card, monkeypatch, what, value, caplog):
    stored({"box_blur": {"triton": BAD}})
    before = _verdict.fingerprint(0)
    assert _verdict.read(before)
    if what in card and what != "cuda":
        card[what] = value
    elif what == "cuda":
        monkeypatch.setattr(torch.version, "cuda", value)
    elif what == "sources":
        monkeypatch.setattr(_verdict, "sources_digest", lambda: value)
    else:
        monkeypatch.setattr({"torch": torch, "triton": _triton.triton}[what], "__version__", value)
    after = _verdict.fingerprint(0)
    assert after != before and _verdict.read(after) is None
    assert choose("box_blur", "auto", CARD) == "triton"
    assert f"run `{_verdict.COMMAND}`" in verify.report(0)[0]
    assert ("other versions" in verify.report(0)[0]) == (what not in ("name", "capability"))
    shutil.copy(_verdict.path_of(before), _verdict.path_of(after))  # the name alone is not believed
    caplog.clear()
    assert _verdict.read(after) is None and "of another card, version or source" in caplog.text


def ship(folder) -> None:
    """Move the verdict of this machine to those that come with the package."""
    _verdict.SHIPPED.mkdir(exist_ok=True)
    (path,) = folder.glob("*.json")
    shutil.move(path, _verdict.SHIPPED)
    _verdict.forget()


@pytest.mark.parametrize(
    ("what", "value", "holds"),
    [
        ("driver", "590.1", True),
        ("torch", "9.9", True),
        ("cuda", "14.0", True),
        ("triton", "9.9", False),
        ("sources", "other", False),
        ("capability", (9, 9), False),
        ("name", "NVIDIA H100", False),
    ],
)
def test_a_shipped_verdict_serves_the_same_card_triton_and_sources(
    card, monkeypatch, tmp_path, caplog, what, value, holds
):
    stored({"box_blur": GOOD}, {"box_blur": {"eager": 5, "triton": 10, "cuda": 4}})
    ship(tmp_path)
    if what in ("name", "capability", "driver"):
        card[what] = value
    elif what == "cuda":
        monkeypatch.setattr(torch.version, "cuda", value)
    elif what == "sources":
        monkeypatch.setattr(_verdict, "sources_digest", lambda: value)
    else:
        monkeypatch.setattr({"torch": torch, "triton": _triton.triton}[what], "__version__", value)
    assert choose("box_blur", "auto", CARD) == ("cuda" if holds else "triton")
    assert ("not been verified" in caplog.text) == (not holds) and "ignored" not in caplog.text
    said = verify.report(0)
    assert said[0].startswith("fused kernels: verified" if holds else "fused kernels: not verified")
    assert not holds or "580.65.06" in said[0] and "on another machine" in said[1]


def test_a_verdict_of_ones_own_comes_before_a_shipped_one(card, tmp_path):
    stored({"box_blur": {"triton": None}}, {"box_blur": {"eager": 5, "triton": 10}})
    ship(tmp_path)
    assert choose("box_blur", "auto", CARD) == "eager"
    stored({"box_blur": {"triton": None}}, {"box_blur": {"eager": 20, "triton": 10}})
    _verdict.forget()
    assert choose("box_blur", "auto", CARD) == "triton" and "on another machine" not in verify.report(0)[1]


def test_a_shipped_verdict_says_nothing_of_another_library_and_damaged_it_is_none(card, monkeypatch, tmp_path):
    stored({"box_blur": GOOD}, {"box_blur": {"eager": 20, "triton": 10, "cuda": 4}})
    ship(tmp_path)
    monkeypatch.setattr(_verdict, "library_digest", lambda: "of one's own making")
    assert choose("box_blur", "auto", CARD) == "triton"
    (path,) = _verdict.SHIPPED.iterdir()
    for text in ("", "[]", "null", path.read_text()[:-2], path.read_text().replace("20", "-20")):
        path.write_text(text)
        assert _verdict.read(_verdict.fingerprint(0)) is None


def test_a_damaged_shipped_verdict_hides_no_whole_one(card, tmp_path, caplog):
    stored({"box_blur": GOOD}, {"box_blur": {"eager": 5, "triton": 10}})
    ship(tmp_path)
    (whole,) = _verdict.SHIPPED.iterdir()
    damaged = whole.with_name(f"{_verdict._prefix(_verdict.fingerprint(0))}-0.json")  # is read before it
    damaged.write_text(whole.read_text().replace('"race"', '"rice"'))
    assert damaged < whole and choose("box_blur", "auto", CARD) == "eager"
    assert f"{damaged} is damaged" in caplog.text and str(whole) not in caplog.text


def test_what_is_shipped_can_be_read():
    for path in (PACKAGE / "verdicts").glob("*.json"):
        key = json.loads(path.read_text())["fingerprint"]
        assert path.name == _verdict.path_of(key).name and _verdict._read(path, key, tuple(key)), path


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-2],
        lambda text: "null",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"format": 1', '"format": 0'),
        lambda text: text.replace("null", "7", 1),
        lambda text: text.replace("10", "-10"),
        lambda text: text.replace("10", "NaN"),
        lambda text: text.replace("cuda", "cudb"),
        lambda text: "\0\xff" * 9,
    ],
)
def test_a_damaged_file_is_named_and_not_believed(card, damage, caplog):
    stored({"box_blur": GOOD}, {"box_blur": {"eager": 5, "triton": 10, "cuda": 4}})
    path = _verdict.path_of(_verdict.fingerprint(0))
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    assert choose("box_blur", "auto", CARD) == "triton"
    assert str(path) in caplog.text and "ignored" in caplog.text


def test_an_interrupted_run_is_no_verdict_and_leaves_its_rows(card, monkeypatch, tmp_path):
    for name in ("mask_score", "masked_mae"):
        monkeypatch.setattr(tmgan_kernels, name, as_eager(name, slightly_wrong))
    with pytest.raises(KeyboardInterrupt):
        gather(["mask_score", "masked_mae"], stop_after=1)
    (left,) = tmp_path.iterdir()
    key, row = map(json.loads, left.read_text().splitlines())
    assert key == _verdict.fingerprint(0) and row["operation"] == "mask_score" and row["problem"]
    assert _verdict.read(key) is None and choose("mask_score", "auto", CARD) == "triton"


def test_a_verdict_is_put_in_its_place_whole(card, monkeypatch, tmp_path):
    old = stored({"box_blur": GOOD})
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="disk is full"):
        stored({"box_blur": {"triton": BAD}})
    assert _verdict.read(_verdict.fingerprint(0)) == old and len(list(tmp_path.iterdir())) == 1


def test_no_row_is_no_agreement(card):
    def ends(function, jobs, at_once):
        yield from ((job, _children.Ended(problem)) for job, problem in zip(jobs, ("status -11", None), strict=False))

    verdict = verify.gather(_verdict.fingerprint(0), ["mask_score", "masked_mae", "box_blur"], ends, lambda line: None)
    assert {name: found["triton"] for name, found in verdict["parity"].items()} == {
        "mask_score": "status -11",
        "masked_mae": "nothing was compared",
        "box_blur": "nothing was compared",
    }


# ----------------------------------------------------------- command, children
@pytest.fixture
def command(card, monkeypatch):
    """The command, with three operations and no child processes."""
    monkeypatch.setattr(_triton, "INTERPRETED", False)
    monkeypatch.setattr(verify, "CHECKS", {name: _parity.CHECKS[name] for name in ("mask_score", "masked_mae")})
    for name in verify.CHECKS:
        monkeypatch.setattr(tmgan_kernels, name, as_eager(name))
    monkeypatch.setattr(
        verify, "on_gpu", lambda function, jobs, index, at_once: here({"triton": 3.0})(function, jobs, at_once)
    )
    return card


def test_status_0_where_all_agree_and_doctor_says_so(command, capsys):
    assert verify.main([]) == 0
    out = capsys.readouterr().out
    assert "All agree" in out and "3.0" in out and "NVIDIA H200, sm_90" in out
    first, taken = verify.report(0)
    assert first.startswith("fused kernels: verified on NVIDIA H200 (sm_90), 20")
    assert taken == "  triton: mask_score, masked_mae"


def test_status_1_where_something_does_not_agree(command, monkeypatch, capsys):
    monkeypatch.setattr(tmgan_kernels, "masked_mae", as_eager("masked_mae", slightly_wrong))
    assert verify.main([]) == 1
    out = capsys.readouterr().out
    assert "FAILS" in out and "masked_mae triton: output 0 has an error of" in out
    assert verify.report(0)[1:3] == ["  triton: mask_score", "  eager: masked_mae"]
    assert verify.report(0)[3].startswith("  failed: masked_mae triton: output 0")


def test_status_2_where_nothing_can_be_verified(command, monkeypatch, capsys, tmp_path):
    def fails(message):
        assert verify.main([]) == 2
        assert message in capsys.readouterr().err

    (tmp_path / "file").touch()
    monkeypatch.setenv("TMGAN_CACHE", str(tmp_path / "file"))
    fails("set TMGAN_CACHE")
    assert verify.main(["--device", "1"]) == 2
    monkeypatch.setattr(_triton, "INTERPRETED", True)
    fails("unset it")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fails("no NVIDIA GPU")
    assert "no NVIDIA GPU" in verify.report(0)[0]
    monkeypatch.setattr(torch.version, "cuda", None)
    fails("built without CUDA")


def test_a_gpu_that_does_not_work_or_is_full_is_no_finding(command, monkeypatch, capsys):
    def out_of_memory(*args, impl, **options):
        if impl == failing:
            raise torch.OutOfMemoryError("tried to allocate")
        return torch.zeros(1)

    for failing, message in (("eager", "does not run: OutOfMemoryError: tried"), ("triton", "too little free memory")):  # noqa: B007
        with monkeypatch.context() as patch:
            patch.setattr(tmgan_kernels, "mask_score", out_of_memory)
            patch.setattr(_parity, "accurate", lambda *args: 0.0)
            with pytest.raises(_parity.Unusable, match=message):
                list(_parity.check("mask_score", "triton", CPU, tiny("mask_score")))
    with pytest.raises(_parity.Unusable, match="no tensor can be made on cuda:9"):
        list(_parity.check("mask_score", "triton", torch.device("cuda", 9)))

    def rows(function, jobs, at_once, limit):
        yield jobs[0], _parity.Unusable("the GPU is busy")

    monkeypatch.setattr(verify, "on_gpu", ON_GPU)
    monkeypatch.setattr(_children, "run", rows)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (2**33, 2**34))
    assert verify.main([]) == 2 and "the GPU is busy; end what else" in capsys.readouterr().err
    assert _verdict.read(_verdict.fingerprint(0)) is None


def test_status_130_where_it_was_interrupted(command, monkeypatch):
    monkeypatch.setattr(
        verify, "on_gpu", lambda function, jobs, index, at_once: here(stop_after=0)(function, jobs, at_once)
    )
    assert verify.main([]) == 130 and _verdict.read(_verdict.fingerprint(0)) is None


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TMGAN_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert _verdict.folder() == tmp_path / "a"
    monkeypatch.delenv("TMGAN_CACHE")
    assert _verdict.folder() == tmp_path / "b" / "tmgan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _verdict.folder() == tmp_path / ".cache" / "tmgan"


def work(how: str):
    yield how
    if how == "dies":
        os._exit(7)
    if how == "hangs":
        time.sleep(600)


def test_a_child_that_dies_stops_no_other():
    seen = list(_children.run(work, [("dies",), ("works",)], 1, 300.0))
    ended = _children.Ended("its process ended with status 7"), _children.Ended(None)
    assert seen == [(("dies",), "dies"), (("dies",), ended[0]), (("works",), "works"), (("works",), ended[1])]


def test_a_child_that_hangs_is_ended():
    *_, (job, end) = _children.run(work, [("hangs",)], 1, 0.2)
    assert end == _children.Ended("it did not end within 0.2 s")
