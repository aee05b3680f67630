"""Command line to dataclass: preset < configuration file < flag."""
from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

from tmgan import configfile

T = TypeVar("T")


def parse(kind: Callable[..., T], arguments: list[str], command: str, default: T | None = None) -> T:
    """Parse the flags of `tmgan COMMAND` into the dataclass `kind`."""
    options = {} if default is None else {"default": default}
    return tyro.cli(kind, args=arguments, prog=f"tmgan {command}", **options)


def parse_run(kind: Callable[..., T], arguments: list[str], command: str, preset: bool) -> T:
    """Like parse, with --preset (when `preset`) and --config FILE (may be repeated) laid under the flags.

    Without --preset, the preset that a configuration file names is the starting point.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", action="append", default=[])
    if preset:
        early.add_argument("--preset")
    known, rest = early.parse_known_args(arguments)
    if preset and known.preset == "help":
        print("Presets: " + ", ".join(configfile.presets()))
        sys.exit(0)
    base: Any = kind()
    if preset:
        named = [configfile.preset_of(path) for path in known.config]
        base = configfile.from_preset(known.preset or next(filter(None, named), "quickstart"))
    for path in known.config:
        base = configfile.read_yaml(path, base)
    if preset and known.preset:
        base = dataclasses.replace(base, preset=known.preset)
    return parse(kind, rest, command, base)
