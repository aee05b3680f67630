"""Loaders: each turns the plan of a step into the same Batch. No torch here: pillow's workers import this."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from tmgan.config.runtime import Runtime
    from tmgan.data.pack import Pack
    from tmgan.training.loaders.batch import Columns, Loader
    from tmgan.training.plan import Planner


def make_loader(
    runtime: Runtime, pack: Pack, planner: Planner, columns: Columns, masks: Tensor | None
) -> tuple[Loader, str]:
    """The loader that `runtime` decides on, and why.

    Args:
        masks: (N, T, T, 1) uint8; None for a run that needs none.

    Raises:
        ValueError: the loader that the configuration names cannot run here; the message says what to do.
    """
    from tmgan.data.originals import Originals

    kind, why = runtime.choose_loader(pack.tiles.numel() + (0 if masks is None else masks.numel()))
    size = pack.image_size
    if kind == "resident":
        from tmgan.training.loaders.resident import ResidentLoader

        return ResidentLoader(planner, columns, pack.tiles, masks, size), why
    if kind == "dali":
        from tmgan.training.loaders.dali import DaliLoader

        return DaliLoader(planner, columns, Originals.open(pack), masks, size, runtime.threads), why
    from tmgan.training.loaders.pillow import PillowLoader

    return PillowLoader(planner, columns, Originals.open(pack), masks, size, runtime.threads), why
