"""CLIP directional similarity: does the picture change in the direction in which the caption does?

    clip_direction = cos(E(y) - E(x), E(target) - E(own)),  E of length 1

with clip_image = cos(E(x), E(y)) and clip_text = cos(E(y), E(target)): a model trades the first two for each other.
Definition and preprocessing are those of InstructPix2Pix (Brooks et al., CVPR 2023). The model is a folder in the
format of Hugging Face's transformers; nothing is downloaded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.editing.editor import Editor
from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.per_image import PerImage
from tmgan.models import weights

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SOURCE = weights.MODEL_FOLDERS["clip"]
_NO_EDIT = 1e-6  # a shorter difference of embeddings has no direction


class ClipDirection(PerImage):
    """clip_direction, clip_image and clip_text.

    Raises:
        ValueError: when there is no model, or no change of caption.
    """

    def __init__(self, editor: Editor, folder: str, captions: str):
        super().__init__()
        absent = _SOURCE.absent(folder)
        if absent:
            raise ValueError(
                f"CLIP is read from the folder that --clip names{f', {folder},' if folder else ''} and "
                f"lacks {', '.join(absent)}. Put a copy of {_SOURCE.url} there."
            )
        if captions == "own":
            raise ValueError("CLIP's direction is that from a photo's own caption to another: use --captions other.")
        try:
            from transformers import AutoTokenizer, CLIPModel
        except ImportError:
            raise ValueError("CLIP similarity needs the package transformers: pip install 'tmgan[clip]'") from None
        device = editor.runtime.device
        self.model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self.model.float().eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (_MEAN, _STD))

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        before, after = self._images(batch.photos), self._images(batch.edits)
        own, target = self._texts(batch.own), self._texts(batch.texts)
        of_image, of_text = after - before, target - own
        direction = F.cosine_similarity(of_image, of_text)
        none = (of_image.norm(dim=1) < _NO_EDIT) | (of_text.norm(dim=1) < _NO_EDIT)
        return {
            "clip_direction": direction.masked_fill(none, 0.0),
            "clip_image": F.cosine_similarity(before, after),
            "clip_text": F.cosine_similarity(after, target),
        }

    def measure(self, name: str, values: list[float]) -> Measure:
        none = sum(value == 0 for value in values) if name == "clip_direction" else 0
        note = f"clip_direction counts {none} edits that changed nothing as 0." if none else ""
        return Measure.of(values, better="higher", note=note)

    def _images(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) in [-1, 1] -> embeddings (B, D) of length 1."""
        size = self.model.config.vision_config.image_size
        small = F.interpolate((images + 1) / 2, size=(size, size), mode="bicubic", align_corners=False)
        features = self.model.get_image_features(pixel_values=(small - self.mean) / self.std)
        return F.normalize(features.pooler_output.double(), dim=1)

    def _texts(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            return_tensors="pt",
            max_length=self.model.config.text_config.max_position_embeddings,
        )
        return F.normalize(self.model.get_text_features(**tokens.to(self.mean.device)).pooler_output.double(), dim=1)
