"""Source folders for the data tests. An image's colour, captions, class and box tell its number, so a mix-up shows."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (72, 56)


def name_of(number: int) -> str:
    return f"{number // 5 + 1:03d}.Kind{number // 5 + 1}/Kind_{number:04d}"


def colour_of(number: int) -> tuple[int, int, int]:
    """Steps of 16, so that JPEG's rounding cannot turn one into another. Up to 256 images."""
    return 16 * (number % 16) + 8, 16 * (number // 16) + 8, 128


def number_of(pixel: Sequence[int]) -> int:
    return int(pixel[0]) // 16 + 16 * (int(pixel[1]) // 16)


def captions_of(number: int, count: int = 3) -> list[str]:
    return [f"A bird called bird{number}, caption {line}." for line in range(count)]


def textured(size: tuple[int, int], seed: int, mode: str = "RGB") -> Image.Image:
    """Smooth noise: every pixel of a wrong crop or filter differs."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (size[1] // 6 + 2, size[0] // 6 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def mask_of(number: int) -> Image.Image:
    """An object whose width tells the number."""
    mask = Image.new("L", SIZE)
    mask.paste(255, (0, 0, 20 + number, SIZE[1]))
    return mask


def write_cub(
    folder: Path,
    count: int = 20,
    test: Sequence[int] = (5, 6, 7, 8, 9),
    masks: bool = False,
    text: str = "text",
    captions: int = 3,
) -> Path:
    """A CUB folder of `count` plain images with captions and both kinds of lists; class k has images 5k-5 to 5k-1."""
    cub = folder / "CUB_200_2011"
    lines: dict[str, list[str]] = {"images": [], "bounding_boxes": [], "image_class_labels": [], "train_test_split": []}
    # Written in an order that is not that of the lists below, as nothing may depend on it.
    for number in reversed(range(count)):
        name = name_of(number)
        for file in (cub / "images" / f"{name}.jpg", folder / text / f"{name}.txt"):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, colour_of(number)).save(cub / "images" / f"{name}.jpg", quality=95)
        (folder / text / f"{name}.txt").write_text("\n".join(captions_of(number, captions)) + "\n")
        if masks:
            file = cub / "segmentations" / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            mask_of(number).save(file)
        lines["images"].append(f"{number + 1} {name}.jpg")
        lines["bounding_boxes"].append(f"{number + 1} 10.9 {number % 5}.0 40.0 30.5")
        lines["image_class_labels"].append(f"{number + 1} {number // 5 + 1}")
        lines["train_test_split"].append(f"{number + 1} {int(number % 2)}")
    for file, rows in lines.items():
        (cub / f"{file}.txt").write_text("\n".join(rows) + "\n")
    write_lists(folder, [number for number in range(count) if number not in test], list(test))
    return folder


def write_lists(folder: Path, train: list[int], test: list[int]) -> None:
    for split, numbers in (("train", train), ("test", test)):
        (folder / split).mkdir(exist_ok=True)
        names, classes = [name_of(number) for number in numbers], [number // 5 + 1 for number in numbers]
        (folder / split / "filenames.pickle").write_bytes(pickle.dumps(names, 2))
        (folder / split / "class_info.pickle").write_bytes(pickle.dumps(classes, 2))


def write_image_folder(folder: Path, rows: Sequence[dict], images: bool = True) -> Path:
    """A Hugging Face image folder of the given metadata rows; files that are not there are drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        file = folder / row["file_name"]
        if images and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE, colour_of(number)).save(file)
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return folder
