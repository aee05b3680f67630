"""tmgan train [--preset P] [--data PACK] [--run RUN] [--encoders RUN | --from RUN] [--images N] [--section.field V]"""

from __future__ import annotations

from tmgan.cli.parse import parse_run
from tmgan.config.settings import TrainConfig


def main(arguments: list[str]) -> None:
    config = parse_run(TrainConfig, arguments, "train", preset=True)
    from tmgan.training.jobs import train_editor  # imports torch: after --help and mistakes in the flags

    train_editor(config)
