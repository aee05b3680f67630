"""Object masks found by a network, stored in a pack once: PACK/masks-NAME.u8 with a record, masks-NAME.json.

The file has the format of masks.u8: (N, T, T, 1) uint8, 255 on the object. It grows as masks-NAME.u8.partial, and is
valid when both it and its record exist. A run that was killed resumes from masks-NAME.partial.json, which is written
only after the masks it counts have reached the disk.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tmgan.common.commands import command
from tmgan.common.files import user_path, write_json
from tmgan.common.json_text import parse_json
from tmgan.common.lock import only_one
from tmgan.common.progress import Progress
from tmgan.common.version import __version__
from tmgan.data.crops import centre_crops
from tmgan.data.pack import Pack, spread

RANDOM_NOTE = "the stored masks were found with random weights; they mean nothing."
SYNC_SECONDS = 5.0  # how much work a kill may cost
_COMPARED = 64  # images whose masks are computed again, crop by crop

# images (B, 3, T, T) in [-1, 1], their first captions, edge in training crops -> object masks (B, 1, T, T) in [0, 1]
Finder = Callable[[Tensor, list[str], float], Tensor]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `write_masks` did.

    Attributes:
        images: masks in the pack.
        computed: those of them found in this run, in `seconds`.
        coverage: mean share of a tile that is object.
        empty: tiles that show no object.
    """

    path: Path
    images: int
    computed: int
    seconds: float
    coverage: float
    empty: int


def mask_path(pack: Path, name: str) -> Path:
    """Where the masks of a provider are stored."""
    return pack / f"masks-{name}.u8"


def masks_command(pack: Pack, name: str) -> str:
    """The command that makes the masks of a provider, as messages show it."""
    return command("data", "masks", pack.path, "--provider", name)


def read_record(pack: Pack, name: str) -> dict[str, Any] | None:
    """The record of a provider's stored masks: what they depend on (`about`), and which tmgan made them when.

    Returns:
        None when the pack has no such masks, as for "dataset".

    Raises:
        ValueError: they are damaged, or belong to another pack.
    """
    path = mask_path(pack.path, name)
    file = path.with_suffix(".json")
    if not (path.is_file() and file.is_file()):
        return None
    try:
        record = parse_json(file.read_text("utf-8"))
        fits = record["pack"] == pack.hash and path.stat().st_size == _bytes(pack)
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise ValueError(f"{path} is damaged, or belongs to another pack. {_again(pack, name)}")
    return record


def open_masks(pack: Pack, name: str) -> Tensor | None:
    """Object masks of a pack by name, uint8 (N, T, T, 1), mapped from disk; None when the pack has none of this name.

    Args:
        name: "dataset" for the masks that came with the source, "" for none, else a provider's.
    """
    if name == "":
        return None
    if name == "dataset":
        return pack.masks
    if read_record(pack, name) is None:
        return None
    return torch.from_file(str(mask_path(pack.path, name)), shared=False, size=_bytes(pack), dtype=torch.uint8).view(
        *pack.tiles.shape[:3], 1
    )


class Provider(Protocol):
    """What finds objects: see MaskProvider in methods/mask_providers.py."""

    name: str
    about: dict[str, Any]

    def __call__(self, images: Tensor, texts: list[str], span: float = 1.0) -> Tensor: ...


def find_masks(data: str | Path | Pack, provider: Provider, batch: int = 16, show: Progress | None = None) -> Summary:
    """Find the object in every image of a pack and store its mask there; resume a run that was killed.

    Args:
        data: the pack.
        provider: one of `tmgan data masks`, or your own, which training finds under the name "own": its masks are
            those of `method.keep_mask: own`.
        batch: images at a time.
        show: progress; None: a bar on a terminal.

    Raises:
        ValueError: the pack has masks of this name that depend on something else; they are never overwritten. Another
            process is making them. Or name or `about` cannot be stored.
    """
    pack = data if isinstance(data, Pack) else Pack.open(user_path(data))
    if not re.fullmatch(r"[a-z0-9_-]+", provider.name) or provider.name in ("dataset", "histogram", "none"):
        raise ValueError(
            f"The provider's name is {provider.name!r}; it becomes the name of a file beside the pack's other masks: "
            'use "own".'
        )
    try:
        about = json.loads(json.dumps(provider.about))
    except (TypeError, ValueError) as error:
        raise ValueError(f"The provider's `about` is stored with its masks, as JSON, and cannot be: {error}.") from None
    return write_masks(pack, provider.name, about, provider, batch, show or Progress())


def write_masks(pack: Pack, name: str, about: dict[str, Any], find: Finder, batch: int, show: Progress) -> Summary:
    """Find and store the masks of all tiles; resume a run that was killed.

    Args:
        about: what the masks depend on, JSON types.
        find: called with at most `batch` images at a time.

    Raises:
        ValueError: the pack has masks of this name that depend on something else; they are never overwritten. Or
            another process is making them.
    """
    busy = f"Another process is looking for {name} masks in {pack.path}. Wait for it."
    with only_one(mask_path(pack.path, name).with_suffix(".lock"), busy):
        return _write_masks(pack, name, about, find, batch, show)


def _write_masks(pack: Pack, name: str, about: dict[str, Any], find: Finder, batch: int, show: Progress) -> Summary:
    start = time.monotonic()
    path = mask_path(pack.path, name)
    partial, progress = path.with_suffix(".u8.partial"), path.with_suffix(".partial.json")
    record = read_record(pack, name)
    if record is not None and record["about"] != about:
        raise ValueError(
            f"{path} exists and depends on other things ({_differs(record['about'], about)}). {_again(pack, name)}"
        )
    first = 0
    if record is None:
        settings = {"pack": pack.hash, "about": about}
        first = _resume(partial, progress, settings, _bytes(pack))
        _fill(pack, find, batch, show, partial, progress, settings, first)
        new_record = {**settings, "tmgan": __version__, "made": datetime.date.today().isoformat()}
        write_json(path.with_suffix(".json"), new_record)
        os.replace(partial, path)
        progress.unlink()
    masks = open_masks(pack, name)
    assert masks is not None
    coverage = torch.stack([row.float().mean() / 255 for row in masks.view(len(masks), -1)])
    return Summary(
        path=path,
        images=len(pack),
        computed=0 if record is not None else len(pack) - first,
        seconds=time.monotonic() - start,
        coverage=float(coverage.mean()),
        empty=extremes(masks, torch.arange(len(masks)))[0],
    )


def extremes(masks: Tensor, rows: Tensor) -> tuple[int, int]:
    """How many masks show no object, and how many nothing but the object.

    Args:
        masks: (N, T, T, 1) uint8, 255 on the object.
        rows: which of them, int64.
    """
    empty = full = 0
    for part in rows.split(256):
        objects = masks[part].flatten(1) >= 128
        empty += int((~objects.any(1)).sum())
        full += int(objects.all(1).sum())
    return empty, full


def agreement(
    pack: Pack, masks: Tensor, find: Finder | None, batch: int, show: Progress | None = None
) -> dict[str, float]:
    """Intersection over union of stored masks with others, means over images where either shows something.

    Returns:
        "crops": with masks found again in centre crops of up to 64 images, unflipped, if `find` is given.
        "dataset": with the true masks, if the pack has them.
    """
    result = {}
    if pack.masks is not None:
        result["dataset"] = _iou(masks, pack.masks)
    if find is not None:
        rows, size = spread(torch.arange(len(pack)), _COMPARED), pack.image_size
        ours, crops = centre_crops(masks, rows, size, (0.0, 1.0)), centre_crops(pack.tiles, rows, size)
        texts = first_captions(pack, rows)
        again, show = [], Progress()
        with show.bar("crops", len(rows)):
            for part in torch.arange(len(rows)).split(batch):
                again.append(find(crops[part], texts[part[0] : part[-1] + 1], 1.0).cpu())
                show.advance(len(part))
        result["crops"] = _iou(ours, torch.cat(again), 0.5)
    return result


def first_captions(pack: Pack, rows: Tensor) -> list[str]:
    """The first caption of each image, as known words."""
    return [pack.caption(caption) for caption in pack.first[rows].tolist()]


def _fill(
    pack: Pack,
    find: Finder,
    batch: int,
    show: Progress,
    partial: Path,
    progress: Path,
    settings: dict[str, Any],
    first: int,
) -> None:
    """Write the masks from number `first` on into the partial file, which has reached the disk at the end."""
    span = pack.tiles.shape[1] / pack.image_size
    last_sync = time.monotonic()
    with open(partial, "r+b" if first else "w+b") as file, show.bar("images", len(pack), start=first):
        file.seek(first * _bytes(pack) // len(pack))
        for at in range(first, len(pack), batch):
            rows = torch.arange(at, min(at + batch, len(pack)))
            images = pack.tiles[rows].permute(0, 3, 1, 2).float() / 127.5 - 1
            masks = find(images, first_captions(pack, rows), span)
            file.write((masks * 255).round().to(torch.uint8).cpu().contiguous().numpy().tobytes())
            done = at + len(rows)
            if done == len(pack) or time.monotonic() - last_sync > SYNC_SECONDS:
                file.flush()
                os.fsync(file.fileno())
                write_json(progress, {**settings, "done": done})
                last_sync = time.monotonic()
            show.advance(len(rows))


def _resume(partial: Path, progress: Path, settings: dict[str, Any], size: int) -> int:
    """How many masks of a run that was killed can be kept: those it had counted, if its settings were the same."""
    try:
        state = parse_json(progress.read_text("utf-8"))
        done = state.pop("done")
        whole = type(done) is int and done >= 0
        return done if whole and state == settings and partial.is_file() and partial.stat().st_size <= size else 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def _bytes(pack: Pack) -> int:
    count, edge = pack.tiles.shape[:2]
    return count * edge * edge


def _again(pack: Pack, name: str) -> str:
    path = mask_path(pack.path, name)
    return f"To make them again, delete {path} and {path.with_suffix('.json')}, then\n  {masks_command(pack, name)}"


def _differs(old: dict[str, Any], new: dict[str, Any]) -> str:
    return ", ".join(
        f"{key}: {old.get(key)}, not {new.get(key)}" for key in {**old, **new} if old.get(key) != new.get(key)
    )


def _iou(one: Tensor, other: Tensor, threshold: float = 127.5) -> float:
    a, b = (x.reshape(len(x), -1) > threshold for x in (one, other))
    both, either = (a & b).sum(1), (a | b).sum(1)
    some = either > 0
    return float((both[some] / either[some]).mean()) if bool(some.any()) else float("nan")
