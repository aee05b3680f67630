"""tmgan data prepare SOURCE PACK"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from tmgan.cli.parse import parse
from tmgan.common.commands import command

if TYPE_CHECKING:
    from tmgan.data.given_words import GivenWords


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Turn a folder of photos and captions into a pack for training: CUB, COCO, Oxford-102, or one's own.

    A run that was interrupted continues where it stopped.
    """

    source: tyro.conf.Positional[Path]
    """Folder of CUB, COCO or Oxford-102 flowers, or image folder with metadata.jsonl; `tmgan data doctor` checks it."""
    pack: tyro.conf.Positional[Path]
    """Folder to make."""
    image_size: Literal[64, 128, 256] = 256
    """Edge of the training crops; the tiles in the pack are 304/256 as large."""
    placement: Literal["centre", "topleft"] = "centre"
    """Where the square lies in a photo that is not square; topleft as published."""
    workers: int | None = None
    """Processes; without it one per core."""
    skip_bad: bool = False
    """Leave out images that cannot be used, instead of refusing."""
    vocabulary: Path | None = None
    """Run folder with encoders, or a captions.pickle, whose words the captions get, so that those encoders fit; words
    that they do not know are left out. Without it the set's own words are taken."""


def _words_of(place: Path) -> GivenWords:
    """The words of a run's encoders, or of a captions.pickle."""
    from tmgan.common.files import user_path
    from tmgan.data.given_words import GivenWords
    from tmgan.data.sources.caption_pickle import read_words
    from tmgan.data.vocabulary import Vocabulary

    place = user_path(place)
    if not place.exists():
        raise ValueError(f"There is no {place}: --vocabulary is a run folder with encoders, or a captions.pickle.")
    if place.is_file():
        return GivenWords(Vocabulary(read_words(place)), place)
    from tmgan.models.bundle import load_encoders

    return GivenWords(load_encoders(place).vocabulary, place)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "data prepare")
    from tmgan.common.progress import say
    from tmgan.data.prepare import prepare

    summary = prepare(
        options.source,
        options.pack,
        options.image_size,
        options.placement,
        options.workers,
        skip_bad=options.skip_bad,
        vocabulary=None if options.vocabulary is None else _words_of(options.vocabulary),
    )
    if summary.already_prepared:
        left_out = f", {len(summary.skipped):,} were left out" if summary.skipped else ""
        say(f"{summary.pack} is already prepared: {summary.images:,} images{left_out}.")
    else:
        say(
            f"{summary.pack}: {summary.images:,} images ({summary.train:,} train, {summary.test:,} test), "
            f"{summary.captions:,} captions, {summary.words:,} words; "
            f"{summary.cut / max(summary.seconds, 1e-9):,.0f} images/s"
        )
    say(f"Next: {command('train', *_trained(options.vocabulary), '--data', summary.pack, '--run', 'RUN')}")


def _trained(vocabulary: Path | None) -> tuple[object, ...]:
    """The flag that makes use of the networks whose words were taken."""
    if vocabulary is None or not vocabulary.is_dir():
        return ()
    return "--from" if (vocabulary / "generator.safetensors").exists() else "--encoders", vocabulary
