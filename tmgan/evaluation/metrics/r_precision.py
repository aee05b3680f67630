"""R-precision (Xu et al., AttnGAN, CVPR 2018): of 100 captions, is a picture's own the most similar one?

Similarity is the cosine of the picture's code and a caption's sentence code; one caption is the picture's own, the
others are of images of other classes in the same split, drawn for each picture by itself. Chance is 1 in 100. Of real
photos it says how good the encoders are; of edits, with the text that each had to obey, how well they obey as the run's
own encoders see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor
from tmgan.evaluation.metrics.edits import Edits, make_pairs
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.per_image import PerImage
from tmgan.evaluation.protocol import Protocol
from tmgan.models.bundle import RANDOM_NOTE

CANDIDATES = 100
_CHUNK = 512  # captions that are encoded at once
_KEY = 0x59EC  # of its random numbers


@dataclass(frozen=True)
class RPrecision:
    """How often the own caption was found.

    Attributes:
        measure: 1 for each picture whose own caption is the most similar one, 0 for the others.
        candidates: captions that each was compared with, its own among them.
    """

    measure: Measure
    candidates: int

    def __str__(self) -> str:
        assert self.measure.low is not None and self.measure.high is not None
        few = "" if self.candidates == CANDIDATES else ", for want of other captions"
        return (
            f"R-precision {self.measure.value:.2f} (95% interval {self.measure.low:.2f} to {self.measure.high:.2f}; "
            f"1 of {self.candidates}{few}; chance {1 / self.candidates:.2g}), {self.measure.n:,} photos"
        )


class Candidates:
    """The captions that n pictures are compared with, encoded once each.

    Args:
        own: (n,) row of each picture's own caption.
        wrong: (n, K) rows of the others, K >= 1.
        encode: rows (m,) -> sentence codes (m, D).
    """

    def __init__(self, own: Tensor, wrong: Tensor, encode: Callable[[Tensor], Tensor]):
        used, self._places = torch.unique(torch.cat([own[:, None], wrong], 1), return_inverse=True)
        self._sentences = torch.cat([encode(chunk).float() for chunk in used.split(_CHUNK)])

    def __len__(self) -> int:
        """How many for each picture, its own among them."""
        return self._places.shape[1]

    def found(self, codes: Tensor, first: int) -> Tensor:
        """codes (B, D) of the pictures from number `first` on -> (B,) bool; an equally similar one is not enough."""
        places = self._places[first : first + len(codes)].to(self._sentences.device)
        similarity = F.cosine_similarity(codes.float()[:, None], self._sentences[places], dim=2)
        return similarity[:, 0] > similarity[:, 1:].amax(1)

    def precision(self, codes: Iterable[Tensor]) -> RPrecision:
        """Of all n pictures, from their codes (B, D) in order, in parts."""
        found: list[float] = []
        for part in codes:
            found += self.found(part, len(found)).double().tolist()
        return RPrecision(Measure.of(found, better="higher"), len(self))


def wrong_captions(pack: Pack, split: Tensor, own: Tensor, seed: int, count: int = CANDIDATES - 1) -> Tensor:
    """Wrong captions for pictures whose own ones are given: of images of other classes, or of other images where the
    split has one class only. Captions that read the same as the own one are left out.

    Args:
        split: (N,) images of the pack.
        own: (n,) rows of captions of these images.
        seed: draws them, for each own caption by itself.

    Returns:
        (n, K) rows of captions, K = `count`, or what the one with the fewest has; perhaps 0.
    """
    owner = torch.repeat_interleave(torch.arange(len(pack)), pack.first.diff())
    pool = torch.nonzero(torch.isin(owner, split)).flatten()
    several = len(pack.class_ids[split].unique()) > 1
    groups = (pack.class_ids[owner[pool]] if several else owner[pool]).numpy()
    texts = torch.unique(pack.tokens[pool], dim=0, return_inverse=True)[1].numpy()
    drawn = []
    for row, place in zip(own.tolist(), torch.searchsorted(pool, own).tolist(), strict=True):
        wrong = pool.numpy()[(groups != groups[place]) & (texts != texts[place])]
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([_KEY, seed, row])))
        drawn.append(random.choice(wrong, min(count, len(wrong)), replace=False))
    fewest = min(map(len, drawn))
    return torch.from_numpy(np.stack([rows[:fewest] for rows in drawn]))


class EditsFound(PerImage):
    """r_precision: how often an edit's text is found among those of other classes.

    Raises:
        ValueError: the split has no other captions.
    """

    def __init__(self, editor: Editor, pack: Pack, protocol: Protocol):
        super().__init__()
        self.editor, self.seen = editor, 0
        pairs = make_pairs(pack, protocol.split, protocol.count, protocol.captions, protocol.seed)
        split = {"train": pack.train, "test": pack.test}[protocol.split]
        wrong = wrong_captions(pack, split, pairs.target, protocol.seed)
        if wrong.shape[1] == 0:
            raise ValueError(f"R-precision needs captions of other photos, and the {protocol.split} split has none.")

        def encode(rows: Tensor) -> Tensor:
            return editor.encoders.text(*editor.tokens([pack.caption(row) for row in rows.tolist()]))[1]

        self.candidates = Candidates(pairs.target, wrong, encode)

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        _, code = self.editor.encoders.photo.regions_and_code(batch.edits)
        found = self.candidates.found(code, self.seen)
        self.seen += len(code)
        return {"r_precision": found}

    def measure(self, name: str, values: list[float]) -> Measure:
        note = f"r_precision: {RANDOM_NOTE}" if self.editor.encoders.weights == "random" else ""
        return Measure.of(values, unit=f"found among {len(self.candidates)}", better="higher", note=note)
