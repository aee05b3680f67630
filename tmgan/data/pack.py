"""The pack: a folder that holds a prepared set as plain arrays. Written once by `prepare`, then mapped and only read.

tiles.u8 (N,T,T,3), masks.u8 (N,T,T,1) with 255 = object, parts.u8 (N,T,T,1) labels, text.safetensors, vocabulary.json,
names.json, originals.json and stamps.i64: all of them have the same images as rows, in the same order. pack.json holds
the sizes of the others, so that an incomplete copy is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from safetensors.torch import load_file

from tmgan.common.commands import command
from tmgan.common.digest import digest
from tmgan.common.files import sync_to_disk, user_path, write_bytes, write_json
from tmgan.common.json_text import parse_json
from tmgan.common.progress import Progress
from tmgan.common.version import __version__
from tmgan.data.captions import label_backend, word_labels
from tmgan.data.pack_form import problem_of_names, problem_of_texts
from tmgan.data.palette import PALETTE, PARTS, PATTERNS
from tmgan.data.sources.source import Source
from tmgan.data.stamps import STAMPS
from tmgan.data.tiles import PLACEMENTS, tile_edge
from tmgan.data.vocabulary import Vocabulary

FORMAT = 1
HEADER = "pack.json"
TEXTS = ("text.safetensors", "vocabulary.json", "names.json")
ORIGINALS = "originals.json"  # made and read by originals.py; packs of earlier versions lack it
PARTIAL = ".partial"
CHANNELS = {"tiles.u8": 3, "masks.u8": 1, "parts.u8": 1}


def prepare_command(
    source: str | Path, pack: str | Path, image_size: int, placement: str, header: Mapping[str, Any]
) -> str:
    """The command that makes a pack with the words of the one that has this header, as messages show it."""
    words = ["--vocabulary", header["vocabulary_from"]] if "vocabulary_from" in header else []
    return command("data", "prepare", source, pack, "--image-size", image_size, "--placement", placement, *words)


def partial_path(pack: Path) -> Path:
    """Where a pack grows until it is complete."""
    return pack.with_name(pack.name + PARTIAL)


@dataclass(frozen=True)
class Pack:
    """An opened pack of N images with M captions. Image tensors are uint8 and mapped from disk: writing into them
    changes this process's copy only.

    Attributes:
        tiles: (N, T, T, 3).
        masks: (N, T, T, 1), 255 = object, or None.
        parts: (N, T, T, 1) labels, or None.
        tokens: (M, L) int32 word ids, 0 = padding.
        lengths: (M,) int32.
        word_labels: (M, L) uint8, 1 = noun or adjective.
        first: (N + 1,) int64; captions of image i are rows first[i]:first[i + 1].
        class_ids: (N,) int64.
        colours: (N, parts) int8, index into list(PALETTE) or -1; or None.
        patterns: (N, parts) uint8, index into PATTERNS; or None.
        train: int64 indices of the training images.
        test: int64 indices of the test images.
        names: (N).
        class_names: name of a class id.
    """

    path: Path
    header: dict[str, Any]
    tiles: torch.Tensor
    masks: torch.Tensor | None
    parts: torch.Tensor | None
    tokens: torch.Tensor
    lengths: torch.Tensor
    word_labels: torch.Tensor
    first: torch.Tensor
    class_ids: torch.Tensor
    colours: torch.Tensor | None
    patterns: torch.Tensor | None
    train: torch.Tensor
    test: torch.Tensor
    names: tuple[str, ...]
    class_names: dict[int, str]
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.names)

    @property
    def image_size(self) -> int:
        return self.header["image_size"]

    @property
    def placement(self) -> str:
        return self.header["placement"]

    @property
    def hash(self) -> str:
        """Equal for packs of the same pixels, captions, words and geometry."""
        # pictures_hash: of packs of earlier versions. It follows from the sizes of files, which says less.
        pixels = "pixels_hash" if "pixels_hash" in self.header else "pictures_hash"
        keys = ("source_hash", pixels, "vocabulary_hash", "image_size", "placement")
        return hashlib.sha256(json.dumps([self.header.get(key) for key in keys]).encode()).hexdigest()

    @cached_property
    def pixels_hash(self) -> str:
        """Equal for packs of the same pixels; for a pack of an earlier version, from the pixels themselves."""
        return self.header.get("pixels_hash") or pixels_hash(self.path, self.header)

    def require_unchanged(self) -> None:
        """Refuse pixels that were changed after the pack was made.

        They are read where a file of pixels is newer than pack.json, which is written last: after a change, and in a
        copy that did not keep the times. That takes a second for each gigabyte, once per opened pack; else nothing.

        Raises:
            ValueError: the pixels are others; the message has the command that makes the pack again.
        """
        if self._changed:
            again = prepare_command(self.header["source"], self.path, self.image_size, self.placement, self.header)
            raise ValueError(
                f"{' or '.join(str(self.path / name) for name in self._newer)} was changed after the pack was made: "
                f"its pixels are not those that {HEADER} names. Delete {self.path} and prepare it again:\n  {again}"
            )

    @property
    def _newer(self) -> list[str]:
        made = (self.path / HEADER).stat().st_mtime_ns
        names = (name for name in CHANNELS if name in self.header["bytes"])
        return [name for name in names if (self.path / name).stat().st_mtime_ns > made]

    @cached_property
    def _changed(self) -> bool:
        known = self.header.get("pixels_hash")  # packs of earlier versions lack it
        return known is not None and bool(self._newer) and pixels_hash(self.path, self.header) != known

    def caption(self, row: int) -> str:
        """The known words of caption `row`, as text."""
        return " ".join(self.vocabulary.words[word] for word in self.tokens[row, : int(self.lengths[row])].tolist())

    @classmethod
    def open(cls, path: Path, image_size: int | None = None, placement: str | None = None) -> Pack:
        """Open the pack at `path` and check its format, its files' sizes and that images, texts and words fit.

        Args:
            image_size: what the run needs; None accepts any.
            placement: likewise.

        Raises:
            ValueError: the pack is missing, unfinished, damaged or not the one that is needed; the message has the
                command that makes the right one.
        """
        path = user_path(path)
        header = read_header(path)
        has = (header["image_size"], header["placement"])
        needs = (image_size or has[0], placement or has[1])
        again = f"delete {path} and prepare it again:\n  {prepare_command(header['source'], path, *has, header)}"
        if needs != has:
            other = path.with_name(f"{path.name}-{needs[0]}-{needs[1]}")
            raise ValueError(
                f"{path} holds images of {has[0]} pixels, placement {has[1]}; this run needs {needs[0]} pixels, "
                f"placement {needs[1]}. Make that pack with\n"
                f"  {prepare_command(header['source'], other, *needs, header)}"
            )
        for name, size in header["bytes"].items():
            if not (path / name).is_file():
                raise ValueError(f"{path / name} is missing; {again}")
            if (path / name).stat().st_size != size:
                raise ValueError(
                    f"{path / name} is damaged: it has {(path / name).stat().st_size} bytes, not {size}; {again}"
                )
        try:
            text = load_file(path / "text.safetensors")
            vocabulary = Vocabulary.from_json((path / "vocabulary.json").read_text("utf-8"))
            names = parse_json((path / "names.json").read_text("utf-8"))
        except Exception as error:  # each of the three formats has its own errors
            raise ValueError(f"{path} is damaged ({error}); {again}") from error
        if vocabulary.hash != header["vocabulary_hash"]:
            raise ValueError(f"{path / 'vocabulary.json'} is damaged: its words are not those of the pack; {again}")
        count = header["count"]
        problem = problem_of_names(names, count) or problem_of_texts(text, count, len(vocabulary))
        if problem:
            raise ValueError(f"{path}/{problem}; {again}")
        first = text["first"]
        tile = header["tile"]
        images = {
            name: torch.from_file(
                str(path / name), shared=False, size=count * tile * tile * channels, dtype=torch.uint8
            ).view(count, tile, tile, channels)
            for name, channels in CHANNELS.items()
            if name in header["bytes"]
        }
        return cls(
            path=path,
            header=header,
            tiles=images["tiles.u8"],
            masks=images.get("masks.u8"),
            parts=images.get("parts.u8"),
            tokens=text["tokens"],
            lengths=text["lengths"],
            word_labels=text["word_labels"],
            first=first,
            class_ids=text["class_ids"],
            colours=text.get("colours"),
            patterns=text.get("patterns"),
            train=(text["split"] == 0).nonzero().flatten(),
            test=(text["split"] == 1).nonzero().flatten(),
            names=tuple(names["names"]),
            class_names={int(key): name for key, name in names["class_names"].items()},
            vocabulary=vocabulary,
        )


def spread(items: torch.Tensor, count: int) -> torch.Tensor:
    """At most `count` of the (n,) items, evenly spread: packs are often sorted by class."""
    return items[torch.linspace(0, len(items) - 1, min(count, len(items))).round().long()]


def read_header(path: Path) -> dict[str, Any]:
    """The checked header of the pack at `path`. ValueError when it is missing, damaged or of another format."""
    file = path / HEADER
    if not file.is_file():
        if partial_path(path).is_dir():
            raise ValueError(f"{path} is not finished: run its `tmgan data prepare` command again, it continues")
        why = f"{HEADER} is missing" if path.exists() else "there is nothing of this name"
        raise ValueError(f"{path} is not a pack ({why}): make one with\n  tmgan data prepare SOURCE PACK")
    again = f"delete {path} and prepare it again with `tmgan data prepare`"
    try:
        header = parse_json(file.read_text("utf-8"))
        version = header["format"]
        if version == FORMAT and not _is_plain(header):
            raise TypeError
        pixels = {name: channels * header["count"] * header["tile"] ** 2 for name, channels in CHANNELS.items()}
        fits = header["tile"] == tile_edge(header["image_size"]) and header["placement"] in PLACEMENTS
        fits = fits and all(header["bytes"].get(name, size) == size for name, size in pixels.items())
        fits = fits and {"tiles.u8", "text.safetensors", "vocabulary.json", "names.json"} <= header["bytes"].keys()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise ValueError(f"{file} is damaged; {again}") from None
    if version != FORMAT:
        raise ValueError(f"{path} has format {version}, but this tmgan reads format {FORMAT}; {again}")
    if not fits:
        raise ValueError(f"{file} is damaged: its numbers do not fit each other; {again}")
    return header


def _is_plain(header: dict[str, Any]) -> bool:
    """Whether the entries that are relied on are of their kinds."""
    numbers = (header["count"], header["tile"], header["image_size"], *header["bytes"].values())
    texts = (header["source"], header["kind"], header["vocabulary_hash"], header.get("vocabulary_from", ""))
    return (
        all(type(number) is int and 0 <= number < 2**60 for number in numbers)
        and header["count"] > 0
        and all(isinstance(text, str) and "\0" not in text for text in texts)
        and all(name in (*CHANNELS, *TEXTS, ORIGINALS, STAMPS) for name in header["bytes"])
    )


def write_texts(folder: Path, source: Source, rows: list[int], show: Progress) -> dict[str, Any]:
    """Write text.safetensors, vocabulary.json and names.json for items `rows` of `source`.

    A source without a vocabulary gets one from the captions of all its items, including those that are left out, so
    that repairing a bad picture later renumbers nothing.

    Returns:
        Entries for the pack's header.
    """
    token_ids: Sequence[Sequence[Sequence[int]]]  # word ids per image and caption
    if source.vocabulary is not None:
        assert source.token_ids is not None, "they come together"
        vocabulary = Vocabulary(source.vocabulary)
        token_ids = [source.token_ids[row] for row in rows]
    else:
        vocabulary = Vocabulary.from_captions(caption for item in source.items for caption in item.captions)
        token_ids = [[vocabulary.encode(caption)[0] for caption in source.items[row].captions] for row in rows]
    captions = [ids for image in token_ids for ids in image]
    tokens = np.zeros((len(captions), max(map(len, captions))), np.int32)
    labels = np.zeros(tokens.shape, np.uint8)
    with show.bar("captions", len(captions)):
        for line, ids in enumerate(captions):
            tokens[line, : len(ids)] = ids
            labels[line, : len(ids)] = word_labels([vocabulary.words[token] for token in ids])
            show.advance()
    arrays: dict[str, np.ndarray] = {
        "tokens": tokens,
        "word_labels": labels,
        "lengths": np.array([len(ids) for ids in captions], np.int32),
        "first": np.cumsum([0] + [len(image) for image in token_ids], dtype=np.int64),
        "class_ids": np.array([source.items[row].class_id for row in rows], np.int64),
        "split": np.array([source.items[row].split == "test" for row in rows], np.uint8),
    }
    if any(item.colours is not None for item in source.items):
        arrays["colours"] = _colours(source, rows)
    if any(item.patterns is not None for item in source.items):
        arrays["patterns"] = _patterns(source, rows)
    write_bytes(folder / "text.safetensors", save(arrays))
    write_bytes(folder / "vocabulary.json", vocabulary.to_json().encode())
    names = {"names": [source.items[row].name for row in rows], "class_names": source.class_names}
    write_bytes(folder / "names.json", json.dumps(names, indent=0).encode())
    return {
        "labels": label_backend(),
        "vocabulary_hash": vocabulary.hash,
        "vocabulary_given": source.vocabulary is not None,
        **({"vocabulary_from": source.vocabulary_from} if source.vocabulary_from else {}),
    }


def _colours(source: Source, rows: list[int]) -> np.ndarray:
    """(N, parts) int8: place of each part's colour in PALETTE, -1 where the part has none."""
    places = {name: place for place, name in enumerate(PALETTE)}
    table = np.full((len(rows), len(PARTS)), -1, np.int8)
    for line, row in enumerate(rows):
        for part, colour in (source.items[row].colours or {}).items():
            if part not in PARTS or colour not in places:
                name = source.items[row].name
                raise ValueError(f"{source.path}/colours.json, {name}: {part!r} of colour {colour!r} is unknown")
            table[line, PARTS.index(part)] = places[colour]
    return table


def _patterns(source: Source, rows: list[int]) -> np.ndarray:
    """(N, parts) uint8: place of each part's pattern in PATTERNS."""
    table = np.zeros((len(rows), len(PARTS)), np.uint8)
    for line, row in enumerate(rows):
        patterns = source.items[row].patterns or {}
        if set(patterns) != set(PARTS) or not set(patterns.values()) <= set(PATTERNS):
            raise ValueError(
                f"{source.path}/patterns.json, {source.items[row].name}: expected one of {', '.join(PATTERNS)} for "
                f"each of {', '.join(PARTS)}, found {patterns!r:.80}"
            )
        table[line] = [PATTERNS.index(patterns[part]) for part in PARTS]
    return table


def pixels_hash(path: Path, header: dict[str, Any]) -> str:
    """sha256 (hex) of each image's digest of tile, mask and parts. Reads all of them."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path / name, "rb")) for name in CHANNELS if name in header["bytes"]]
        sizes = [header["tile"] ** 2 * channels for name, channels in CHANNELS.items() if name in header["bytes"]]
        rows = [
            digest(*(file.read(size) for file, size in zip(files, sizes, strict=True))) for _ in range(header["count"])
        ]
    return hash_of_digests(np.array(rows, np.int64))


def hash_of_digests(digests: np.ndarray) -> str:
    """sha256 (hex) of images' digests of their pixels, int64 (N,)."""
    return hashlib.sha256(np.ascontiguousarray(digests).tobytes()).hexdigest()


def write_header(folder: Path, header: dict[str, Any]) -> None:
    """Write pack.json with the sizes of all other files; the last thing that is written into a pack."""
    names = [*CHANNELS, "text.safetensors", "vocabulary.json", "names.json", ORIGINALS, STAMPS]
    sizes = {name: (folder / name).stat().st_size for name in names if (folder / name).exists()}
    header = {**header, "tmgan": __version__, "bytes": sizes}
    write_json(folder / HEADER, header)
    for file in (*(folder / name for name in sizes), folder / HEADER, folder):
        sync_to_disk(file)
