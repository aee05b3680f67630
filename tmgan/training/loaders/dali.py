"""The loader on NVIDIA DALI: it decodes the original files at every step, on the GPU where there is one.

Of a picture, the region that the pack keeps is decoded, the part of it that the crop needs is resized, then flipped and
normalised. What to read comes from the plan, so there is no DALI reader, no shuffle buffer and no checkpoint of it.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from nvidia.dali import Pipeline, fn, types
from nvidia.dali.data_node import DataNode
from PIL import Image
from torch import Tensor

from tmgan.data.decode import FORMATS, BadImage, open_photo
from tmgan.data.originals import Originals
from tmgan.training.loaders.batch import Batch, Columns
from tmgan.training.loaders.crops import host_keep_masks
from tmgan.training.plan import Plan, Planner

if TYPE_CHECKING:
    import nvidia.dali.fn.io.file  # noqa: F401 (DALI's stubs do not say that fn.io has it)

AHEAD = 3  # batches that are decoded or waiting
_KNOWN = {"JPEG", "MPO", "JPEG2000", "PNG", "TIFF", "WEBP", "BMP", "PPM"}  # Pillow's names of what DALI decodes


class DaliLoader:
    """A Loader on DALI.

    Args:
        threads: of DALI, on the CPU.

    Raises:
        ValueError: by the step that needs it, a picture is missing, damaged or of a format that DALI does not know.
    """

    pixels = "dali"

    def __init__(
        self, planner: Planner, columns: Columns, originals: Originals, masks: Tensor | None, size: int, threads: int
    ):
        self.planner, self.columns, self.originals, self.masks, self.size = planner, columns, originals, masks, size
        # Rows of (y, x), as DALI counts: the region of each picture, and how many of its pixels make one of the crop's
        region = originals.regions[:, [1, 0, 3, 2]]
        self._start, self._shape = region[:, :2], region[:, 2:] - region[:, :2]
        self._scale = self._shape / originals.scaled[:, ::-1]
        self._names = [np.frombuffer(os.fsencode(path), np.uint8) for path in originals.paths]
        self._ahead: deque[tuple[int, Plan]] = deque()  # what DALI has and has not yet returned
        self._next = 0  # the step that it gets next
        self._pipeline: Pipeline | None = self._build(threads)

    def __call__(self, step: int) -> Batch:
        if all(other != step for other, _ in self._ahead):
            self._next = step
        number = None
        while number != step:  # more than once only if `step` is not the next one
            pictures = self._run()
            number, plan = self._ahead.popleft()
        # DALI writes into the same memory again
        images = torch.from_dlpack(pictures.as_tensor()).permute(0, 3, 1, 2).clone(memory_format=torch.preserve_format)
        return self.columns.batch(plan, images, host_keep_masks(self.masks, plan, self.size, self.columns.device))

    def close(self) -> None:
        """End DALI's threads and give its memory back."""
        self._pipeline = None

    def _build(self, threads: int) -> Pipeline:
        device = self.columns.device
        on_gpu = device.type == "cuda"
        pipeline = Pipeline(
            batch_size=self.planner.batch,
            num_threads=threads,
            prefetch_queue_depth=AHEAD,
            device_id=(device.index or 0) if on_gpu else None,
        )
        # The hardware decoder's memory is taken once, for the largest picture. Its chroma is upsampled as libjpeg does.
        decode = (
            partial(
                fn.decoders.image_slice,
                device="mixed",
                jpeg_fancy_upsampling=True,
                preallocate_width_hint=int(self.originals.sizes[:, 0].max()),
                preallocate_height_hint=int(self.originals.sizes[:, 1].max()),
            )
            if on_gpu
            else fn.decoders.image_slice
        )
        with pipeline:
            names, start, shape, low, high, flip = fn.external_source(source=self._give, num_outputs=6, batch=True)
            regions = decode(
                fn.io.file.read(names), start=start, shape=shape, axes=(0, 1), adjust_orientation=self.originals.exif
            )
            crops = fn.resize(
                regions,
                size=(self.size, self.size),
                roi_start=low,
                roi_end=high,
                interp_type=types.DALIInterpType.INTERP_LINEAR,
                antialias=True,
            )
            assert isinstance(crops, DataNode)
            pictures = fn.crop_mirror_normalize(
                crops,
                mirror=flip,
                mean=[127.5] * 3,
                std=[127.5] * 3,
                dtype=types.DALIDataType.FLOAT,
                output_layout="HWC",
            )
            pipeline.set_outputs(pictures)
        pipeline.build()
        return pipeline

    def _give(self) -> tuple:
        """The next plan as DALI reads it: file names, what to decode, where the crop lies in that, and flips."""
        plan = self.planner(self._next)
        self._ahead.append((self._next, plan))
        self._next += 1
        rows = plan.index.numpy()
        low = self.originals.corners[rows, ::-1] + np.stack([plan.top.numpy(), plan.left.numpy()], 1)
        low, high = (corner * self._scale[rows] for corner in (low, low + self.size))
        return (
            [self._names[row] for row in rows],
            self._start[rows],
            self._shape[rows],
            low.astype(np.float32),
            high.astype(np.float32),
            plan.flip.numpy().astype(np.int32),
        )

    def _run(self):
        stream = (torch.cuda.current_stream(self.columns.device),) if self.columns.device.type == "cuda" else ()
        assert self._pipeline is not None
        try:
            return self._pipeline.run(*stream)[0]
        except RuntimeError as error:
            raise ValueError(self._culprit(error)) from error

    def _culprit(self, error: RuntimeError) -> str:
        """Which file DALI failed on: it sees bytes and does not say. The oldest batch is looked at first."""
        for step, plan in self._ahead:
            for row in plan.index.tolist():
                path = self.originals.paths[row]
                try:
                    open_photo(path, self.originals.exif)
                    with Image.open(path, formats=FORMATS) as image:
                        kind = image.format
                except BadImage as problem:
                    return f"{problem}. The dali loader needs it for step {step}."
                if kind not in _KNOWN:
                    return (
                        f"{path} is a {kind} file, which DALI cannot decode: save it as PNG, or use "
                        "--runtime.loader pillow."
                    )
        lines = str(error).strip().splitlines()
        return f"DALI failed: {lines[-2] if len(lines) > 1 else error}. Try --runtime.loader pillow."
