"""What a run of --from begins with: the weights of another run or of an import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from tmgan.models import bundle
from tmgan.training.checkpoint import checkpoints_in, newest_of


def discriminator_of(run: Path, log: Callable[[str], None]) -> dict[str, Tensor] | None:
    """The discriminator of a run, or of an import that brought one: state of `build_discriminator`; None where there is
    none. `log` is told where it comes from, and of checkpoints that are damaged.

    Raises:
        ValueError: discriminator.safetensors is damaged, or another version of tmgan wrote the checkpoint.
    """
    state = newest_of(checkpoints_in(run / "checkpoints"), log)
    if state is not None and "discriminator" in state["task"]:  # a run of `tmgan damsm` has none
        log(f"  discriminator: that of {run / 'checkpoints'}, {state['images']:,} images")
        return state["task"]["discriminator"]
    weights = bundle.load_discriminator(run)
    if weights is not None:
        log(f"  discriminator: {run / bundle.DISCRIMINATOR}")
    return weights
