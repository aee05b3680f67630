"""Command line to dataclass: preset < configuration file < flag."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from tmgan.config import configfile

T = TypeVar("T")


def parse(kind: Callable[..., T], arguments: list[str], command: str) -> T:
    """Parse the flags of `tmgan COMMAND` into the dataclass `kind`."""
    return tyro.cli(kind, args=arguments, prog=f"tmgan {command}")


@dataclass(frozen=True, kw_only=True)
class _WithFiles(Generic[T]):
    """The settings of a run, and --config, so that --help lists it; its files have been read by then."""

    config: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """YAML file of settings, such as a run's config.yaml; may be repeated, the last one wins."""
    settings: Annotated[T, tyro.conf.arg(name="")]


def parse_run(kind: Callable[..., T], arguments: list[str], command: str, preset: bool) -> T:
    """Like parse, with --preset (when `preset`) and --config FILE (may be repeated), which the other flags override.

    Without --preset, the preset that a configuration file names is the starting point.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[])
    if preset:
        parser.add_argument("--preset")
    options, rest = parser.parse_known_args(arguments)
    if preset and options.preset == "help":
        print("Presets: " + ", ".join(configfile.presets()))
        sys.exit(0)
    base: Any = kind()
    if preset:
        presets = [configfile.preset_of(path) for path in options.config]
        base = configfile.from_preset(options.preset or next(filter(None, presets), "quickstart"))
    for path in options.config:
        base = configfile.read_yaml(path, base)
    if preset and options.preset:
        base = dataclasses.replace(base, preset=options.preset)
    return tyro.cli(
        _WithFiles[kind],  # type: ignore[valid-type]  # a type that is only known at run time, for tyro
        args=rest,
        prog=f"tmgan {command}",
        description=inspect.getdoc(kind),
        default=_WithFiles(settings=base),
    ).settings
