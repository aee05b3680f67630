"""Manipulative precision (Li et al., ManiGAN, CVPR 2020): does the edit obey the text and leave the photo recognisable?

    mp = (1 - mean |x - y|) * cos(image code of y, sentence code of its text),  x and y in [0, 1]

A mean of products, one per image. The code that defined its encoders was never published; here they are the run's
own DAMSM encoders, so numbers of runs with other encoders are not comparable. A model that copies its input has no
difference, but the photo's own similarity to the text: always read `mp_difference` beside it.
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
        _, code = self.editor.encoders.photo.regions_and_code(batch.edits)
        _, sentence = self.editor.encoders.text(*self.editor.tokens(batch.texts))
        similarity = F.cosine_similarity(code.double(), sentence.double())
        difference = ((batch.photos - batch.edits) / 2).abs().double().mean((1, 2, 3))
        return {"mp_damsm": (1 - difference) * similarity, "mp_difference": difference, "mp_similarity": similarity}

    def measure(self, name: str, values: list[float]) -> Measure:
        note = f"mp_damsm: {RANDOM_NOTE}" if self.editor.encoders.weights == "random" else ""
        return Measure.of(values, better={"mp_difference": ""}.get(name, "higher"), note=note)
