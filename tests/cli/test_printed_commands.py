"""Every command that is printed, in messages, help, README and docs, runs as printed: its flags exist, and paths are
quoted."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from tmgan.cli import COMMANDS, main
from tmgan.common.commands import command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What follows a command's name ends with the line, the code span or the bracket.
NAMES = "|".join(sorted(COMMANDS, key=len, reverse=True))
PRINTED = re.compile(rf"\btmgan ({NAMES})\b([^`\n)]*)")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*[\w]")


@cache
def flags(name: str) -> frozenset[str]:
    """All flags that `tmgan NAME --help` shows."""
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    return frozenset(FLAG.findall(text.getvalue()))


def strings(path: Path) -> list[str]:
    """All texts of a module, f-strings with X for what is filled in; then the words of each call of command()."""
    tree, found = ast.parse(path.read_text()), []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "command":
            words = (str(a.value) if isinstance(a, ast.Constant) else "X" for a in node.args)
            found.append("tmgan " + " ".join(words))
    return found


def printed() -> list[tuple[str, str, str]]:
    """(where, command, what follows it) of every command in the modules and pages."""
    texts = [(path, text) for path in sorted((ROOT / "tmgan").rglob("*.py")) for text in strings(path)]
    texts += [(path, re.sub(r"\\\n\s*", " ", path.read_text())) for path in PAGES]
    return [
        (path.relative_to(ROOT).as_posix(), match[1], match[2])
        for path, text in texts
        for match in PRINTED.finditer(text)
    ]


def test_every_flag_of_a_printed_command_exists():
    unknown = {
        (where, name, flag)
        for where, name, rest in printed()
        for flag in FLAG.findall(rest)
        if flag not in {*flags(name), "--section.field"}
    }
    assert not unknown
    assert sum("--" in rest for _, _, rest in printed()) > 30, "they are found at all"


def test_no_message_fills_in_a_path_by_hand():
    """A path may hold a space: only command() quotes it. In an f-string, a command must not be followed by a value."""
    by_hand = []
    for path in sorted((ROOT / "tmgan").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                text = "".join(p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                by_hand += [f"{path.name}: {m[0]!r}" for m in PRINTED.finditer(text) if "\0" in m[2]]
    assert not by_hand


def test_paths_are_quoted():
    assert command("edit", "my run", "it's.jpg") == """tmgan edit 'my run' 'it'"'"'s.jpg'"""
    assert shlex.split(command("data", "prepare", Path("a b"), "$HOME/*")) == [
        "tmgan",
        "data",
        "prepare",
        "a b",
        "$HOME/*",
    ]


def test_a_path_that_begins_with_a_dash_is_no_flag():
    assert command("edit", Path("-run"), "--text", "-") == "tmgan edit ./-run --text -"


def test_what_is_printed_on_the_way_runs_as_printed(tmp_path, monkeypatch, capsys):
    """From drawn birds to an edit in a folder with a space, each step as the one before it has said."""
    from PIL import Image

    folder = tmp_path / "my data"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*words: str) -> list[str]:
        """Run a command; the commands that it prints, as words."""
        main(list(words))
        lines = (line.removeprefix("Next: ").strip() for line in capsys.readouterr().out.splitlines())
        return [shlex.split(line)[1:] for line in lines if re.match(rf"tmgan ({NAMES})\b", line)]

    tiny = "--output.tick-images 8 --runtime.threads 1".split()
    small = "--encoder.kind small --encoder.dim 16 --encoder.word-dim 8 --encoder.width 4".split()
    networks = "--model.g-width 4 --model.top-width 4 --model.d-width 4 --model.affine-dim 4".split()
    (prepare,) = run("data", "synth", "the birds", "--count", "24", "--image-size", "64")
    assert prepare[-2:] == ["--image-size", "64"]
    (larger,) = run("data", "synth", "larger", "--count", "1", "--image-size", "300")
    assert larger[-2:] == ["--image-size", "128"]
    (train,) = run(*prepare, "--workers", "1")
    assert train == ["train", "--data", "PACK", "--run", "RUN"]
    pretrain = (*small, "--pretrain.batch", "4", "--pretrain.images", "8")
    run(*train, *networks, *tiny, *pretrain, "--batch", "4", "--images", "8")
    (train,) = run("damsm", "--data", "PACK", "--run", "ENCODERS", *pretrain, *tiny)
    assert train == ["train", "--data", "PACK", "--encoders", "ENCODERS", "--run", "RUN"]
    train[-1] = "another"
    (edit,) = run(*train, *networks, *tiny, "--batch", "4", "--images", "8")
    assert edit[2].startswith("the birds/"), "a photo of this very set"
    run(*edit)
    assert Image.open("edited.png").size == (64, 64)
    with pytest.raises(SystemExit):
        main(["train", "--data", "PACK", "--model.image-size", "128", "--run", "other"])
    message = capsys.readouterr().err
    again = next(shlex.split(line)[1:] for line in message.splitlines() if line.startswith("  tmgan data prepare"))
    run(*again, "--workers", "1")
    assert (folder / "PACK-128-centre" / "pack.json").is_file()
