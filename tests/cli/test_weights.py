"""`tmgan weights`: the list, what `get` prints and exits with, and the page about both."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loopback import nobody, sends, serve
from tmgan.cli import main
from tmgan.cli.weights import users
from tmgan.common import files
from tmgan.common.progress import Progress
from tmgan.common.text import file_size
from tmgan.models import weights

PAGE = Path(__file__).parents[2] / "docs/weights.md"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """An empty folder, where all weights are looked for; none come with packages."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TMGAN_WEIGHTS", str(tmp_path / "my own"))
    known = dataclasses.replace(weights.KNOWN["efficientnet"], package="no_such_package")
    monkeypatch.setitem(weights.KNOWN, "efficientnet", known)
    return tmp_path / "my own"


@pytest.fixture
def server(mine, monkeypatch):
    """Has a small file under the name of each one that is downloaded."""
    with serve(monkeypatch) as server:
        bytes_of = {}
        for key, file in weights.KNOWN.items():
            if file.extra:
                continue
            data = key.encode() * 10
            digest = hashlib.sha256(data).hexdigest()
            bytes_of[f"/{key}"] = data
            changes = {"url": f"{server.url}/{key}", "sha256": digest, "size": len(data)}
            monkeypatch.setitem(weights.KNOWN, key, dataclasses.replace(file, **changes))
        server.answer = lambda handler: sends(bytes_of[handler.path])(handler)
        server.bytes_of = bytes_of
        yield server


def run(capsys, *words: object) -> tuple[str, str]:
    main(["weights", *map(str, words)])
    return capsys.readouterr()


def fails(capsys, *words: object) -> tuple[str, str, int]:
    with pytest.raises(SystemExit) as stop:
        main(["weights", *map(str, words)])
    return (*capsys.readouterr(), stop.value.code)


def entry(listing: str, name: str) -> list[str]:
    """The lines of one entry of a list."""
    return re.search(rf"^  {re.escape(name)} .*\n(?:    .*\n)*", listing, re.MULTILINE)[0].splitlines()


# ------------------------------------------------------------------ the list


def test_what_needs_it_what_is_missing_and_how_to_get_it(mine, capsys):
    out, _ = run(capsys)
    file = weights.KNOWN["inception"]
    lines = entry(out, "inception")
    assert lines[-4:] == [
        "    missing",
        "    -> tmgan weights get inception",
        f"    or save {file.url}",
        f"    as {mine / file.name}",
    ]
    needed = " ".join(" ".join(lines[:-4]).split())
    assert needed.startswith("inception 109 MB --encoder.kind inception (presets combined, ")
    assert ", lightweight, lightweight-coco, manigan, " in needed and needed.endswith("); metric inception_score")
    assert "`data masks --provider fcn` (presets combined, fcn" in entry(out, "fcn")[0]
    assert entry(out, "fcn")[-1] == "    of its sha256 the first 8 digits are known and checked"
    assert entry(out, "efficientnet")[2] == "    -> pip install 'tmgan[pretrained]'"
    assert entry(out, "clip")[1:3] == ["    read from the folder that --clip names", "    -> pip install 'tmgan[clip]'"]
    for name in (*weights.KNOWN, *weights.MODEL_FOLDERS):
        assert entry(out, name), name


def test_it_fits_a_narrow_terminal(mine, capsys):
    wide = [line for line in run(capsys)[0].splitlines() if len(line) > 80]
    assert all("://" in line or str(mine.parent) in line for line in wide), "but for what must not be broken"


def test_what_is_found_is_shown_with_its_path(mine, server, capsys, tmp_path):
    other = tmp_path / "other"
    for folder, name, data in ((mine, "vgg16", server.bytes_of["/vgg16"]), (other, "fcn", b"half")):
        folder.mkdir()
        (folder / weights.KNOWN[name].name).write_bytes(data)
    out, _ = run(capsys, "--weights-dir", other)
    assert entry(out, "vgg16")[-1] == f"    {mine / weights.KNOWN['vgg16'].name}"
    wrong = other / weights.KNOWN["fcn"].name
    text = "\n".join(entry(out, "fcn"))
    assert (
        f"    {wrong} has 4 bytes, not 30: it is not the published file\n    -> tmgan weights get fcn --weights" in text
    )
    for name in weights.MODEL_FOLDERS["clipseg"].files:
        (other / name).write_text("")
    assert entry(run(capsys, "--weights-dir", other)[0], "clipseg")[-1] == f"    {other}"


# ------------------------------------------------------------------ get


def test_get_prints_the_paths_and_the_list_then_has_them(mine, server, capsys):
    out, err = run(capsys, "get", "vgg16", "alexnet")
    assert out.splitlines() == [str(mine / weights.KNOWN[name].name) for name in ("vgg16", "alexnet")]
    assert f"vgg16: 0 kB from {server.url}/vgg16" in err.splitlines()
    assert "encoder.kind inception also needs inception: tmgan weights get inception" in err.splitlines()
    assert "metric lpips also needs lpips: tmgan weights get lpips" in err.splitlines()
    assert "missing" not in "".join(entry(run(capsys)[0], "vgg16"))
    assert "vgg16 is here already, and its sha256 is right." in run(capsys, "get", "vgg16")[1]
    assert server.asked == ["/vgg16", "/alexnet"]


def test_get_all(mine, server, capsys, tmp_path):
    out, err = run(capsys, "get", "all", "--weights-dir", tmp_path / "usb")
    names = {file.name for file in weights.KNOWN.values() if not file.extra}
    assert {path.name for path in (tmp_path / "usb").iterdir()} == names and len(out.splitlines()) == len(names)
    assert "efficientnet comes with pip install 'tmgan[pretrained]', and is not downloaded." in err
    assert "also needs" not in err


def test_quiet_leaves_the_paths(mine, server, capsys):
    main(["weights", "get", "lpips", "--quiet"])
    assert capsys.readouterr() == (f"{mine / weights.KNOWN['lpips'].name}\n", "")


def test_what_cannot_be_had_keeps_nothing_else_back(mine, server, capsys):
    del server.bytes_of["/fcn"]
    answer = server.answer
    server.answer = lambda handler: handler.send_error(404) if handler.path == "/fcn" else answer(handler)
    out, err, status = fails(capsys, "get", "fcn", "lpips")
    assert status == 2 and out.splitlines() == [str(mine / weights.KNOWN["lpips"].name)]
    assert err.splitlines()[-3:] == [
        f"tmgan weights: {server.url}/fcn cannot be downloaded: its server says 404 Not Found.",
        "Or download it elsewhere, and save it here as",
        f"  {mine / weights.KNOWN['fcn'].name}",
    ]
    assert [path.name for path in mine.iterdir()] == [weights.KNOWN["lpips"].name]


def test_offline(mine, server, capsys, monkeypatch):
    with nobody() as url:
        for name in ("fcn", "lpips"):
            monkeypatch.setitem(weights.KNOWN, name, dataclasses.replace(weights.KNOWN[name], url=f"{url}/{name}"))
        _, err, status = fails(capsys, "get", "fcn", "lpips")
    assert status == 2 and not mine.exists()
    for name in ("fcn", "lpips"):
        assert f"{url}/{name} cannot be reached (Connection refused)." in err
        assert f"save it here as\n  {mine / weights.KNOWN[name].name}\n" in err


def test_a_wrong_name_is_noticed_before_anything_is_downloaded(mine, server, capsys):
    _, err, status = fails(capsys, "get", "fcn", "vg16")
    assert status == 2 and "Did you mean vgg16?" in err and server.asked == []


@pytest.mark.parametrize(
    "words, said",
    [
        (["get"], "Which weights? Write their names after get, as they are in the list, or all."),
        (["vgg16"], "'vgg16' is no get. Did you mean\n  tmgan weights get vgg16"),
        (["gte", "vgg16", "fcn"], "'gte' is no get. Did you mean\n  tmgan weights get vgg16 fcn"),
        (["get", "all", "vgg16"], "There are no weights 'all'."),
    ],
)
def test_what_is_no_command(mine, capsys, words, said):
    _, err, status = fails(capsys, *words)
    assert status == 2 and err.startswith(f"tmgan weights: {said}")


def test_a_full_disk_ends_it_at_once(mine, server, capsys, monkeypatch):
    def write(file, data):
        file.error = OSError(errno.ENOSPC, "No space left on device")
        raise file.error

    monkeypatch.setattr(files._File, "write", write)
    _, err, status = fails(capsys, "get", "vgg16", "fcn")
    assert status == 2 and server.asked == ["/vgg16"] and not mine.exists()
    assert f"{mine / weights.KNOWN['vgg16'].name} cannot be written: the disk is full (No space" in err


def test_ctrl_c(mine, server, capsys, monkeypatch):
    def stop(show, count=1):
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "advance", stop)
    _, err, status = fails(capsys, "get", "vgg16")
    assert status == 130 and err.splitlines()[-1] == "tmgan weights: stopped." and not mine.exists()


def test_help_takes_no_torch():
    code = """
import sys
from tmgan.cli import main
try:
    main(["weights", "--help"])
finally:
    assert "torch" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


# ------------------------------------------------------------------ the page


def test_the_table_of_the_page_is_the_codes():
    rows = []
    for name, file in weights.KNOWN.items():
        renamed = "" if file.extra or file.url.endswith(file.name) else f", as `{file.name}`"
        rows.append(f"| `{name}` | {file_size(file.size)} | {'; '.join(users(file.needs))} | {file.url}{renamed} |")
    for name, model in weights.MODEL_FOLDERS.items():
        rows.append(f"| `{name}` | folder | {'; '.join(users(model.needs))} | {model.url} |")
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("| `")] == rows, "\n".join(rows)
