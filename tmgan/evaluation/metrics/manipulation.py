"""Manipulative precision: does the edit obey the text and leave the photo recognisable?

    mp  = (1 - mean |x - y|) * cos(y, t)                   ManiGAN (Li et al., CVPR 2020)
    rmp = (1 - mean |x - y|) * (cos(y, t) - cos(x, t))     relative to the photo, as named by DE-Net (AAAI 2023)

of photo x and edit y in [0, 1]; the cosines are of an image's code and the sentence code of text t. Means of products,
one per image. The code that defined ManiGAN's encoders was never published; here they are the run's own DAMSM encoders,
so numbers of runs with other encoders are not comparable.

A model that copies its input has no difference, and the photo's own similarity to the text for an mp: always read
`mp_difference` beside it. Its rmp is 0: only similarity that an edit has gained counts. The training script of DE-Net
(Tao et al.) logs an rmp beside each mp, but the function that computes it was not published with it. So the formula is
what the name says, and not known to give DE-Net's numbers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tmgan.editing.editor import Editor
from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.per_image import PerImage
from tmgan.models.bundle import RANDOM_NOTE


class ManipulativePrecision(PerImage):
    """mp_damsm, and its factors mp_difference and mp_similarity."""

    def __init__(self, editor: Editor):
        super().__init__()
        self.editor = editor

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        (similarity,), difference = _similarities(self.editor, batch.texts, batch.edits), _difference(batch)
        return {"mp_damsm": (1 - difference) * similarity, "mp_difference": difference, "mp_similarity": similarity}

    def measure(self, name: str, values: list[float]) -> Measure:
        better = {"mp_difference": ""}.get(name, "higher")
        return Measure.of(values, better=better, note=_note("mp_damsm", self.editor))


class RelativeManipulativePrecision(PerImage):
    """rmp_damsm, and mp_similarity_photo, how well the photo fits the text before the edit."""

    def __init__(self, editor: Editor):
        super().__init__()
        self.editor = editor

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        after, before = _similarities(self.editor, batch.texts, batch.edits, batch.photos)
        return {"rmp_damsm": (1 - _difference(batch)) * (after - before), "mp_similarity_photo": before}

    def measure(self, name: str, values: list[float]) -> Measure:
        better = "higher" if name == "rmp_damsm" else ""
        return Measure.of(values, better=better, note=_note("rmp_damsm", self.editor))


def _similarities(editor: Editor, texts: list[str], *images: Tensor) -> list[Tensor]:
    """Cosines (B,) of the codes of images (B, 3, S, S) and of their texts, for each of `images`."""
    _, sentence = editor.encoders.text(*editor.tokens(texts))
    codes = (editor.encoders.photo.regions_and_code(each)[1] for each in images)
    return [F.cosine_similarity(code.double(), sentence.double()) for code in codes]


def _difference(batch: Edits) -> Tensor:
    """(B,) mean absolute difference of photo and edit, both in [0, 1]."""
    return ((batch.photos - batch.edits) / 2).abs().double().mean((1, 2, 3))


def _note(name: str, editor: Editor) -> str:
    return f"{name}: {RANDOM_NOTE}" if editor.encoders.weights == "random" else ""
