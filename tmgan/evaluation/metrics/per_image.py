"""Metrics with one number per edit.

mask_score     Table I: mean of ((photo - edit) * keep)^2 over all pixels, in levels of 255 squared
kept           the share of the picture that the mask says should stay; a mask score is proportional to it
sharpness      Table II: mean absolute Laplacian of the grey picture, in levels of 255
preserved      squared error and PSNR inside the mask: divided by its area, unlike the mask score
"""

from __future__ import annotations

from torch import Tensor

from tmgan.common.progress import Progress
from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.measure import Measure
from tmgan_kernels import mask_score, sharpness_score

LEAST_AREA = 0.01  # preserved-region numbers leave out images whose mask covers less than this


class PerImage:
    """A metric that looks at one batch of edits after the other. Subclasses define the numbers of an image."""

    sees_edits = True

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        """Values (B,) by the name of the number."""
        raise NotImplementedError

    def measure(self, name: str, values: list[float]) -> Measure:
        """The measure of a number's values, one per image: adds unit and direction."""
        raise NotImplementedError

    def add(self, batch: Edits) -> None:
        """Look at one more batch."""
        for name, values in self.of_batch(batch).items():
            self._values.setdefault(name, []).append(values.double())

    def measures(self, show: Progress) -> dict[str, Measure]:
        """By name, over everything seen."""
        return {
            name: self.measure(name, [v for part in parts for v in part.tolist()])
            for name, parts in self._values.items()
        }


class MaskScore(PerImage):
    """mask_score/MASK and kept/MASK."""

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        scores = {
            f"mask_score/{name}": mask_score(batch.photos, batch.edits, keep) for name, keep in batch.keep.items()
        }
        return scores | {f"kept/{name}": keep.mean((1, 2, 3)) for name, keep in batch.keep.items()}

    def measure(self, name: str, values: list[float]) -> Measure:
        if name.startswith("kept/"):
            return Measure.of(values, unit="of the picture")
        return Measure.of(values, unit="levels of 255, squared", better="lower")


class Sharpness(PerImage):
    """sharpness of the edits, and sharpness_photo for comparison. Zero border, as published."""

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        return {"sharpness": sharpness_score(batch.edits), "sharpness_photo": sharpness_score(batch.photos)}

    def measure(self, name: str, values: list[float]) -> Measure:
        return Measure.of(values, unit="levels of 255", better="higher" if name == "sharpness" else "")


class Preserved(PerImage):
    """preserved_mse/MASK and preserved_psnr/MASK: sum(keep (x - y)^2) / (3 sum(keep)), images in [0, 1].

    The PSNR is that of the mean squared error over the images: a single exact copy does not make it infinite.
    """

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        squared = ((batch.photos - batch.edits) / 2).square().mean(1, keepdim=True)
        numbers: dict[str, Tensor] = {}
        for name, keep in batch.keep.items():
            area = keep.sum((1, 2, 3))
            mse = (squared * keep).sum((1, 2, 3)) / area
            mse = mse.masked_fill(area < LEAST_AREA * keep[0].numel(), float("nan"))
            numbers |= {f"preserved_mse/{name}": mse, f"preserved_psnr/{name}": mse}
        return numbers

    def measure(self, name: str, values: list[float]) -> Measure:
        if name.startswith("preserved_mse/"):
            return Measure.of(values, unit="of full scale, squared", better="lower")
        return Measure.of(values, unit="dB", better="higher", statistic="psnr")
