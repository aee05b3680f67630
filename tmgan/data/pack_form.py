"""What the lists of a pack must be like: it may come from anywhere."""

from __future__ import annotations

import re
from typing import Any

import torch

from tmgan.data.palette import PALETTE, PARTS, PATTERNS

_TEXTS = {
    "tokens": (torch.int32, 2),
    "word_labels": (torch.uint8, 2),
    "lengths": (torch.int32, 1),
    "first": (torch.int64, 1),
    "class_ids": (torch.int64, 1),
    "split": (torch.uint8, 1),
}  # type and dimensions
_OPTIONAL = {"colours": (torch.int8, 2), "patterns": (torch.uint8, 2)}


def problem_of_names(names: Any, count: int) -> str:
    """What is wrong with the contents of names.json, for `count` images; "" if nothing."""
    if not isinstance(names, dict) or not isinstance(names.get("class_names"), dict):
        return "names.json is damaged: it is of another form"
    if not isinstance(names.get("names"), list) or not all(isinstance(name, str) for name in names["names"]):
        return "names.json is damaged: it holds no list of names"
    classes = names["class_names"].items()
    if not all(re.fullmatch("-?[0-9]{1,19}", key) and isinstance(name, str) for key, name in classes):
        return "names.json is damaged: it has other classes than numbers with names"
    return (
        ""
        if len(names["names"]) == count
        else f"names.json is damaged: it has {len(names['names']):,} names, not {count:,}"
    )


def problem_of_texts(text: dict[str, torch.Tensor], count: int, words: int) -> str:
    """What is wrong with text.safetensors, for `count` images and `words` words; "" if nothing."""
    file = "text.safetensors is damaged: it"
    for name, kind in {**_TEXTS, **{name: kind for name, kind in _OPTIONAL.items() if name in text}}.items():
        if name not in text or (text[name].dtype, text[name].ndim) != kind:
            return f"{file} has no {name}, or of another kind"
    tokens, lengths, first = text["tokens"], text["lengths"], text["first"]
    if not len(text["class_ids"]) == len(text["split"]) == len(first) - 1 == count:
        return f"{file} is not of {count:,} images"
    if not 0 < len(tokens) == len(lengths) or text["word_labels"].shape != tokens.shape or tokens.shape[1] == 0:
        return f"{file} does not have as many lengths and labels as captions"
    if first[0] != 0 or first[-1] != len(tokens) or not bool((first.diff() > 0).all()):
        return f"{file} does not say which captions are of which image"
    if int(tokens.min()) < 0 or int(tokens.max()) >= words or int(lengths.min()) < 1:
        return f"{file} holds words that there are not"
    if int(lengths.max()) > tokens.shape[1]:
        return f"{file} holds a caption that is longer than it"
    for name, low, high in (("colours", -1, len(PALETTE)), ("patterns", 0, len(PATTERNS))):
        table = text.get(name)
        if table is not None and not (
            table.shape == (count, len(PARTS)) and low <= int(table.min()) and int(table.max()) < high
        ):
            return f"{file} has {name} that there are not"
    return ""
