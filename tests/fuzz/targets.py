"""What is fuzzed: each reader of files from anywhere, with valid files of our own to begin from.

A target makes a folder in which one file varies. Where a checksum or a length would keep every changed file out, the
part behind it varies and the rest is put around it again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms

from tests.conftest import SMALL, TINY, write_run
from tests.data import data_folders
from tests.fuzz.guard import MEGABYTE, Limit, settle
from tests.old_torch import old_file
from tmgan.config import configfile
from tmgan.config.settings import TrainConfig
from tmgan.data import captions, decode, mask_file
from tmgan.data.attributes import Attributes, training_captions
from tmgan.data.originals import Originals
from tmgan.data.pack import Pack
from tmgan.data.prepare import prepare
from tmgan.data.sources.caption_pickle import read_words
from tmgan.data.sources.flower_tables import read_labels, read_sets
from tmgan.data.sources.read import read_source
from tmgan.data.sources.unpickle import load_metadata_pickle
from tmgan.data.stamps import read_stamps
from tmgan.data.vocabulary import Vocabulary
from tmgan.editing.photo_file import read_photo
from tmgan.evaluation.evaluate import Evaluation
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.protocol import Protocol
from tmgan.models.bundle import build_encoders, load_discriminator, load_encoders, load_generator, save_discriminator
from tmgan.published.networks import recognise
from tmgan.published.state_file import read_state
from tmgan.reports.run_report import report
from tmgan.training.build import build_discriminator
from tmgan.training.checkpoint import Checkpoints, newest_of

LISTS = Limit(400, 48 * MEGABYTE)  # Python's objects: a list of lists takes up to 72 bytes for each of the file
NETWORKS = Limit(6, 48 * MEGABYTE)
PICTURES = Limit(64, 96 * MEGABYTE)  # of at most _PIXELS here, each of BYTES_PER_PIXEL
BYTES_PER_PIXEL = 20  # that reading a photo or a mask takes at most
_PIXELS = 4_000_000  # Pillow's own limit, less for the cases here: 178 million take gigabytes and seconds


@dataclass(frozen=True)
class Case:
    """A folder in which one file varies: `place` writes it, `read` reads it with our reader."""

    seeds: list[bytes]
    place: Callable[[bytes], Any]
    read: Callable[[], Any]


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        form: "bytes", "json", "pickle" or "png": what besides bytes may be changed.
        make: the case, in a new folder.
    """

    name: str
    form: str
    limit: Limit
    make: Callable[[Path], Case]


def warm_up(case: Case) -> None:
    """Read the seeds: what is imported late takes memory once. Most of them must be valid."""
    Image.init()  # or the first file that no common format fits would import all of Pillow's
    read = 0
    for data in case.seeds:
        case.place(data)
        with contextlib.suppress(ValueError, OSError):
            case.read()
            read += 1
    assert 2 * read > len(case.seeds), f"{read} of {len(case.seeds)} seeds are read"
    settle()


def _file(path: Path, read: Callable[[], Any], *seeds: bytes) -> Case:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Case(list(seeds) or [path.read_bytes()], path.write_bytes, read)


def _any_of(*readers: Callable[[], Any]) -> Callable[[], Any]:
    """Call all of them; the first error is raised if all refuse."""

    def read() -> None:
        errors = []
        for reads in readers:
            try:
                reads()
            except (ValueError, OSError) as error:
                errors.append(error)
        if len(errors) == len(readers):
            raise errors[0]

    return read


# Pictures


def _pictures() -> list[Image.Image]:
    noise = data_folders.textured((44, 40), 1)
    return [noise, noise.convert("L"), noise.convert("RGBA"), noise.convert("P"), noise.convert("CMYK")]


def _encoded(formats: dict[str, tuple[str, ...]]) -> list[bytes]:
    """Small pictures by format and mode, with EXIF and a colour profile where the format takes them."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a bird"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files = []
    for kind, modes in formats.items():
        for picture in _pictures():
            if picture.mode in modes:
                out = io.BytesIO()
                more = {"exif": exif, "icc_profile": profile} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
                picture.save(out, kind, **more)
                files.append(out.getvalue())
    return files


_FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P",),
    "BMP": ("RGB", "P"),
    "TIFF": ("RGB", "CMYK"),
    "PPM": ("RGB",),
    "TGA": ("RGBA",),
    "ICO": ("RGBA",),
    "JPEG2000": ("RGB",),
    "EPS": ("RGB",),
    "PCX": ("P",),
}


def _small_pictures(read: Callable[[], Any]) -> Callable[[], Any]:
    """With less pixels allowed than the 178 million of Pillow, or a case would take seconds."""

    def reads() -> Any:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, _PIXELS // 2  # it refuses at twice as many
        try:
            return read()
        finally:
            Image.MAX_IMAGE_PIXELS = before

    return reads


def _photo_readers(path: Path) -> Callable[[], Any]:
    return _small_pictures(_any_of(partial(decode.open_photo, path, exif=True), partial(read_photo, path)))


def _photo(folder: Path) -> Case:
    path = folder / "photo.jpg"
    return _file(path, _photo_readers(path), *_encoded(_FORMATS))


def _png(folder: Path) -> Case:
    """PNG with its checksums right: else Pillow looks no further."""
    path = folder / "photo.png"
    case = _file(path, _photo_readers(path), *_encoded({"PNG": ("RGB", "L", "RGBA", "P")}))
    return replace(case, place=lambda data: path.write_bytes(with_checksums(data)))


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that belong to them, as far as it has chunks."""
    out, place = bytearray(data), 8
    while place + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, place)
        end = place + 8 + length
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[place + 4 : end]))
        place = end + 4
    return bytes(out)


def _mask(folder: Path) -> Case:
    path, size = folder / "mask.png", (40, 36)

    read = _any_of(*(partial(mask_file.open_map, path, size, exif=True, labels=labels) for labels in (True, False)))
    mask = Image.new("L", size)
    mask.paste(255, (5, 5, 20, 20))
    files = []
    for mode in ("L", "1", "P", "LA", "I;16"):
        out = io.BytesIO()
        (Image.fromarray(np.array(mask, np.uint16)) if mode == "I;16" else mask.convert(mode)).save(out, "PNG")
        files.append(out.getvalue())
    case = _file(path, _small_pictures(read), *files)
    return replace(case, place=lambda data: path.write_bytes(with_checksums(data)))


# Captions, vocabularies and lists


def _captions(folder: Path) -> Case:
    path = folder / "captions.txt"

    def read() -> None:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        lines = text.split("\n")
        for line in lines:
            captions.word_labels(captions.tokenize(line))
            captions.lost_letters(line)
        words = Vocabulary.from_captions(lines)
        for line in lines:
            words.encode(line)

    texts = ("a small red bird with a short bill\nthe wings are blue", "café caf\ufffd\ufffde, красных ²³ \u0130\u00df")
    return _file(path, read, *(text.encode() for text in texts))


def _attributes(folder: Path) -> Case:
    """Captions of a pack, as token ids: phrases and kinds of attributes."""
    words = Vocabulary.from_captions(["the bird has a red head and white wings with a short black bill is yellow long"])

    def read() -> None:
        data = np.frombuffer(path.read_bytes()[:4000], np.uint8).astype(np.int64) % len(words)
        tokens = np.zeros((len(data) // 12 + 1, 12), np.int64)
        tokens.reshape(-1)[: len(data)] = data
        tokens = torch.from_numpy(tokens)
        Attributes.of_corpus(words, tokens, (tokens > 0).sum(1).to(torch.int32))

    path = folder / "tokens"
    return _file(path, read, bytes(range(1, len(words))) * 20)


def _read_source(folder: Path) -> None:
    """Names in lists lead nowhere but into the folder."""
    for item in read_source(folder).items:
        for file in (item.image, item.mask, item.parts):
            if file is not None:
                assert os.path.normpath(file).startswith(f"{folder}{os.sep}"), file


def _cub(file: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        cub = data_folders.write_cub(folder / "cub", 8, (5, 6, 7))
        words = {0: "<end>", 1: "bird", 2: "red"}
        rows = [[1, 2]] * 5, [[2], [1, 1], [1]]
        if file == "captions.pickle":
            shutil.rmtree(cub / "text")
            table = [*rows, words, {word: number for number, word in words.items()}]
            (cub / file).write_bytes(pickle.dumps(table, 2))
        return _file(cub / file, partial(_read_source, cub))

    return make


def _pickled(folder: Path) -> Case:
    """The unpickler itself, in every protocol."""
    path = folder / "some.pickle"
    value = [["001.A/x", "é"], {0: "<end>", "bird": 1}, (1, 2.5, None, b"\xff"), 2**70, np.arange(6).reshape(2, 3)]

    read = _any_of(partial(load_metadata_pickle, path), partial(read_words, path))
    return _file(path, read, *(pickle.dumps(value, protocol) for protocol in range(6)))


def _metadata(folder: Path) -> Case:
    rows: list[dict[str, Any]] = [
        {"file_name": f"{n}.png", "text": f"a bird {n}", "class": "red", "bbox": [1, 2, 30, 20]} for n in range(3)
    ]
    rows[1] = {"file_name": "sub/1.png", "captions": ["a bird", "café"], "class": "blue", "split": "val"}
    source = data_folders.write_image_folder(folder / "images", rows)
    return _file(source / "metadata.jsonl", partial(_read_source, source))


def _metadata_row(folder: Path) -> Case:
    """One line, as JSON."""
    source = data_folders.write_image_folder(folder / "images", [{"file_name": "0.png", "text": "a bird"}])
    row = {"file_name": "0.png", "texts": ["a bird"], "class": 3, "bbox": [1, 2, 30, 20.5], "split": "test", "x": {}}
    return _file(source / "metadata.jsonl", partial(_read_source, source), json.dumps(row).encode())


def _coco(folder: Path) -> Case:
    source = data_folders.write_coco(folder / "coco")
    return _file(source / "annotations" / "captions_val2014.json", partial(_read_source, source))


def _matlab(folder: Path) -> Case:
    source = data_folders.write_flowers(folder / "flowers")
    compressed = io.BytesIO()
    data_folders.savemat(compressed, {"labels": np.arange(1, 9)}, do_compression=True)
    path = folder / "labels.mat"

    read = _any_of(partial(read_labels, path), partial(read_sets, path, None))
    seeds = [(source / name).read_bytes() for name in ("imagelabels.mat", "setid.mat")]
    return _file(path, read, *seeds, compressed.getvalue())


# Packs


def _pack(file: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        rows = [{"file_name": f"{n}.png", "text": f"a bird {n}", "split": "test" if n else "train"} for n in range(4)]
        source = data_folders.write_image_folder(folder / "images", rows)
        pack = folder / "pack"
        prepare(source, pack, image_size=64, workers=1, progress=False)
        header = json.loads((pack / "pack.json").read_text())

        def read() -> None:
            opened = Pack.open(pack)
            if file == "originals.json":
                Originals.open(opened)
            if file == "stamps.i64":
                read_stamps(pack, len(opened))
            if file in ("originals.json", "stamps.i64"):
                return
            int(opened.tiles.sum())
            assert isinstance(opened.hash, str)
            if file == "text.safetensors" and len(opened.train):
                for row in range(len(opened.tokens)):
                    opened.caption(row)
                Attributes.of_corpus(opened.vocabulary, *training_captions(opened))

        def place(data: bytes) -> None:
            """With its size, and the hash of its words, in the header."""
            (pack / file).write_bytes(data)
            if file != "pack.json":
                sizes = header["bytes"] | {file: len(data)}
                (pack / "pack.json").write_text(json.dumps(header | {"bytes": sizes}))

        return replace(_file(pack / file, read), place=place)

    return make


def _pack_header_of_texts(folder: Path) -> Case:
    """The header of text.safetensors, which says of what shape its tensors are."""
    case = _pack("text.safetensors")(folder)
    header, body = split_safetensors(case.seeds[0])
    return replace(case, seeds=[header], place=lambda data: case.place(join_safetensors(data, body)))


def split_safetensors(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from("<Q", data)
    return data[8 : 8 + length], data[8 + length :]


def join_safetensors(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


# Networks


def _tiny() -> TrainConfig:
    config = configfile.merge(configfile.from_preset("lightweight"), SMALL, "small")
    return configfile.merge(config, TINY, "tiny")


def _run_folder(folder: Path) -> Path:
    config = _tiny()
    words = Vocabulary.from_captions(["a red bird"])
    encoders = build_encoders(config.encoder, 64, words, seed=1)
    run = write_run(folder / "run", config, encoders)
    save_discriminator(build_discriminator(config.model, encoders.config.dim).state_dict(), config.model, run)
    return run


def _network(name: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        run = _run_folder(folder)
        path = run / f"{name}.safetensors"
        encoders = load_encoders(run)
        reads = {
            "encoders": partial(load_encoders, run),
            "generator": lambda: load_generator(run, encoders),
            "discriminator": lambda: load_discriminator(run),
        }
        return _file(path, reads[name])

    return make


def _network_header(name: str) -> Callable[[Path], Case]:
    """What the file says of itself: shapes, and our configuration and vocabulary, which is JSON in JSON."""

    def make(folder: Path) -> Case:
        case = _network(name)(folder)
        header, body = split_safetensors(case.seeds[0])
        table = json.loads(header)
        table["__metadata__"]["tmgan"] = json.loads(table["__metadata__"]["tmgan"])

        def place(data: bytes) -> None:
            try:
                changed = json.loads(data)
                changed["__metadata__"]["tmgan"] = json.dumps(changed["__metadata__"]["tmgan"])
                data = json.dumps(changed).encode()
            except (ValueError, KeyError, TypeError, RecursionError):
                pass
            case.place(join_safetensors(data, body))

        return replace(case, seeds=[json.dumps(table).encode()], place=place)

    return make


_STATE = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.num_batches_tracked": torch.tensor(3)}


def _state(present: bool) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        out = io.BytesIO()
        torch.save(_STATE, out, _use_new_zipfile_serialization=present)
        path = folder / "state.pth"
        return _file(
            path,
            _any_of(partial(read_state, path), lambda: recognise(read_state(path), path)),
            *([out.getvalue()] if present else [out.getvalue(), old_file(_STATE)]),
        )

    return make


def _state_pickle(folder: Path) -> Case:
    """The pickle inside torch's zip file."""
    case = _state(True)(folder)
    seed, place = _inside(case.seeds[0], "data.pkl")
    return replace(case, seeds=[seed], place=lambda data: case.place(place(data)))


def _inside(archive: bytes, name: str) -> tuple[bytes, Callable[[bytes], bytes]]:
    """A member of a zip file, and what makes the file with another one in its place."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        members = {entry: file.read(entry) for entry in file.namelist()}
    whole = next(entry for entry in members if entry.endswith(f"/{name}"))

    def place(data: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
            for entry, content in (members | {whole: data}).items():
                file.writestr(entry, content)
        return out.getvalue()

    return members[whole], place


def _checkpoint(inside: bool) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        adam = {"state": {0: {"step": 3.0}}, "param_groups": []}
        state = {"step": 1, "task": {"generator": _STATE, "optimiser": adam}}
        path = Checkpoints(folder / "checkpoints", 2, lambda line: None).save(8, state)
        path.rename(path.with_name("images-000000000009.pt"))
        path = path.with_name("images-000000000009.pt")

        def read() -> None:
            if newest_of([path], lambda line: None) is None:
                raise ValueError("it is damaged")

        case = _file(path, read)
        if not inside:
            return case
        seed, place = _inside(case.seeds[0], "data.pkl")
        return replace(case, seeds=[seed], place=lambda data: path.write_bytes(place(data)))

    return make


# Run folders


def _run_file(name: str) -> Callable[[Path], Case]:
    """A file of a run folder, through its report."""

    def make(folder: Path) -> Case:
        run = folder / "run"
        (run / "samples").mkdir(parents=True)
        config = _tiny()
        status = {"status": "failed", "images": 8, "tmgan": "1", "torch": "2", "updated": "now", "reason": "<b>"}
        evaluation = Evaluation(Protocol(), {"fid": Measure.of([1.0, 2.0])}, (1, 2), "", ("a|b",), {"x": "why"})
        files = {
            "config.yaml": configfile.to_yaml(config),
            "run.json": json.dumps(status),
            "stats.jsonl": '{"images": 8, "loss": 1.5, "images_per_second": 3}\n{"images": 16, "loss": null}\n',
            "evaluation.json": json.dumps({"trained": evaluation.to_json()}),
            "log.txt": "2026 NOTE: [a](b) <i>\n",
        }
        for file, text in files.items():
            (run / file).write_text(text)

        def read() -> None:
            page = report(run)
            assert "<script" not in page.html().lower()
            page.markdown("report")
            if name == "config.yaml":
                configfile.settings_of(run)
                configfile.read_yaml(run / name, TrainConfig())

        return _file(run / name, read)

    return make


def _evaluation(folder: Path) -> Case:
    path = folder / "evaluation.json"
    Evaluation(Protocol(), {"fid": Measure.of([1.0, 2.0])}, (1, 2), "", ("a|b",), {"x": "why"}).save(path)
    return _file(path, partial(Evaluation.load, path))


def _config(folder: Path) -> Case:
    path = folder / "some.yaml"
    small = "images: 64\nmodel: {image_size: 64, g_width: &x 4}\noptim:\n  lr_g: 1e-3\nseed: 0x10\n"
    full = configfile.to_yaml(_tiny())
    return _file(path, lambda: configfile.read_yaml(path, TrainConfig()), small.encode(), full.encode())


TARGETS = (
    Target("metadata pickle", "pickle", LISTS, _pickled),
    Target("captions.pickle", "pickle", LISTS, _cub("captions.pickle")),
    Target("filenames.pickle", "pickle", LISTS, _cub("train/filenames.pickle")),
    Target("class_info.pickle", "pickle", LISTS, _cub("train/class_info.pickle")),
    Target("CUB images.txt", "bytes", LISTS, _cub("CUB_200_2011/images.txt")),
    Target("CUB bounding_boxes.txt", "bytes", LISTS, _cub("CUB_200_2011/bounding_boxes.txt")),
    Target("metadata.jsonl", "bytes", LISTS, _metadata),
    Target("a row of metadata.jsonl", "json", LISTS, _metadata_row),
    Target("COCO captions", "json", LISTS, _coco),
    Target("Matlab lists", "bytes", LISTS, _matlab),
    Target("captions", "bytes", LISTS, _captions),
    Target("attributes", "bytes", LISTS, _attributes),
    Target("photo", "bytes", PICTURES, _photo),
    Target("PNG photo", "png", PICTURES, _png),
    Target("mask", "png", PICTURES, _mask),
    Target("pack.json", "json", LISTS, _pack("pack.json")),
    Target("names.json", "json", LISTS, _pack("names.json")),
    Target("vocabulary.json", "json", LISTS, _pack("vocabulary.json")),
    Target("originals.json", "json", LISTS, _pack("originals.json")),
    Target("stamps.i64", "bytes", LISTS, _pack("stamps.i64")),
    Target("text.safetensors", "bytes", LISTS, _pack("text.safetensors")),
    Target("text.safetensors, header", "json", LISTS, _pack_header_of_texts),
    Target("encoders.safetensors", "bytes", NETWORKS, _network("encoders")),
    Target("encoders.safetensors, header", "json", NETWORKS, _network_header("encoders")),
    Target("generator.safetensors", "bytes", NETWORKS, _network("generator")),
    Target("generator.safetensors, header", "json", NETWORKS, _network_header("generator")),
    Target("discriminator.safetensors", "bytes", NETWORKS, _network("discriminator")),
    Target("published weights", "bytes", NETWORKS, _state(True)),
    Target("published weights, pickle inside", "pickle", NETWORKS, _state_pickle),
    Target("published weights before torch 1.6", "pickle", NETWORKS, _state(False)),
    Target("checkpoint", "bytes", NETWORKS, _checkpoint(False)),
    Target("checkpoint, pickle inside", "pickle", NETWORKS, _checkpoint(True)),
    Target("--config", "bytes", LISTS, _config),
    Target("config.yaml of a run", "bytes", LISTS, _run_file("config.yaml")),
    Target("run.json", "json", LISTS, _run_file("run.json")),
    Target("stats.jsonl", "json", LISTS, _run_file("stats.jsonl")),
    Target("evaluation.json", "json", LISTS, _evaluation),
    Target("evaluation.json of a run", "json", LISTS, _run_file("evaluation.json")),
    Target("log.txt", "bytes", LISTS, _run_file("log.txt")),
)
