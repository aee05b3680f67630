"""Birds drawn and packed in one folder, for runs without data of their own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tmgan.common.files import write_json
from tmgan.common.progress import Progress
from tmgan.data.drawn.dataset import write_birds
from tmgan.data.pack import Pack
from tmgan.data.prepare import prepare

_SCALE = 2  # drawn pictures are this many times as large as the networks' images


def drawn_pack(
    folder: Path, count: int, seed: int, image_size: int, say: Callable[[str], None], replace: bool = True
) -> Pack:
    """The pack FOLDER/pack of the birds in FOLDER/birds, drawn unless they exist with the same settings.

    Args:
        say: called with a message before birds are drawn.
        replace: draw new birds in place of those with other settings.

    Raises:
        ValueError: there are birds with other settings, and not `replace`: runs may have been trained on them.
    """
    source, pack, record = folder / "birds", folder / "pack", folder / "settings.json"
    settings = {"count": count, "seed": seed, "image_size": image_size}
    before = json.loads(record.read_text("utf-8")) if record.exists() else None
    if before not in (None, settings) and not replace:
        raise ValueError(
            f"{pack} holds {before['count']} drawn birds and --drawn-images is {count}. Ask for as many as "
            "before, or choose another --out."
        )
    if before != settings:
        say(f"Drawing {count:,} birds in {source}.")
        shutil.rmtree(os.path.realpath(folder), ignore_errors=True)  # which refuses a link
        show = Progress()
        with show.bar(total=count, unit="birds"):
            write_birds(source, count, seed, _SCALE * image_size, lambda done, total: show.advance())
        prepare(source, pack, image_size, workers=1, progress=False)
        write_json(record, settings)
    try:
        return Pack.open(pack, image_size)
    except ValueError as error:
        raise ValueError(
            f"{error}\nThese birds are drawn: delete {folder}, and the same command draws them again."
        ) from None
