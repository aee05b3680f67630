"""Settings from presets and YAML files, and back to YAML. Precedence: run of --from < preset < file < flag (see
cli/parse.py).

The resolved settings are saved as config.yaml in the run folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from tmgan.common.files import user_path
from tmgan.common.text import shown
from tmgan.config.settings import TrainConfig


def presets() -> list[str]:
    """Names of the built-in presets."""
    return sorted(
        p.name.removesuffix(".yaml")
        for p in resources.files("tmgan.config.presets").iterdir()
        if p.name.endswith(".yaml")
    )


def from_preset(name: str, base: TrainConfig | None = None) -> TrainConfig:
    """The training configuration that a preset names. ValueError, with the list of presets, for an unknown name.

    Args:
        base: settings of the run of --from, which the preset's are laid over in place of the defaults. None: for
            ManiGAN's second stage they are laid over its first one's.
    """
    if name == "manigan-dcm" and base is None:
        base = from_preset("manigan")
    if name not in presets():
        raise ValueError(
            f"There is no preset {name!r}. {_nearest(name, presets())}The presets are: {', '.join(presets())}."
        )
    text = resources.files("tmgan.config.presets").joinpath(f"{name}.yaml").read_text()
    values = yaml.safe_load(text) or {}
    if base is not None and base.from_:
        _require_same_network(name, values, base)
    base = dataclasses.replace(base or TrainConfig(), preset=name)
    return merge(base, values, where=f"preset {name}")


def _require_same_network(preset: str, values: dict, base: TrainConfig) -> None:
    """Refuse a preset of another network than that of the run of --from; that ManiGAN's stages follow is none."""
    there = base.model.architecture
    wanted = values.get("model", {}).get("architecture", there)
    if wanted == "manigan-dcm" != there:
        require_first_stage(base, base.from_)
    elif wanted != there:
        raise ValueError(
            f"Preset {preset} has another network than {base.from_}: model.architecture {wanted}, and {there} there. "
            "Leave --preset out, or name one of the methods alone, such as histogram or sad9."
        )


def started_from(source: str, preset: str = "", run: str = "") -> TrainConfig:
    """What the settings of a run of --from start from: those of `source`, with those of a preset laid over them.

    A run that has begun keeps what it began with, whatever has become of `source` since.

    Args:
        source: run folder of `tmgan train`, or an import.
        preset: "" for none.
        run: folder of the new run, "" for the default one.

    Raises:
        ValueError: there is no such run or preset, or they do not go together.
    """
    before = begun_with(run or (f"runs/{preset}" if preset else ""), TrainConfig())
    if before is not None and before.from_:
        base = dataclasses.replace(before, from_=source)
        if not user_path(base.data).is_dir():  # birds that `source` has drawn move with it
            with contextlib.suppress(ValueError):
                base = dataclasses.replace(base, data=settings_of(source).data)
        return base if preset in ("", base.preset) else from_preset(preset, base)
    base = settings_of(source)
    return from_preset(preset, base) if preset else base


def source_of(run: str) -> str:
    """The run that a run has begun with (--from); "" for none, and for one that has not begun."""
    before = begun_with(run, TrainConfig())
    return "" if before is None else before.from_


def begun_with(run: str, kind: Any) -> Any:
    """The settings that a run has begun with; None if it has no checkpoint yet, or is a run of another kind.

    Args:
        run: its folder; "" for none.
        kind: TrainConfig() or DamsmConfig(); settings that are newer than the run are as there.
    """
    folder = user_path(run)
    begun = (file for inside in ("", "encoders/") for file in folder.glob(f"{inside}checkpoints/*.pt"))
    path = Path(folder, "config.yaml")
    if not run or not path.is_file() or not any(begun):
        return None
    try:
        saved = _yaml(path)
        return merge(kind, saved, str(path)) if ("preset" in saved) == hasattr(kind, "preset") else None
    except (ValueError, TypeError):  # damaged: opening the run says so
        return None


def settings_of(run: str | Path) -> TrainConfig:
    """What the settings of a run that goes on from `run` start from (--from): those of that one, without its places.

    Raises:
        ValueError: `run` is no folder of `tmgan train` or of an import.
    """
    folder = user_path(run)
    if not folder.is_dir():
        raise ValueError(f"There is no run folder {run}. --from takes one of `tmgan train` or `tmgan import`.")
    path = folder / "config.yaml"
    values = _yaml(path) if path.is_file() else {}
    if not isinstance(values, dict) or "model" not in values:  # without one it is a run of `tmgan damsm`
        encoders = " What it holds are encoders, for --encoders." if (folder / "encoders.safetensors").exists() else ""
        raise ValueError(
            f"There is no run of `tmgan train` in {run}: it has no config.yaml with the settings of one.{encoders}"
        )
    config = merge(TrainConfig(), values, where=str(path))
    drawn = folder / "drawn" / "pack"  # what a run without data draws
    data = config.data or (str(Path(run) / "drawn" / "pack") if drawn.is_dir() else "")
    return dataclasses.replace(config, data=data, run="", encoders="", allow_unfinished=False, from_=str(run))


def require_first_stage(config: TrainConfig, run: str | Path) -> None:
    """ValueError unless these settings of a run are those of ManiGAN's first stage."""
    if config.model.architecture != "manigan":
        raise ValueError(
            f"{run} holds no main module of ManiGAN: its model.architecture is {config.model.architecture}. Train one "
            "with --preset manigan."
        )


def read_plain(path: str | Path) -> dict:
    """The settings of a YAML file as plain types, whatever they are called. ValueError when it holds none."""
    values = _yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings.")
    return values


def read_yaml(path: str | Path, base: Any) -> Any:
    """`base` overridden by the settings of a YAML file."""
    return merge(base, _yaml(path), where=str(path))


def is_of_a_run(path: str | Path) -> bool:
    """Whether a YAML file is the config.yaml of a run folder."""
    return Path(path).name == "config.yaml" and (Path(path).parent / "run.json").is_file()


def named_in(
    path: str | Path, name: Literal["preset", "from", "data", "encoders", "run", "encoder.kind"]
) -> str | None:
    """A setting that is a text, as a YAML file of settings has it, if it does."""
    value = setting(_yaml(path), name, None)
    return None if value is None else _coerce(value, str, f"{path}, {name}")


def _yaml(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise ValueError(f"There is no configuration file {path}.")
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)  # bytes: YAML obeys byte order marks itself
        if len(data) > _MOST_BYTES:
            raise ValueError(f"settings of more than {_MOST_BYTES:,} bytes")
        values = yaml.load(data, _Loader)
        return {} if values is None else values
    except Exception as error:  # tags that do not fit, and deep nesting, end in nearly anything
        raise ValueError(f"{path} is not valid YAML: {error}") from None


_MOST_BYTES = 2**16  # all settings take 3 kB; of a megabyte YAML can make twelve seconds


class _Loader(yaml.SafeLoader):
    """Without what YAML's own loader reads as something else: the last of two equal keys, 064 as 52, 1:30 as 90.

    Nor aliases: a few lines of them stand for more than fits into memory, and no setting needs them.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases (*) are not read", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r:.60} occurs twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def whole_number(self, node: yaml.ScalarNode) -> int | str:
        text = self.construct_scalar(node)
        for base in (10, 0):  # 0: 0x40 and the like
            with contextlib.suppress(ValueError):
                return int(text, base)
        return text  # a setting that is a text may be 1:30

    def number(self, node: yaml.ScalarNode) -> float | str:
        return node.value if ":" in node.value else super().construct_yaml_float(node)

    def text(self, node: yaml.ScalarNode) -> str:
        return self.construct_scalar(node)  # 2026-11-28 is the name of a run


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.text)


def merge(base: Any, values: dict, where: str) -> Any:
    """A copy of the dataclass `base`, overridden by nested `values`.

    Args:
        where: the origin of `values`, for messages.

    Raises:
        ValueError: a key is unknown (the message has the nearest one) or a value does not fit its setting.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected settings as `name: value`, found {shown(values)}.")
    hints = typing.get_type_hints(type(base))
    names = {_public(f.name): f.name for f in fields(base)}
    changes = {}
    for key, value in values.items():
        if key not in names:
            raise ValueError(
                f"{where}: unknown setting {shown(key)}. {_nearest(str(key)[:60], [*names])}"
                f"Known here: {', '.join(names)}."
            )
        name = names[key]
        current = getattr(base, name)
        if is_dataclass(current):
            changes[name] = merge(current, {} if value is None else value, where=f"{where}, {key}")
        else:
            changes[name] = _coerce(value, hints[name], f"{where}, {key}")
    try:
        return dataclasses.replace(base, **changes)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def to_dict(config: Any) -> dict:
    """A configuration as a plain nested dict, as YAML reads it back: tuples are lists."""
    return {_public(f.name): _plain(getattr(config, f.name)) for f in fields(config)}


def to_yaml(config: Any) -> str:
    """YAML text that read_yaml reads back to an equal configuration."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def overlay(base: dict, values: dict) -> dict:
    """Nested plain dicts: `base` overridden by `values`."""
    return {
        key: overlay(base[key], values[key])
        if isinstance(base.get(key), dict) and isinstance(values.get(key), dict)
        else values.get(key, base.get(key))
        for key in {**base, **values}
    }


def setting(nested: dict, dotted: str, otherwise: Any = "(none)") -> Any:
    """A setting of a plain configuration by its dotted name, or `otherwise` if there is no such setting."""
    value: Any = nested
    for key in dotted.split("."):
        value = value.get(key, otherwise) if isinstance(value, dict) else otherwise
    return value


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Dotted names of the settings in which two plain configurations differ."""
    names = []
    for key in {**old, **new}:
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            names.append(f"{prefix}{key}")
    return names


def _public(name: str) -> str:
    """A field's name as files and flags have it: `from`, which Python keeps for itself, for from_."""
    return name.removesuffix("_")


def _plain(value: Any) -> Any:
    return to_dict(value) if is_dataclass(value) else list(value) if isinstance(value, tuple) else value


def _nearest(word: str, known: list[str]) -> str:
    match = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {match[0]!r}? " if match else ""


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """A YAML value as the field's type. YAML reads 1e-4 as text, so numbers may arrive as strings."""
    if typing.get_origin(hint) is Literal:
        if isinstance(value, (list, dict)) or value not in typing.get_args(hint):
            raise ValueError(f"{where}: {shown(value)} is not one of {', '.join(map(repr, typing.get_args(hint)))}.")
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where}: {shown(value)} is not a list; write it as [5, 7, 9], [] for none.")
        return tuple(_coerce(item, typing.get_args(hint)[0], where) for item in value)
    assert not isinstance(hint, types.UnionType), "configuration fields have one type"
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{where}: {shown(value)} is not true or false.")
        return value
    if hint is str:
        if not isinstance(value, str):
            raise ValueError(f"{where}: {shown(value)} is not a text; write it in quotes, '' for none.")
        return value
    if hint is int and type(value) in (int, str):
        with contextlib.suppress(ValueError):
            return int(value)  # a float is exact up to 2**53
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (hint is int and number != int(number)):
        raise ValueError(f"{where}: {shown(value)} is not {'a whole number' if hint is int else 'a number'}.")
    return hint(number)
