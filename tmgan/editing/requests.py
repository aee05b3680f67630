"""What is asked of an editor: one edit, and many from what is given once for all photos or one for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tmgan.editing.compositing import KeepSource
from tmgan.editing.limits import check_seed
from tmgan.editing.placement import Box


class Request(NamedTuple):
    """One edit. `Editor.edit_in_full` says what each field means."""

    photo: str | Path | Image.Image
    text: str
    box: Box | None = None
    seed: int = 0
    keep: KeepSource | None = None

    @property
    def name(self) -> str:
        """What sentences call the photo."""
        return "The picture" if isinstance(self.photo, Image.Image) else str(self.photo)


def requests(
    photos: Iterable[str | Path | Image.Image],
    texts: str | Iterable[str],
    boxes: Iterable[Box | None] | None,
    seeds: int | Iterable[int],
    keep: KeepSource | Iterable[KeepSource | None] | None,
) -> Iterator[Request]:
    """One request for each photo; photos are taken one at a time, so they may be made as they are needed.

    Raises:
        ValueError: `photos` is a single one, a seed is out of range, or numbers differ; what only the end of `photos`
            tells is raised there.
    """
    if isinstance(photos, (str, Path, Image.Image)):
        raise ValueError(f"{photos} is a single photo or folder: give a list of photos, or use edit().")
    given: dict[str, Any] = {
        "texts": texts if isinstance(texts, str) else list(texts),
        "boxes": None if boxes is None else list(boxes),
        "seeds": [int(seed) for seed in seeds] if isinstance(seeds, Iterable) else int(seeds),
        "keep": keep if keep is None or callable(keep) else list(keep),
    }
    for seed in given["seeds"] if isinstance(seeds, Iterable) else [given["seeds"]]:
        check_seed(seed)
    for name, values in given.items():
        if isinstance(values, list) and isinstance(photos, Sized) and len(values) != len(photos):
            raise ValueError(_differ(len(photos), name, len(values)))
    return _rows(photos, given)


def _rows(photos: Iterable[str | Path | Image.Image], given: dict[str, Any]) -> Iterator[Request]:
    lists = {name: values for name, values in given.items() if isinstance(values, list)}
    count = 0
    for photo in photos:
        for name, values in lists.items():
            if count == len(values):
                raise ValueError(_differ(f"more than {count}", name, count))
        row = [values[count] if isinstance(values, list) else values for values in given.values()]
        yield Request(photo, *row)
        count += 1
    for name, values in lists.items():
        if count < len(values):
            raise ValueError(_differ(count, name, len(values)))


def _differ(photos: int | str, name: str, values: int) -> str:
    return f"There are {photos} photos and {values} {name}: give one for each photo, or one for all."
