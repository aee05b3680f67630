"""A save is of its boundary, bit for bit, though the training goes on; it is said when it is on the disk, or failed."""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.test_interrupted import recorded
from tests.training.test_train import assert_equal_states, flat, latest, run_gan
from tmgan.config.runtime import decide
from tmgan.models import bundle
from tmgan.training.checkpoint import Checkpoints
from tmgan.training.editor_task import EditorTask
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.jobs import train_editor
from tmgan.training.run_folder import RunFolder
from tmgan.training.saving import Saver
from tmgan.training.snapshot import Snapshot


@pytest.fixture
def editor_task(tiny, pack, encoders):
    return EditorTask(tiny, pack, encoders, decide(tiny.runtime))


@pytest.fixture
def encoder_task(tiny_damsm, pack):
    made = bundle.build_encoders(tiny_damsm.encoder, 64, pack.vocabulary, 0)
    return EncoderTask(tiny_damsm, pack, made, decide(tiny_damsm.runtime))


@pytest.fixture
def run(tiny):
    folder = RunFolder(tiny.run, tiny, 3)
    yield folder
    folder.close()


def let_updates_overtake(monkeypatch):
    """Each copy begins when a step is about to change the weights, and gives it time to do so, if it does not wait."""
    about_to, changed = threading.Event(), threading.Event()
    copies, waits, updates = Snapshot.copy, Snapshot.wait, torch.optim.Adam.step

    def copy(snapshot):
        about_to.wait()
        changed.wait(0.3)
        copies(snapshot)

    def wait(snapshot):
        about_to.set()
        waits(snapshot)

    def update(adam):
        updates(adam)
        about_to.set()
        changed.set()

    monkeypatch.setattr(Snapshot, "copy", copy)
    monkeypatch.setattr(Snapshot, "wait", wait)
    monkeypatch.setattr(torch.optim.Adam, "step", update)


def state_of(task, step=1):
    return {"step": step, "task": task.state_dict(), "identity": {}, "numerics": {}, "owed": []}


@pytest.mark.parametrize("name", ["editor_task", "encoder_task"])
def test_a_save_is_of_its_boundary_though_the_steps_go_on(name, run, monkeypatch, request):
    task = request.getfixturevalue(name)
    task.step(0)
    expected = copy.deepcopy(task.state_dict())
    let_updates_overtake(monkeypatch)
    written, trained = Checkpoints.save, threading.Event()
    monkeypatch.setattr(Checkpoints, "save", lambda *arguments: (trained.wait(), written(*arguments)))
    with Saver(task, run) as saver:
        saver.save(task.batch, state_of(task), None)
        task.step(1)
        task.step(2)
        trained.set()
    after = flat(task.state_dict())
    assert task.train_step.buffers() and not any(
        torch.equal(tensor, after[name]) for name, tensor in flat(expected).items() if "running_mean" in name
    )
    assert_equal_states(latest(run.path)["task"], expected)
    assert recorded(run.path)["images"] == task.batch
    if name == "editor_task":
        exported = load_file(run.path / bundle.GENERATOR)
        assert_equal_states(exported, {name: tensor.contiguous() for name, tensor in expected["ema"].items()})
    else:
        exported = load_file(run.path / bundle.ENCODERS)
        assert torch.equal(exported["text.embedding.weight"], expected["text"]["embedding.weight"])


def test_a_graph_waits_before_it_is_replayed(editor_task):
    step, calls = editor_task.train_step, []
    step.before_update = lambda: calls.append("waits")
    step._graphed = lambda batch: calls.append("runs")
    step(editor_task.loader(0), 0)
    assert calls == ["waits", "runs"]


def test_nothing_is_said_before_it_is_on_the_disk(editor_task, run, monkeypatch):
    written, go = Checkpoints.save, threading.Event()
    monkeypatch.setattr(Checkpoints, "save", lambda *arguments: (go.wait(), written(*arguments)))
    run.status("running", 0)
    editor_task.step(0)
    with Saver(editor_task, run) as saver:
        saver.save(4, state_of(editor_task), None)
        editor_task.step(1)
        saver.check()
        assert recorded(run.path)["images"] == 0
        go.set()
    assert recorded(run.path)["images"] == 4 and latest(run.path)["images"] == 4


def test_one_save_waits_for_the_other_and_uses_its_memory(editor_task, run):
    editor_task.step(0)
    with Saver(editor_task, run) as saver:
        saver.save(4, state_of(editor_task), None)
        memory = saver._snapshot._memory
        before = [tensor.data_ptr() for tensor in memory]
        editor_task.step(1)
        saver.save(8, state_of(editor_task, 2), None)
        assert recorded(run.path)["images"] == 4 and [tensor.data_ptr() for tensor in memory] == before
        expected = copy.deepcopy(editor_task.state_dict())
    assert_equal_states(latest(run.path)["task"], expected)
    names = [path.name for path in run.checkpoints.paths()]
    assert names == ["images-000000000008.pt", "images-000000000004.pt"]


def test_a_state_of_another_shape_is_given_other_memory():
    snapshot = Snapshot(torch.device("cpu"))
    for tensor in (torch.arange(4.0), torch.arange(6), torch.arange(6).view(2, 3).T):
        host = snapshot.begin({"a": [tensor, {"b": 1}], "c": "d"}, [])
        snapshot.copy()
        snapshot.wait()
        assert torch.equal(host["a"][0], tensor) and host["a"][0].stride() == tensor.stride()
        assert host["a"][1] == {"b": 1} and host["c"] == "d"


def test_what_two_networks_share_is_copied_once():
    snapshot, shared = Snapshot(torch.device("cpu")), torch.arange(6.0)
    host = snapshot.begin([shared, shared.detach(), shared[:3]], [shared])
    snapshot.copy()
    assert host[0] is host[1] and torch.equal(host[0], shared) and torch.equal(host[2], shared[:3])


def test_on_a_gpu_the_streams_wait_for_each_other_and_the_host_for_none(monkeypatch):
    """The order of the calls, which is all that can be seen without one."""
    calls = []

    class Stream:
        def __init__(self, name="side"):
            self.name = name

        def wait_event(self, event):
            calls.append(f"{self.name} waits for {event.name}")

    class Event:
        names = iter(["boundary", "copy"])

        def __init__(self):
            self.name = next(self.names)

        def record(self, stream):
            calls.append(f"{self.name} is recorded on {stream.name}")

        def synchronize(self):
            calls.append(f"{threading.current_thread().name} waits for {self.name}")

    training = Stream("training")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: training)
    monkeypatch.setattr(Snapshot, "_like", lambda _, tensor: torch.empty_like(tensor))
    snapshot = Snapshot(torch.device("cuda"))
    host = snapshot.begin([torch.arange(3.0)], [])
    writer = threading.Thread(target=snapshot.copy, name="the writer")
    writer.start()
    writer.join()
    snapshot.wait()
    snapshot.wait()
    assert torch.equal(host[0], torch.arange(3.0)) and calls == [
        "boundary is recorded on training",
        "side waits for boundary",
        "copy is recorded on side",
        "the writer waits for copy",
        "training waits for copy",
    ]


def test_a_full_disk_stops_the_training_and_is_said(tiny, encoders, monkeypatch, tmp_path):
    """The run says what it has saved, not what it has trained."""

    def full(state, file):
        if state["images"] == 16:
            raise OSError(errno.ENOSPC, "No space left on device")
        before(state, file)

    before = torch.save
    (tmp_path / "encoders").mkdir()
    bundle.save_encoders(encoders, tmp_path / "encoders")
    tiny = dataclasses.replace(tiny, encoders=str(tmp_path / "encoders"))
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="are needed") as error:
        train_editor(tiny, evaluated=False)
    assert error.value.filename.endswith("images-000000000016.pt")
    record = recorded(tiny.run)
    assert (record["status"], record["images"]) == ("failed", 8) and "the disk is full" in record["reason"]
    monkeypatch.undo()
    train_editor(tiny, evaluated=False)
    assert recorded(tiny.run)["status"] == "done"
    rows = [json.loads(row)["images"] for row in (Path(tiny.run) / "metrics.jsonl").read_text().splitlines()]
    assert rows == [8, 16, 24]


def test_an_error_of_a_save_stops_the_training_at_the_next_boundary(tiny, pack, encoders, monkeypatch):
    def save(saver, *arguments):
        saves.append(saver)
        begin(saver, *arguments)

    def step(task, number):
        steps.append(number)
        if saves:
            assert isinstance(saves[0]._save.exception(), OSError)  # it has failed by now
        return train_one(task, number)

    saves, steps, begin, train_one = [], [], Saver.save, EditorTask.step
    monkeypatch.setattr(Saver, "save", save)
    monkeypatch.setattr(EditorTask, "step", step)
    monkeypatch.setattr(Checkpoints, "save", lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
    with pytest.raises(OSError, match="unplugged"):
        run_gan(tiny, pack, encoders)
    assert steps == [0, 1, 2] and len(saves) == 1


def test_a_copy_that_fails_keeps_nobody_waiting(editor_task, run, monkeypatch):
    class Unreadable:
        def copy_(self, *_, **__):
            raise MemoryError("no room")

    begin = Snapshot.begin

    def broken(snapshot, *arguments):
        host = begin(snapshot, *arguments)
        snapshot._later.append((Unreadable(), None))
        return host

    monkeypatch.setattr(Snapshot, "begin", broken)
    editor_task.step(0)
    with pytest.raises(MemoryError, match="no room"), Saver(editor_task, run) as saver:
        saver.save(4, state_of(editor_task), None)
        editor_task.step(1)
    assert not run.checkpoints.paths()


def test_an_error_of_the_training_is_not_hidden_by_one_of_a_save(editor_task, run, monkeypatch):
    monkeypatch.setattr(Checkpoints, "save", lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
    editor_task.step(0)
    with pytest.raises(ZeroDivisionError) as error, Saver(editor_task, run) as saver:
        saver.save(4, state_of(editor_task), None)
        raise ZeroDivisionError
    assert error.value.__notes__ == ["The last save had failed too: unplugged"]
