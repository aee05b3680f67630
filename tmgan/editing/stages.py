"""The stages of an edit, from a photo's file to the edited photo. One photo goes through them alone, many in batches.

read (threads) -> locate (batches) -> crop (threads) -> paint (batches) -> keep (one by one) -> finish (threads)

Networks and keep-masks are computed in the caller's thread, the work of Pillow in others. Files are decoded one at a
time, though (photo_file.py says why), while others are cropped and finished.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from tmgan.editing.change import add_change, change_in
from tmgan.editing.compositing import View, composite, keep_picture, to_tensor
from tmgan.editing.edited import Edited
from tmgan.editing.photo_file import Photo, read_photo
from tmgan.editing.pipeline import Failed, in_batches, in_threads, one_by_one, threads
from tmgan.editing.placement import Box, find_boxes, square, view_of
from tmgan.editing.requests import Request
from tmgan.methods.mask_providers import MaskProvider

if TYPE_CHECKING:
    from tmgan.editing.editor import Editor


class _Read(NamedTuple):
    request: Request
    whole: Photo
    view: Tensor | None  # for the provider, if that is to find the box


class _Located(NamedTuple):
    request: Request
    whole: Photo
    box: Box | None
    notes: tuple[str, ...]


class _Cropped(NamedTuple):
    request: Request
    whole: Photo
    square: tuple[int, int, int]
    before: Tensor  # (1, 3, S, S) in [-1, 1], as the network sees the square
    notes: tuple[str, ...]


class _Painted(NamedTuple):
    cropped: _Cropped
    after: Tensor  # (1, 3, S, S) in [-1, 1], on the CPU
    looks: tuple[tuple[str, Tensor], ...]


class _Kept(NamedTuple):
    painted: _Painted
    keep: Tensor | None  # M of the square, (1, 1, h, w)


class Stages:
    """The way of requests to edits.

    Args:
        find: who finds the object in a photo without a box; None for its centred square.
        strength: of all edits.
    """

    def __init__(self, editor: Editor, find: MaskProvider | None, strength: float):
        self.editor, self.find, self.strength = editor, find, strength

    def alone(self, request: Request) -> Edited:
        """One edit. What is wrong with it is raised."""
        (located,) = self.locate([self.read(request)])
        (painted,) = self.paint([self.crop(located)])
        return self.finish(self.keep(painted))

    def together(self, requests: Iterable[Request], batch: int) -> Iterator[Edited | Failed]:
        """Many edits, in order; `batch` of them at a time in the networks."""
        with threads() as pool:
            read = in_threads(self.read, requests, pool)
            located = in_batches(self.locate, read, batch if self.find is not None else 1)
            painted = in_batches(self.paint, in_threads(self.crop, located, pool), batch)
            yield from in_threads(self.finish, one_by_one(self.keep, painted), pool)

    def read(self, request: Request) -> _Read:
        self.editor.words(request.text)  # a text without any known word fails here, alone
        whole = read_photo(request.photo)
        wanted = self.find is not None and request.box is None
        return _Read(request, whole, view_of(_as_seen(whole)) if wanted else None)

    def locate(self, photos: list[_Read]) -> list[_Located]:
        asked = [(photo, photo.view) for photo in photos if photo.view is not None]
        boxes: Iterator[Box | None] = iter(())
        if self.find is not None and asked:
            texts, sizes = [photo.request.text for photo, _ in asked], [photo.whole.size for photo, _ in asked]
            boxes = iter(find_boxes(self.find, [view for _, view in asked], texts, sizes))
        located = []
        for request, whole, view in photos:
            if self.find is None or view is None:
                located.append(_Located(request, whole, request.box, ()))
            else:
                box = next(boxes)
                located.append(_Located(request, whole, box, (_where(self.find, request.name, box),)))
        return located

    def crop(self, photo: _Located) -> _Cropped:
        whole, size = photo.whole, self.editor.image_size
        left, top, side = where = square(whole.size, photo.box)
        area = (left, top, left + side, top + side)
        small = whole.over_white(area).resize((size, size), Image.Resampling.BILINEAR)
        before = to_tensor(whole.colour.to_srgb(small))
        return _Cropped(photo.request, whole, where, before, whole.notes + photo.notes)

    def paint(self, photos: list[_Cropped]) -> list[_Painted]:
        words = [self.editor.words(photo.request.text) for photo in photos]
        groups = defaultdict(list)
        for i, photo in enumerate(photos):
            groups[photo.request.seed].append(i)
        painted: dict[int, _Painted] = {}
        for seed, group in groups.items():
            before, texts = [photos[i].before for i in group], [photos[i].request.text for i in group]
            output = self.editor.edit_tensors(torch.cat(before), texts, seed, self.strength)
            images, attention = output.image.float().cpu(), output.attention.float().cpu()
            for k, i in enumerate(group):
                looks = tuple(zip(words[i], attention[k], strict=False))  # padding comes last
                painted[i] = _Painted(photos[i], images[k : k + 1], looks)
        return [painted[i] for i in range(len(photos))]

    def keep(self, photo: _Painted) -> _Kept:
        request, whole, where, before, _ = photo.cropped
        if request.keep is None:
            return _Kept(photo, None)
        return _Kept(photo, request.keep(View(_as_seen(whole), where, before, photo.after, request.text)))

    def finish(self, photo: _Kept) -> Edited:
        (cropped, after, looks), keep = photo
        whole, where = cropped.whole, cropped.square
        result = add_change(whole, change_in(whole, cropped.before, after), where)
        picture = whole.with_pixels(result)
        if keep is None:
            return Edited(picture, where, None, None, cropped.notes, looks)
        mask = keep_picture(keep, whole.size, where)
        composited = whole.with_pixels(composite(whole.rgb, result, mask))
        return Edited(picture, where, composited, mask, cropped.notes, looks)


def _as_seen(photo: Photo) -> Image.Image:
    """The whole photo as networks see it: in sRGB, over white where it is transparent."""
    return photo.colour.to_srgb(photo.over_white())


def _where(provider: MaskProvider, name: str, box: Box | None) -> str:
    """Where the object of a photo was found, as a sentence."""
    classes = provider.about.get("classes", ())
    what = " or ".join([classes] if isinstance(classes, str) else classes) or "object"
    if box is None:
        return f"{name}: {provider.name} finds no {what}, the centred square is edited"
    return f"{name}: {provider.name} finds the {what} at {' '.join(f'{number:g}' for number in box)}"
