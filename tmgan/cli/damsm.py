"""tmgan damsm --data PACK --run RUN [--config FILE] [--section.field value]"""

from __future__ import annotations

from tmgan.cli.parse import parse_run
from tmgan.config.settings import DamsmConfig


def main(arguments: list[str]) -> None:
    config = parse_run(DamsmConfig, arguments, "damsm", preset=False)
    if not config.data or not config.run:
        raise ValueError(
            "Give the pack and a run folder: tmgan damsm --data PACK --run RUN. "
            "A pack is made by `tmgan data prepare SOURCE PACK`."
        )
    from tmgan.training.jobs import train_encoders  # imports torch: after --help and mistakes in the flags

    train_encoders(config)
