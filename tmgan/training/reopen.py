"""A run's task as it was before a step, for a look at it: read from the run folder, in which nothing is changed.

The run may be going on meanwhile: its lock is not taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tmgan.common.files import user_path
from tmgan.common.json_text import parse_json
from tmgan.config import configfile
from tmgan.config.runtime import Runtime, decide
from tmgan.config.settings import DamsmConfig, RuntimeConfig, TrainConfig
from tmgan.data.pack import Pack
from tmgan.models import bundle
from tmgan.training.build import FirstWeights
from tmgan.training.checkpoint import checkpoints_in, images_of, newest_of
from tmgan.training.editor_task import EditorTask, check_fits
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.run_folder import require_no_import
from tmgan.training.start import start_of

Config = TrainConfig | DamsmConfig
NUMERICS = ("device", "precision", "engine", "threads", "torch")  # what Runtime.numerics tells


@dataclass(frozen=True)
class Reopened:
    """A run at one of its checkpoints, or at its beginning.

    Attributes:
        start: steps that it had done there.
        images: that it had seen; 0 at the beginning.
        runtime: what the run was computed with, as far as this machine has it.
        notes: what is not as it was, as sentences.
    """

    folder: Path
    config: Config
    start: int
    images: int
    runtime: Runtime
    notes: tuple[str, ...]
    _state: dict[str, Any] | None
    _build: Callable[[Runtime], EditorTask | EncoderTask]

    def task(self, runtime: Runtime) -> EditorTask | EncoderTask:
        """The task there, for this runtime. Its loader must be closed.

        Raises:
            ValueError: data, masks or encoders are not those that the run began with.
        """
        task = self._build(runtime)
        try:
            if self._state is not None:
                _require_same(task, self._state["identity"], self.folder)
                task.load_state_dict(self._state["task"])
        except BaseException:
            task.loader.close()
            raise
        return task


def settings_of(folder: Path) -> Config:
    """The settings that a run of `tmgan train` or `tmgan damsm` has, also one inside another run.

    Raises:
        ValueError: there is no run, or only an import.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no run folder {folder}.")
    require_no_import_to_replay(folder)
    path = folder / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{folder} is no run of `tmgan train` or `tmgan damsm`: it has no config.yaml.")
    is_editor = configfile.named_in(path, "preset") is not None
    return configfile.read_yaml(path, TrainConfig() if is_editor else DamsmConfig())


def require_no_import_to_replay(folder: Path) -> None:
    """ValueError for an import, which has no steps."""
    try:
        require_no_import(folder)
    except ValueError:
        raise ValueError(f"{folder} is an import: it was not trained here, so there is no step to replay.") from None


def size_of(config: Config) -> tuple[int, int]:
    """Steps in all, and images in each."""
    own = config if isinstance(config, TrainConfig) else config.pretrain
    return -(-own.images // own.batch), own.batch


def reopen(folder: Path, config: Config, step: int, data: str = "", numerics: dict[str, Any] | None = None) -> Reopened:
    """The run as it was at its last checkpoint before `step` that can be read, or else at its beginning.

    Args:
        config: what `settings_of` returns.
        data: the pack; "": where the run had it.
        numerics: what the run was computed with, where a checkpoint does not say it. None or {}: not known.

    Raises:
        ValueError: what the run was trained with is not there any more; the message says what to do.
    """
    notes: list[str] = []
    batch = size_of(config)[1]
    files = [file for file in checkpoints_in(folder / "checkpoints") if images_of(file) <= step * batch]
    state = newest_of(files, notes.append)
    pack = _pack(folder, config, data)
    runtime, more = _runtime(config.runtime, numerics if state is None else state["numerics"])
    begins = state is None
    build: Callable[[Runtime], EditorTask | EncoderTask]
    if isinstance(config, TrainConfig):
        build = _editor(folder, config, pack, begins)
        more += _other_rates(config, state)
    else:
        build = _encoders(config, pack, begins)
    start, images = (0, 0) if state is None else (state["step"], state["images"])
    return Reopened(folder, config, start, images, runtime, (*notes, *more), state, build)


def _other_rates(config: TrainConfig, state: dict[str, Any] | None) -> list[str]:
    """A note where the learning rates were changed after a checkpoint: steps are computed with the present ones."""
    notes = []
    for name, rate in (("lr_g", config.optim.lr_g), ("lr_d", config.optim.lr_d)):
        with suppress(KeyError, IndexError, TypeError):  # of another form, which loading it will say
            before = rate if state is None else state["task"][f"adam_{name[-1]}"]["param_groups"][0]["lr"]
            if before != rate:
                notes.append(
                    f"optim.{name} was {before:g} at the checkpoint and is {rate:g} now, as this step takes it."
                )
    return notes


def _pack(folder: Path, config: Config, data: str) -> Pack:
    """The data of the run: named, as in its settings, or the birds that it has drawn."""
    drawn = [place / "drawn" / "pack" for place in (folder, folder.parent)]  # the latter: of encoders inside a run
    places = [user_path(place) for place in (data or config.data,) if place] + ([] if data else drawn)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise ValueError(
            f"{places[0]}, which {folder} was trained on, is not there. If it was moved, say where it is: --data PACK."
        )
    return Pack.open(path, config.model.image_size if isinstance(config, TrainConfig) else None)


def _editor(folder: Path, config: TrainConfig, pack: Pack, begins: bool) -> Callable[[Runtime], EditorTask]:
    encoders = _encoders_of(folder, config)
    check_fits(config, pack, encoders)
    first: FirstWeights | None = None
    if begins and config.from_:
        # A folder without checkpoints: there, --from begins.
        start = start_of(dataclasses.replace(config, data=str(pack.path)), folder / "replay")
        _require_same_beginning(folder, config, start.record if start else None)
        first = start.weights if start else None
    return lambda runtime: EditorTask(config, pack, encoders, runtime, first)


def _encoders_of(folder: Path, config: TrainConfig) -> bundle.Encoders:
    """The encoders that a run uses: its own copy of them, which comes with its first checkpoint; until then others'."""
    places = [folder, *([user_path(config.encoders)] if config.encoders else []), folder / "encoders"]
    place = next((place for place in places if (place / bundle.ENCODERS).exists()), None)
    if place is None:
        raise ValueError(
            f"There are no encoders in {folder} yet, so no step of its editor. The steps that train them are in "
            f"{folder / 'encoders'}."
            if (folder / "encoders" / "config.yaml").exists()
            else f"The encoders that {folder} was trained with are not there: it names {places[-2]}."
        )
    return bundle.load_encoders(place)


def _require_same_beginning(folder: Path, config: TrainConfig, record: dict[str, Any] | None) -> None:
    """Refuse the run of --from if it was trained further since."""
    before = configfile.setting(_status(folder), "from.sha256", None)
    if record is not None and before not in (None, record["sha256"]):
        raise ValueError(
            f"The editor in {config.from_} is another one than {folder} began with, so its first steps cannot be "
            "computed again. Steps from its first checkpoint on can."
        )


def _status(folder: Path) -> dict[str, Any]:
    """run.json; {} where it cannot be read."""
    try:
        return parse_json((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _encoders(config: DamsmConfig, pack: Pack, begins: bool) -> Callable[[Runtime], EncoderTask]:
    def build(runtime: Runtime) -> EncoderTask:
        weights = config.weights if begins else "random"  # a checkpoint has its own
        encoders = bundle.build_encoders(
            config.encoder,
            pack.image_size,
            pack.vocabulary,
            config.seed,
            weights,
            config.weights_dir,
            config.pretrain.batch_statistics,
        )
        return EncoderTask(config, pack, encoders, runtime)

    return build


def _runtime(config: RuntimeConfig, numerics: dict[str, Any] | None) -> tuple[Runtime, list[str]]:
    """What a run was computed with, as far as it is here, and what is not as a sentence."""
    if not numerics:
        return decide(config), []
    wanted = {name: numerics[name] for name in ("device", "precision", "engine", "threads")}
    if wanted["device"] == "cuda" and not torch.cuda.is_available():
        wanted |= {"device": "cpu", "engine": "eager"}
    runtime = decide(dataclasses.replace(config, **wanted))
    now = runtime.numerics()
    differs = ", ".join(
        f"{name} {numerics[name]} then, {now[name]} now" for name in NUMERICS if now[name] != numerics[name]
    )
    return runtime, [f"{differs}: what is replayed need not have the same bits."] if differs else []


def _require_same(task: EditorTask | EncoderTask, identity: dict[str, str], folder: Path) -> None:
    """Refuse other data, masks or encoders than the checkpoint was trained with."""
    names = [name for name, value in task.identity().items() if identity.get(name) != value]
    if names:
        raise ValueError(
            f"{folder} was trained with another {' and another '.join(names)}. Restore the previous one; a pack that "
            "lies elsewhere is named by --data PACK."
        )
