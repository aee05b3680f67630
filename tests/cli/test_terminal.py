"""What captions and names of files hold does not steer the terminal."""

from __future__ import annotations

import pytest

import tmgan.training.replay
from tests.data.data_folders import write_image_folder
from tmgan.cli import main
from tmgan.common.errors import sentence
from tmgan.common.text import printable, shown
from tmgan.training.replay import Replay
from tmgan.training.tensor_stats import Row

STEERS = "\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e"


def test_escapes_become_text():
    assert printable(f"a\tb\n{STEERS}é\u4e00") == (
        "a\tb\n\\x1b[2J\\x1b]0;title\\x07\\x9b31m\\x0d\\u202eé\u4e00"
    )  # what is written, other scripts too, stays


def test_errors_and_findings_show_them(tmp_path, capsys):
    source = write_image_folder(tmp_path / "set", [{"file_name": f"{STEERS}.png", "text": "bird"}], images=False)
    with pytest.raises(SystemExit):
        main(["data", "doctor", str(source)])
    with pytest.raises(SystemExit):
        main(["data", "prepare", str(source), str(tmp_path / f"pack{STEERS}"), "--workers", "1"])
    said = "".join(capsys.readouterr())
    assert "\\x1b[2J" in said and "\x1b" not in said and "\u202e" not in said
    assert "\x1b" not in sentence(OSError(2, "No such file", f"{STEERS}.jpg"))


def test_a_replay_shows_them(tmp_path, capsys, monkeypatch):
    """The names of numbers come from flight.json of a run that may be a stranger's."""
    row = Row(
        *(0, "generator", "operation", "", "conv", "aten::conv2d", "a.py:1 in f", 0, (1,), "float32"),
        *(-1.0, 1.0, 0.0, 0.5, 0, 0, 0, (), False),
    )
    found = Replay(tmp_path, 3, 2, {"loss": 1.0}, {f"{STEERS}loss": 1.0}, (row,), (f"note {STEERS}",))
    monkeypatch.setattr(tmgan.training.replay, "replay", lambda *arguments: found)
    main(["replay", str(tmp_path), "--out", str(tmp_path / f"out{STEERS}")])
    said = capsys.readouterr().out
    assert said.count("\\x1b[2J") == 3 and "\x1b" not in said and "\u202e" not in said


def test_values_are_shown_by_their_beginning():
    value: list = []
    for _ in range(200):
        value = [value, value]
    assert len(shown(value)) <= 60 and len(shown("x" * 10**6)) <= 60 and shown(10**5000) == "a int"
    assert shown([1, "a"]) == "[1, 'a']" and shown({"a": 1}) == "{'a': 1}"
