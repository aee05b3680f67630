"""Progress is seen where a person sits, and nowhere else."""

from __future__ import annotations

import pytest

from tmgan.cli import COMMANDS, main
from tmgan.common.progress import Progress, quiet, say


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal
    monkeypatch.delenv("NO_COLOR", raising=False)


def _count() -> None:
    show = Progress()
    with show.bar("photos", 4, start=1):
        show.advance()
        show.advance(2)


def test_a_bar_on_a_terminal(terminal, capsys):
    _count()
    err = capsys.readouterr().err
    assert "4/4" in err and "photos" in err


def test_what_is_printed_below_a_bar_reaches_its_file(terminal, capsys):
    with Progress().bar("photos", 1):
        print("a path")
    assert capsys.readouterr().out == "a path\n"


def test_none_in_a_file(capsys):
    _count()
    assert capsys.readouterr() == ("", "")


def test_quiet_hides_bars_remarks_and_status_lines(terminal, capsys):
    show = Progress()
    with quiet():
        _count()
        inside = Progress()
        inside.say("a remark")
        say("a status line")
        assert inside.notes == ["a remark"], "kept all the same"
    assert capsys.readouterr() == ("", "")
    with quiet():
        say("NOTE: the weights are random numbers")
    assert capsys.readouterr() == ("", "NOTE: the weights are random numbers\n")
    show.say("another")
    say("a status line")
    assert capsys.readouterr() == ("a status line\n", "another\n")


def test_every_command_takes_quiet(tmp_path, capsys, monkeypatch):
    """Wherever it stands. Results, notes and errors are still printed."""
    monkeypatch.chdir(tmp_path)
    for words in ("--quiet data synth birds --count 20 --image-size 64", "data prepare birds pack --quiet --workers 1"):
        main(words.split())
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit):
        main("data synth birds --count 0 --quiet".split())
    assert "count" in capsys.readouterr().err
    main("--quiet data doctor pack".split())
    assert "ok" in capsys.readouterr().out
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([*name.split(), "--quiet", "--help"])
        assert stop.value.code == 0
