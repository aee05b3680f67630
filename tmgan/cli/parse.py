"""Command line to dataclass: run of --from < preset < what the data asks for < configuration file < flag.

With --from, or in a run that has begun so, nothing is taken from the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from tmgan.config import configfile
from tmgan.config.settings import TrainConfig

T = TypeVar("T")
# Settings and options that are paths, as str.
_PATHS = ("data", "run", "encoders", "from_", "weights_dir", "clip", "keep")
# The flag of the field from_, as Python keeps its name for itself. Here, because settings are used without tyro too.
TrainConfig.__annotations__["from_"] = Annotated[str, tyro.conf.arg(name="from")]


def parse(kind: Callable[..., T], arguments: list[str], command: str) -> T:
    """Parse the flags of `tmgan COMMAND` into the dataclass `kind`."""
    return at_home(tyro.cli(kind, args=arguments, prog=f"tmgan {command}"))


def at_home(value: Any) -> Any:
    """A value of a command line or a file with `~` replaced in every path in it.

    A shell replaces it only at the beginning of a word, so not in --run=~/x and not in a file of settings.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        new = {
            name: at_home(old) for name in names if not isinstance(old := getattr(value, name), str) or name in _PATHS
        }
        changes = {name: one for name, one in new.items() if one is not getattr(value, name)}
        return dataclasses.replace(value, **changes) if changes else value
    if isinstance(value, tuple):
        new_items = [at_home(item) for item in value]
        same = all(a is b for a, b in zip(new_items, value, strict=True))
        return value if same else tuple(new_items)
    text = str(value) if isinstance(value, (str, Path)) else ""
    return type(value)(os.path.expanduser(text)) if text == "~" or text.startswith("~/") else value


@dataclass(frozen=True, kw_only=True)
class _WithFiles(Generic[T]):
    """The settings of a run, and --config, so that --help lists it; its files have been read by then."""

    config: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """YAML file of settings, such as a run's config.yaml; may be repeated, the last one wins."""
    settings: Annotated[T, tyro.conf.arg(name="")]


def parse_run(kind: Callable[..., T], arguments: list[str], command: str, preset: bool) -> T:
    """Like parse, with --preset (when `preset`) and --config FILE (may be repeated), which the other flags override.

    Without --preset, the preset that a configuration file names is the starting point, else one that fits --data; but
    a run's own config.yaml has all settings that there were when it began, and presets change, so what it lacks is as
    by default. With --from RUN, a preset that is named is laid over the settings of that run.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[])
    if preset:
        parser.add_argument("--preset")
        parser.add_argument("--from", dest="from_", metavar="RUN")
    options, rest = parser.parse_known_args(arguments)
    if preset and options.preset == "help":
        print("Presets: " + ", ".join(configfile.presets()))
        sys.exit(0)
    files = [os.path.expanduser(path) for path in options.config]
    places = _places(arguments, files)
    base: Any = kind()
    notes: dict[str, str] = {}
    if preset:
        presets, sources = ([configfile.named_in(path, name) for path in files] for name in ("preset", "from"))
        name = options.preset or next(filter(None, presets), "")
        source = options.from_ or next(filter(None, reversed(sources)), "") or configfile.source_of(places["run"])
        if any(map(configfile.is_of_a_run, files)) and not (options.preset or options.from_):
            base = dataclasses.replace(base, preset=name or "quickstart")
        elif source and not _wants_help(rest):
            base = configfile.started_from(os.path.expanduser(source), name, places["run"])
        elif not _needed(rest, places):
            base = configfile.from_preset(name or "quickstart")
        else:
            from tmgan.training.follow import editor_settings  # imports torch, which help can do without

            base, notes = editor_settings(name, **places)
    elif _needed(rest, places):
        from tmgan.training.follow import encoder_settings

        base, notes = encoder_settings(places["data"], places["run"], places["kind"])
    taken = base
    for path in files:
        base = configfile.read_yaml(path, base)
    if preset and options.preset:
        base = dataclasses.replace(base, preset=options.preset)
    if preset and options.from_:
        base = dataclasses.replace(base, from_=options.from_)
    chosen = tyro.cli(
        _WithFiles[kind],  # type: ignore[valid-type]  # a type that is only known at run time, for tyro
        args=rest,
        prog=f"tmgan {command}",
        description=inspect.getdoc(kind),
        default=_WithFiles(settings=base),
    )
    if notes:
        from tmgan.training.follow import say_what_was_taken

        say_what_was_taken(notes, taken, chosen.settings)
    return at_home(chosen.settings)


def _places(arguments: list[str], files: list[str]) -> dict[str, str]:
    """Data, encoders, run folder and kind of encoders, as flags or else files name them; "" where they do not."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    names: dict[str, Any] = {"data": "data", "encoders": "encoders", "run": "run", "kind": "encoder.kind"}
    for name, flag in names.items():
        parser.add_argument(f"--{flag}", dest=name, nargs="?")  # without a value tyro refuses it
    flags, _ = parser.parse_known_args(arguments)
    in_files = {name: [configfile.named_in(path, setting) for path in files] for name, setting in names.items()}
    return {name: getattr(flags, name) or next(filter(None, reversed(in_files[name])), "") for name in names}


def _needed(rest: list[str], places: dict[str, str]) -> bool:
    """Whether settings follow from what is there. Not for help, which shows what is so everywhere."""
    return bool(places["data"] or places["run"]) and not _wants_help(rest)


def _wants_help(rest: list[str]) -> bool:
    return bool({"-h", "--help"} & set(rest))
