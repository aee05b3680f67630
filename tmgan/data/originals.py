"""Where the pictures of a pack came from: the list for loaders that decode the original files at every step.

originals.json lies in the pack. It holds, per image, the file below the source folder, its size in bytes, the size of
the upright picture, and the region that was kept of it (tiles.region). The source suffices to write it again, so a pack
without it, or whose source has moved, is repaired by `tmgan data prepare`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from tmgan.common.digest import file_digest
from tmgan.common.files import write_bytes
from tmgan.common.json_text import parse_json
from tmgan.common.text import first_lines
from tmgan.data.decode import FORMATS
from tmgan.data.pack import ORIGINALS, Pack, prepare_command
from tmgan.data.sources.cub_tables import is_inside
from tmgan.data.sources.source import Source, obeys_exif
from tmgan.data.stamps import IMAGE, MODIFIED, read_stamps
from tmgan.data.tiles import place_tile, region

ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
INSTEAD = "or use the tiles that the pack holds: --runtime.loader resident"


@dataclass(frozen=True)
class Originals:
    """The original pictures of a pack's N images; each file exists and has the size in bytes that was recorded.

    Attributes:
        paths: (N) files.
        exif: whether their EXIF orientation is obeyed.
        tile: edge of the pack's tiles.
        sizes: (N, 2) width and height of each upright picture.
        regions: (N, 4) left, top, right, bottom of what is kept of it.
        scaled: (N, 2) width and height of each region when its shorter side is `tile`.
        corners: (N, 2) left and top of the tile in that scaled region.
    """

    paths: tuple[Path, ...]
    exif: bool
    tile: int
    sizes: np.ndarray
    regions: np.ndarray
    scaled: np.ndarray
    corners: np.ndarray

    @staticmethod
    def open(pack: Pack) -> Originals:
        """Read the list in `pack` and look at every file.

        Raises:
            ValueError: the list or a file is missing or not as it was; the message has the remedy.
        """
        command = _repair_command(pack, pack.header["source"])
        if ORIGINALS not in pack.header["bytes"]:
            raise ValueError(
                f"{pack.path} does not say from which files it was made, as packs of earlier versions do "
                f"not. Add that with\n  {command}\n{INSTEAD}"
            )
        try:
            rows = parse_json((pack.path / ORIGINALS).read_text("utf-8"))
            files, lengths = rows["files"], rows["bytes"]
            if len(files) != len(pack) or len(lengths) != len(pack) or not all(map(is_inside, files)):
                raise ValueError("it does not name a file of the source for each image")
            sizes, regions = (
                np.array(rows[name], np.int32).reshape(len(pack), width)
                for name, width in (("sizes", 2), ("regions", 4))
            )
            if sizes.min() < 1 or (regions[:, 2:] <= regions[:, :2]).any():
                raise ValueError("a picture of it has no pixels")
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(
                f"{pack.path / ORIGINALS} is damaged ({error}). Make it again with\n  {command}"
            ) from error
        folder = Path(pack.header["source"])
        paths = tuple(folder / file for file in files)
        stamps = read_stamps(pack.path, len(pack))
        problems = [
            f"{path} {problem}"
            for row, (path, length) in enumerate(zip(paths, lengths, strict=True))
            if (problem := _difference(path, length, None if stamps is None else stamps[row]))
        ]
        if problems:
            raise ValueError(
                f"{len(problems)} of the {len(paths)} files that {pack.path} was made from are missing or changed:\n"
                f"{first_lines(problems, 5)}\nPut them back; or, if the folder was moved, say where to with\n"
                f"  {_repair_command(pack, 'SOURCE')}\n{INSTEAD}"
            )
        tile = pack.header["tile"]
        places = np.array(
            [
                place_tile((right - left, bottom - top), tile, pack.placement)
                for left, top, right, bottom in regions.tolist()
            ],
            np.int32,
        ).reshape(len(pack), 4)
        return Originals(paths, obeys_exif(pack.header["kind"]), tile, sizes, regions, places[:, :2], places[:, 2:])


def write_originals(folder: Path, source: Source, rows: Sequence[int]) -> bool:
    """Write originals.json of items `rows` of `source` into `folder`. Opens the pictures' headers only.

    Returns:
        False when the file already says the same, so that nothing was written.

    Raises:
        ValueError: a picture cannot be read.
    """
    files, lengths, sizes, regions = [], [], [], []
    for row in rows:
        item = source.items[row]
        try:
            with Image.open(item.image, formats=FORMATS) as image:
                sideways = source.exif and image.getexif().get(Base.Orientation) in ON_ITS_SIDE
                size = image.size[::-1] if sideways else image.size
        except OSError as error:
            raise ValueError(f"{item.image} cannot be read ({error}): get it again") from error
        files.append(Path(os.path.relpath(item.image, source.path)).as_posix())
        lengths.append(item.image.stat().st_size)
        sizes.append(size)
        regions.append(region(size, item.box))
    content = json.dumps({"files": files, "bytes": lengths, "sizes": sizes, "regions": regions}).encode()
    path = folder / ORIGINALS
    if path.is_file() and path.read_bytes() == content:
        return False
    write_bytes(path, content)
    return True


def _repair_command(pack: Pack, source: str) -> str:
    return prepare_command(source, pack.path, pack.image_size, pack.placement, pack.header)


def _difference(path: Path, length: int, stamp: np.ndarray | None) -> str:
    """Why a file is no longer the one of `length` bytes that was prepared; "" if it is.

    Args:
        stamp: its row of the pack's stamps; None: in a pack of an earlier version the length is all that is known.
    """
    try:
        status = path.stat()
        if status.st_size != length:
            return f"has {status.st_size} bytes, not {length}"
        if stamp is None or stamp[MODIFIED] == status.st_mtime_ns or stamp[IMAGE] == file_digest(path):
            return ""
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "holds other bytes of the same length"
