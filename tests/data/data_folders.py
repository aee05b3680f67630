"""Source folders for the data tests. An image's colour, captions, class and box tell its number, so a mix-up shows."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

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


def coco_name(number: int, split: str = "train2014") -> str:
    return f"COCO_{split}_{number:012d}"


def write_picture(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, colour_of(number)).save(file, quality=95)


def coco_json(numbers: Sequence[int], split: str, captions: int = 5) -> dict:
    """What captions_<split>.json holds; image n has the id 1000 + n, and the captions are in another order."""
    images = [{"id": 1000 + n, "file_name": f"{coco_name(n, split)}.jpg", "width": SIZE[0]} for n in numbers]
    rows = [(n, text) for n in numbers for text in captions_of(n, captions)]
    annotations = [{"image_id": 1000 + n, "id": k, "caption": text} for k, (n, text) in enumerate(rows)]
    return {"info": {}, "images": images, "licenses": [], "annotations": annotations[::-1]}


def write_coco(folder: Path, train: Sequence[int] = range(6), test: Sequence[int] = (6, 7, 8), where: str = "") -> Path:
    """COCO 2014 as its archives unpack, with the folders of pictures in `where`."""
    (folder / "annotations").mkdir(parents=True)
    for split, numbers in (("train2014", train), ("val2014", test)):
        (folder / "annotations" / f"captions_{split}.json").write_text(json.dumps(coco_json(numbers, split)))
        for number in numbers:
            write_picture(folder / where / split / f"{coco_name(number, split)}.jpg", number)
    return folder


def write_coco_metadata(folder: Path, place: str = "images") -> Path:
    """COCO as AttnGAN's metadata has it: 6 images of train2014 and 3 of val2014, pictures in `place`/{split}."""
    for split, numbers, names in (("train", range(6), "train2014"), ("test", (6, 7, 8), "val2014")):
        (folder / split).mkdir(parents=True)
        (folder / "text").mkdir(exist_ok=True)
        listed = [coco_name(number, names) for number in numbers]
        (folder / split / "filenames.pickle").write_bytes(pickle.dumps(listed, 2))
        for number, name in zip(numbers, listed, strict=True):
            (folder / "text" / f"{name}.txt").write_text("\n".join(captions_of(number, 5)) + "\n")
            write_picture(folder / place.format(split=names) / f"{name}.jpg", number)
    return folder


def flower_class(number: int) -> int:
    """Of image `number`, from 1. Oxford's images are not in the order of their classes."""
    return (7 * number) % 4 + 1


def write_flowers(folder: Path, count: int = 12, jpg: str = "jpg", text: str = "text_c10") -> Path:
    """Oxford-102 with Reed's captions: `count` images of 4 classes, and every kind of split."""
    for number in range(1, count + 1):
        write_picture(folder / jpg / f"image_{number:05d}.jpg", number)
        file = folder / text / f"class_{flower_class(number):05d}" / f"image_{number:05d}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(captions_of(number, 4)) + "\n")
    lists = folder / Path(jpg).parent
    savemat(lists / "imagelabels.mat", {"labels": np.array([[flower_class(n) for n in range(1, count + 1)]], np.uint8)})
    numbers = np.arange(1, count + 1, dtype=np.uint16)[None]
    savemat(lists / "setid.mat", {"trnid": numbers[:, 4::-1], "valid": numbers[:, 5:6], "tstid": numbers[:, 6:]})
    (folder / "trainvalclasses.txt").write_text("class_00003\nclass_00001\nclass_00002\n")
    (folder / "testclasses.txt").write_text("class_00004\n")
    return folder
