"""The loop and the step: exact resume, signals, what changes and what does not, and no hidden waits."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from tmgan.common.interrupt import StopRequest
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import DamsmConfig, RuntimeConfig
from tmgan.models import bundle
from tmgan.training.checkpoint import Checkpoints
from tmgan.training.editor_task import EditorTask, check_fits
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.jobs import train_editor, train_encoders
from tmgan.training.loop import train
from tmgan.training.run_folder import RunFolder
from tmgan.training.start import start_of


def flat(state: dict, prefix: str = "") -> dict[str, torch.Tensor]:
    found = {}
    for key, value in state.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, torch.Tensor):
            found[f"{prefix}{key}"] = value
    return found


def assert_equal_states(one: dict, other: dict) -> None:
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys() and one
    for name in one:
        assert torch.equal(one[name], other[name]), name


def latest(run) -> dict:
    return Checkpoints(run / "checkpoints", 3, print).load_latest()


class StopAfter(StopRequest):
    """A stop request that arrives during the so-many-th step of a task, in place of a real signal; 0: before any."""

    def __init__(self, steps: int):
        super().__init__()
        self.restore()
        self._left = steps
        if steps == 0:
            self.signal = "SIGTERM"

    def watch(self, task):
        train_one = task.step

        def step(number):
            self._left -= 1
            if self._left == 0:
                self.signal = "SIGTERM"
            return train_one(number)

        task.step = step
        return task


def run_gan(config, pack, encoders, stop=None):
    runtime = decide(config.runtime)
    run = RunFolder(config.run, config, config.output.keep)
    start = start_of(config, Path(config.run))
    task = EditorTask(config, pack, encoders, runtime, None if start is None else start.weights)
    stop = stop or StopAfter(10**9)
    try:
        return train(stop.watch(task), run, config.images, config.output, stop)
    finally:
        task.loader.close()
        run.close()


def test_interrupted_and_resumed_equals_uninterrupted(tiny, pack, encoders, tmp_path):
    assert run_gan(tiny, pack, encoders) == "done"
    pieces = dataclasses.replace(tiny, run=str(tmp_path / "pieces"))
    low = dataclasses.replace(pieces, memory="low")  # the same bits
    outcomes = [run_gan(pieces, pack, encoders, StopAfter(2)), run_gan(low, pack, encoders, StopAfter(3))]
    outcomes += [run_gan(pieces, pack, encoders)]
    assert outcomes == ["stopped", "stopped", "done"]
    assert_equal_states(latest(tmp_path / "run")["task"], latest(tmp_path / "pieces")["task"])
    assert_equal_states(
        load_file(tmp_path / "run" / bundle.GENERATOR), load_file(tmp_path / "pieces" / bundle.GENERATOR)
    )
    for name in ("stats.jsonl", "metrics.jsonl"):
        whole, pieced = ((tmp_path / run / name).read_text().splitlines() for run in ("run", "pieces"))
        assert [json.loads(row)["images"] for row in whole] == [json.loads(row)["images"] for row in pieced], name


def test_a_signal_that_comes_while_a_picture_is_drawn_loses_no_step(tiny, pack, encoders, monkeypatch):
    stop = StopAfter(10**9)
    draw = EditorTask.draw
    monkeypatch.setattr(EditorTask, "draw", lambda task, path: (draw(task, path), setattr(stop, "signal", "SIGTERM")))
    output = dataclasses.replace(tiny.output, sample_images=4, checkpoint_images=24)
    assert run_gan(dataclasses.replace(tiny, output=output), pack, encoders, stop) == "stopped"
    stopped = json.loads((Path(tiny.run) / "run.json").read_text())
    assert latest(Path(tiny.run))["images"] == stopped["images"] == 4


def test_resuming_with_other_pixels_is_said(tiny, pack, encoders):
    run_gan(tiny, pack, encoders, StopAfter(1))
    log = Path(tiny.run) / "log.txt"
    run_gan(dataclasses.replace(tiny, runtime=RuntimeConfig(loader="pillow")), pack, encoders, StopAfter(1))
    assert "not to the same bits" not in log.read_text()  # its pixels are the tiles'
    run_gan(dataclasses.replace(tiny, runtime=RuntimeConfig(loader="dali")), pack, encoders, StopAfter(0))
    assert "pixels tiles then, dali now: the run goes on, but not to the same bits" in log.read_text()


def test_damsm_resumes_exactly(tiny_damsm, pack, tmp_path):
    def go(config, stop):
        made = bundle.build_encoders(config.encoder, 64, pack.vocabulary, config.seed)
        run = RunFolder(config.run, config, 3)
        task = stop.watch(EncoderTask(config, pack, made, decide(config.runtime)))
        result = train(task, run, 16, config.output, stop)
        run.close()
        return result

    assert go(tiny_damsm, StopAfter(10**9)) == "done"
    pieces = dataclasses.replace(tiny_damsm, run=str(tmp_path / "pieces"))
    assert [go(pieces, StopAfter(2)), go(pieces, StopAfter(10**9))] == ["stopped", "done"]
    assert_equal_states(latest(tmp_path / "encoders")["task"], latest(tmp_path / "pieces")["task"])


def test_stats_continue_without_gap_or_repeat(tiny, pack, encoders):
    run_gan(tiny, pack, encoders, StopAfter(3))
    path = Path(tiny.run) / "stats.jsonl"
    with open(path, "a") as file:
        file.write('{"images": 24, "d": 1.0}\n{"images": 28, "d"')  # a crash after the checkpoint, mid-line
    run_gan(tiny, pack, encoders)
    images = [json.loads(line)["images"] for line in path.read_text().splitlines()]
    assert images == sorted(set(images)) and images[-1] == 24


def test_a_step_changes_what_it_should_and_nothing_else(tiny, pack, encoders):
    task = EditorTask(tiny, pack, encoders, decide(tiny.runtime))
    step = task.train_step
    networks = {
        "generator": step.generator,
        "discriminator": step.discriminator,
        "ema": step.ema,
        "text": encoders.text,
        "photo": step.photo,
    }
    before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in networks.items()}
    task.step(0)
    task.step(1)
    for name in ("generator", "discriminator", "ema"):
        for key, value in networks[name].state_dict().items():
            assert not torch.equal(value, before[name][key]), f"{name}.{key} did not change"
    for name in ("text", "photo"):
        for key, value in networks[name].state_dict().items():
            assert torch.equal(value, before[name][key]), f"frozen {name}.{key} changed"
        assert all(p.grad is None for p in networks[name].parameters())


def test_damsm_step_changes_every_trained_parameter(tiny_damsm, pack):
    made = bundle.build_encoders(tiny_damsm.encoder, 64, pack.vocabulary, 0)
    task = EncoderTask(tiny_damsm, pack, made, decide(tiny_damsm.runtime))
    named = {
        **{f"text.{k}": p for k, p in task.text.named_parameters()},
        **{f"photo.{k}": p for k, p in task.photo.named_parameters()},
    }
    before = {k: p.detach().clone() for k, p in named.items()}
    for step in range(3):
        task.step(step)
    unmoved = [k for k, p in named.items() if torch.equal(p, before[k])]
    assert unmoved == []


def test_ema_follows_its_definition(tiny, pack, encoders):
    config = dataclasses.replace(tiny, optim=dataclasses.replace(tiny.optim, ema_half_life=100, ema_rampup=0.0))
    task = EditorTask(config, pack, encoders, decide(config.runtime))
    start = {k: p.detach().clone() for k, p in task.train_step.ema.named_parameters()}
    task.step(0)
    decay = 0.5 ** (4 / 100)
    for key, parameter in task.train_step.generator.named_parameters():
        expected = decay * start[key] + (1 - decay) * parameter
        torch.testing.assert_close(dict(task.train_step.ema.named_parameters())[key], expected, rtol=1e-5, atol=1e-7)


def test_mismatched_text_frees_the_edit_from_its_own_photo(tiny, pack, encoders):
    """Rows with another photo's text weigh only the keep-mask in the perceptual loss; rows with their own all of it."""
    task = EditorTask(tiny, pack, encoders, decide(tiny.runtime))
    batch = task.loader(0)
    objective = task.train_step.objective
    weights = objective.resembles(batch, objective.generate(batch), batch.keep)
    assert batch.mismatched.any() and not batch.mismatched.all()
    for row, mismatched in enumerate(batch.mismatched.tolist()):
        assert torch.equal(weights[row], batch.keep[row] if mismatched else torch.ones_like(batch.keep[row]))


_SHAPE_DEPENDS_ON_DATA = (
    torch.ops.aten.nonzero.default,
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.masked_select.default,
)


class _NoWaits(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function not in _SHAPE_DEPENDS_ON_DATA, f"the step reads a value on the host: {function}"
        return function(*args, **(kwargs or {}))


def test_no_host_reads_in_the_sources_of_the_hot_path():
    """The hot path reads nothing on the host: no .item(), .cpu(), .tolist() or .numpy() in what a step runs."""
    root = Path(bundle.__file__).parents[1]
    names = ["step", "guard", "signs", "objective", "engine", "caption_embeddings", "loaders/batch", "loaders/resident"]
    hot = [
        *(root / "training" / f"{name}.py" for name in names),
        *(root / "losses").rglob("*.py"),
        *(path for path in (root / "models").rglob("*.py") if path.stem not in ("bundle", "network_file", "weights")),
        *(path for path in (root / "methods").rglob("*.py") if path.stem != "mask_providers"),
    ]
    for path in hot:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Attribute) and node.attr in ("item", "cpu", "tolist", "numpy")), (
                f"{path.name}:{node.lineno}"
            )


def test_no_host_reads_in_the_step(tiny, pack, encoders):
    task = EditorTask(tiny, pack, encoders, decide(tiny.runtime))
    batch = task.loader(0)
    with _NoWaits():
        task.train_step(batch, 0)


def test_the_step_draws_no_random_numbers(tiny, pack, encoders):
    task = EditorTask(tiny, pack, encoders, decide(tiny.runtime))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    task.step(0)
    assert torch.equal(before, torch.get_rng_state())


def test_divergence_stops_with_a_remedy(tiny, pack, encoders):
    config = dataclasses.replace(tiny, optim=dataclasses.replace(tiny.optim, lr_g=1e30))
    with pytest.raises(FloatingPointError, match="lower learning rates"):
        run_gan(config, pack, encoders)


@pytest.mark.parametrize("rate", [1e30, 1e39])  # weights that make the next step overflow, weights that are infinite
def test_no_checkpoint_holds_what_is_not_finite(rate, tiny, pack, encoders):
    """Also when checkpoints come more often than ticks."""
    output = dataclasses.replace(tiny.output, tick_images=1000, checkpoint_images=4)
    config = dataclasses.replace(tiny, output=output, optim=dataclasses.replace(tiny.optim, lr_g=rate))
    with pytest.raises(FloatingPointError):
        run_gan(config, pack, encoders)
    saved = Checkpoints(Path(config.run) / "checkpoints", 3, print).load_latest()
    assert saved is None or saved["images"] <= 4 and rate < 1e39
    assert saved is None or all(torch.isfinite(v).all() for v in flat(saved["task"]).values())


def test_learning_rates_may_be_lowered_in_a_run(tiny, pack, encoders):
    run_gan(tiny, pack, encoders, StopAfter(3))
    lower = dataclasses.replace(tiny, optim=dataclasses.replace(tiny.optim, lr_g=1e-5))
    task = EditorTask(lower, pack, encoders, decide(lower.runtime))
    task.load_state_dict(latest(Path(tiny.run))["task"])
    assert [group["lr"] for group in task.train_step.adam_g.param_groups] == [1e-5]
    assert run_gan(lower, pack, encoders) == "done"


def test_settings_may_change_until_there_is_something_to_resume(tiny):
    RunFolder(tiny.run, tiny, 3).close()
    RunFolder(tiny.run, dataclasses.replace(tiny, batch=6), 3).close()


def test_other_data_or_encoders_are_not_mixed_into_a_run(tiny, pack, encoders):
    run_gan(tiny, pack, encoders, StopAfter(3))
    other = bundle.build_encoders(tiny.encoder, 64, pack.vocabulary, seed=2)
    with pytest.raises(ValueError, match="another pair of encoders"):
        run_gan(tiny, pack, other)
    repacked = dataclasses.replace(pack, header={**pack.header, "pixels_hash": "other"})
    with pytest.raises(ValueError, match="another pack"):
        run_gan(tiny, repacked, encoders)


def test_a_lost_export_comes_back(tiny, pack, encoders):
    run_gan(tiny, pack, encoders)
    os.remove(os.path.join(tiny.run, bundle.GENERATOR))
    assert run_gan(tiny, pack, encoders) == "done" and os.path.exists(os.path.join(tiny.run, bundle.GENERATOR))


def test_without_a_keep_mask_the_packs_masks_play_no_part(tiny, pack, encoders):
    config = dataclasses.replace(
        tiny,
        model=dataclasses.replace(tiny.model, keep_input=False),
        method=dataclasses.replace(tiny.method, keep_mask="none"),
    )
    task = EditorTask(config, pack, encoders, decide(config.runtime))
    assert pack.masks is not None and task.loader(0).keep is None


def test_resuming_with_other_settings_names_them(tiny, pack, encoders):
    run_gan(tiny, pack, encoders, StopAfter(2))
    with pytest.raises(ValueError, match=r"batch: 4 in the run, 6 now"):
        run_gan(dataclasses.replace(tiny, batch=6), pack, encoders)
    assert run_gan(dataclasses.replace(tiny, images=28), pack, encoders) == "done"


def test_two_processes_cannot_share_a_run(tiny):
    first = RunFolder(tiny.run, tiny, 3)
    with pytest.raises(ValueError, match="Another process"):
        RunFolder(tiny.run, tiny, 3)
    first.close()


def test_a_strangers_folder_is_refused(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="not a tmgan run"):
        RunFolder(tiny.run, tiny, 3)


def test_mismatched_encoders_and_packs_are_refused(tiny, pack, encoders):
    from tmgan.data.vocabulary import Vocabulary

    other = dataclasses.replace(encoders, vocabulary=Vocabulary(("<end>", "cat")))
    with pytest.raises(ValueError, match="or train other encoders, on this pack"):
        check_fits(tiny, pack, other)
    with pytest.raises(ValueError, match="no masks"):
        check_fits(tiny, dataclasses.replace(pack, masks=None), encoders)
    with pytest.raises(ValueError, match="tmgan damsm"):
        train_editor(dataclasses.replace(tiny, encoder=dataclasses.replace(tiny.encoder, kind="inception")))
    with pytest.raises(ValueError, match="tmgan weights get inception"):
        train_encoders(dataclasses.replace(DamsmConfig(), data=tiny.data, run=tiny.run, weights_dir="nowhere"))


def test_sigterm_saves_and_the_same_command_resumes(tiny, tmp_path):
    """The real command, a real signal: it finishes the step, saves, exits 143, and goes on where it stopped."""
    config = tmp_path / "long.yaml"
    config.write_text(yaml.safe_dump({**configfile.to_dict(tiny), "images": 10**6, "preset": "quickstart"}))
    command = [sys.executable, "-m", "tmgan", "train", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    status = tmp_path / "run" / "run.json"
    began = next(line for line in process.stdout if "g_adv" in line)  # the editor trains, and would for hours
    process.send_signal(signal.SIGTERM)
    output = began + process.communicate()[0]
    assert process.returncode == 143, output
    stopped = json.loads(status.read_text())
    assert stopped["status"] == "stopped" and 0 < stopped["images"] < 10**6, output
    again = subprocess.run(
        [*command, "--images", str(stopped["images"] + 8)], capture_output=True, text=True, env=environment
    )
    assert again.returncode == 0, again.stderr
    assert f"at {stopped['images']:,} of" in again.stdout
    assert json.loads(status.read_text())["status"] == "done"


def test_what_would_change_nothing_in_a_complete_run_is_refused(tiny, pack, encoders):
    """Its config.yaml says what it was trained with."""
    tiny = dataclasses.replace(tiny, images=8, batch=4)
    run_gan(tiny, pack, encoders, StopAfter(10**9))
    before = (Path(tiny.run) / "config.yaml").read_bytes()
    faster = dataclasses.replace(tiny, optim=dataclasses.replace(tiny.optim, lr_g=0.1))
    with pytest.raises(ValueError, match="it has seen 8 images, and optim.lr_g would change nothing"):
        RunFolder(tiny.run, faster, 3)
    with pytest.raises(ValueError, match="it has seen 8 images, and 4 are wanted"):
        RunFolder(tiny.run, dataclasses.replace(tiny, images=4), 3)
    assert (Path(tiny.run) / "config.yaml").read_bytes() == before
    RunFolder(tiny.run, tiny, 3).close()
    RunFolder(tiny.run, dataclasses.replace(faster, images=12), 3).close()


def test_the_last_batch_may_go_past_the_end_but_not_its_status_line(tiny, pack, encoders):
    run_gan(dataclasses.replace(tiny, images=10, batch=4), pack, encoders, StopAfter(10**9))
    line = next(line for line in (Path(tiny.run) / "log.txt").read_text().splitlines() if " 12 images " in line)
    assert "100.0%" in line and "left     0s" in line


def test_a_checkpoint_without_the_networks_is_refused(tiny, pack, encoders):
    run_gan(tiny, pack, encoders, StopAfter(2))
    path = Checkpoints(Path(tiny.run) / "checkpoints", 3, print).paths()[0]
    state = torch.load(path)
    state["task"]["generator"] = {}
    torch.save(state, path)
    with pytest.raises(ValueError, match="does not hold the networks of this run"):
        run_gan(tiny, pack, encoders)
