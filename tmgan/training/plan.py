"""plan(step): every random choice of a training step, as a pure function of (seed, step, row in the batch).

Counter-based (Philox), so nothing about randomness is ever saved: the same command resumes, every loader and engine
sees the same stream, and any step can be replayed. Row r of a batch does not depend on the batch's size.
No other module of the training path draws random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tmgan.common.philox import Purpose, normal, random_bits, uniform
from tmgan.config.methods import MethodConfig
from tmgan.data.attributes import Attributes, training_captions
from tmgan.data.pack import Pack
from tmgan.methods.recolour import DRAWS

_TABLE_SEED = 0x5AB5E7  # subsets of long captions and their swaps belong to the pack, not to the run
_CHUNK = 65_536  # captions changed at a time
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class CaptionTable:
    """Captions as fixed-size rows.

    A caption longer than `words` has `subsets` rows, each a fixed random subset of its words in their order (published:
    a new subset each time, which cannot be precomputed).

    Behind these own rows may lie changed ones, which their photos do not show (data/attributes.py): `swaps`, with one
    attribute replaced or two exchanged, and `recolours`, of which a recoloured photo is true.
    """

    tokens: Tensor  # (R, words) int64, zero padded
    lengths: Tensor  # (R,) int64
    labels: Tensor  # (R, words) bool: nouns and adjectives
    first: Tensor  # (M,) int64: first row of caption m
    variants: Tensor  # (M,) int64: rows of caption m
    of_image: Tensor  # (N + 1,) int64: captions of image i are of_image[i] : of_image[i + 1]
    swaps: Tensor  # (own, swaps) int64: rows of the swaps of each own row; itself where its caption allows none
    recolours: Tensor  # (own, recolours) int64, the same for these

    @staticmethod
    def from_pack(
        pack: Pack, words: int, subsets: int, swaps: int = 0, recolours: int = 0, images: Tensor | None = None
    ) -> CaptionTable:
        """The captions of a pack.

        Args:
            swaps, recolours: how many of each caption.
            images: (n,) int64, only of the captions of these. None: of all.
        """
        lengths = pack.lengths.to(torch.int64)
        variants = torch.where(lengths > words, subsets, 1)
        first = torch.cumsum(variants, 0) - variants
        tokens = torch.zeros(int(variants.sum()), words, dtype=torch.int64)
        labels = torch.zeros(tokens.shape, dtype=torch.bool)
        columns = min(words, pack.tokens.shape[1])
        short = torch.nonzero(lengths <= words).flatten()
        tokens[first[short], :columns] = pack.tokens[short, :columns].to(torch.int64)
        labels[first[short], :columns] = pack.word_labels[short, :columns].bool()
        for caption in torch.nonzero(lengths > words).flatten().tolist():
            length = int(lengths[caption])
            order = np.argsort(
                random_bits(_TABLE_SEED, Purpose.LONG, caption, (subsets, length)), axis=1, kind="stable"
            )
            subset = torch.from_numpy(np.sort(order[:, :words], axis=1))
            rows = slice(int(first[caption]), int(first[caption]) + subsets)
            tokens[rows] = pack.tokens[caption, subset].to(torch.int64)
            labels[rows] = pack.word_labels[caption, subset].bool()
        row_lengths = torch.repeat_interleave(lengths.clamp(max=words), variants)
        own = torch.arange(len(tokens))[:, None]
        table = CaptionTable(
            tokens, row_lengths, labels, first, variants, pack.first.to(torch.int64), own[:, :0], own[:, :0]
        )
        if swaps + recolours == 0:
            return table
        attributes = Attributes.of_corpus(pack.vocabulary, *training_captions(pack))
        owner = torch.repeat_interleave(torch.repeat_interleave(torch.arange(len(pack)), pack.first.diff()), variants)
        wanted = torch.ones_like(owner, dtype=torch.bool) if images is None else torch.isin(owner, images)
        table, places = table._with(attributes.variants, swaps, Purpose.TABLE_SWAPS, wanted)
        table = replace(table, swaps=places)
        table, places = table._with(attributes.colour_swaps, recolours, Purpose.TABLE_RECOLOURS, wanted)
        return replace(table, recolours=places)

    def _with(self, change: Change, count: int, purpose: Purpose, wanted: Tensor) -> tuple[CaptionTable, Tensor]:
        """The table with `count` changed captions for each own one that is `wanted` behind all others, and (own, count)
        their rows: the own row itself where there is nothing to change."""
        own, total = int(self.variants.sum()), len(self.tokens)
        places = torch.arange(own)[:, None].repeat(1, count)
        tokens, sources = [self.tokens], [torch.arange(total)]
        for start in range(0, own if count else 0, _CHUNK):
            rows = slice(start, min(start + _CHUNK, own))
            size = rows.stop - start
            draws = torch.from_numpy(uniform(_TABLE_SEED, purpose, start // _CHUNK, (size, 4 * count)))
            texts, differs = change(self.tokens[rows], draws.view(size, count, 4))
            differs = differs & wanted[rows, None]
            number = total + differs.flatten().cumsum(0).view_as(differs) - 1
            sources.append(places[rows][differs])
            places[rows] = torch.where(differs, number, places[rows])
            tokens.append(texts[differs])
            total += len(tokens[-1])
        source = torch.cat(sources)
        table = replace(self, tokens=torch.cat(tokens), lengths=self.lengths[source], labels=self.labels[source])
        return table, places


@dataclass(frozen=True)
class Plan:
    """The random choices of one step, on the CPU. B rows."""

    index: Tensor  # (B,) image in the pack
    top: Tensor  # (B,) first row of the crop in the tile
    left: Tensor  # (B,) first column of the crop
    flip: Tensor  # (B,) bool, mirror left-right
    caption: Tensor  # (B,) row of the caption table: the photo's own caption
    target_index: Tensor  # (B,) image the target text belongs to
    target_caption: Tensor  # (B,) row of the caption table: the text the generator must obey
    noise: Tensor  # (B, noise_dim) standard normal
    eps: Tensor  # (B, condition_dim) standard normal, for the conditioning augmentation
    blur_sizes: Tensor  # (B,) int64 edge of the blur of each photo, for the discriminator; 1 if there is none
    swaps: Tensor  # (B, hard_negatives) rows of the caption table: swaps of the own caption, or itself without any
    restore: Tensor | None  # (B,) bool: the generator gets the photo with its object recoloured; None: never
    recolour: Tensor | None  # (B, DRAWS) float32 in [0, 1], see methods/recolour.py


class Planner:
    """Makes the Plan of any step.

    Args:
        items: (n,) image numbers to train on, visited once per epoch in a new order.
        tile, size: edges of the tiles and of the crops, in pixels.
        method: probabilities of the kinds of target texts and of restoring, and edges to choose from for the blur of
            each photo.
        hard_negatives: swaps of each own caption, of those that the table has.
    """

    def __init__(
        self,
        seed: int,
        table: CaptionTable,
        items: Tensor,
        tile: int,
        size: int,
        batch: int,
        noise_dim: int = 1,
        condition_dim: int = 1,
        method: MethodConfig | None = None,
        hard_negatives: int = 0,
    ):
        method = method or MethodConfig()
        self.seed, self.table, self.items, self.batch = seed, table, items.numpy(), batch
        self.offsets = tile - size  # the published crop draws from 0 .. tile - size - 1
        self.noise_dim, self.condition_dim, self.hard_negatives = noise_dim, condition_dim, hard_negatives
        # A photo gets another one's text, its own with an attribute swapped, is restored, or none of these.
        kinds = (method.mismatched_text_p, method.swapped_text_p, method.restore.p)
        self._mismatched, self._swapped, self._restored = np.cumsum(kinds)
        self._recoloured = self._swapped + method.restore.p * method.restore.swap  # the first of what is restored
        self.blur_sizes = np.array(method.blur.sizes or (1,), dtype=np.int64)
        self._orders: dict[int, np.ndarray] = {}

    def __call__(self, step: int) -> Plan:
        items = self._order(step)
        index = torch.from_numpy(items)
        place = uniform(self.seed, Purpose.CROP, step, (self.batch, 2))
        corner = torch.from_numpy(np.floor(place * max(1, self.offsets)).astype(np.int64))
        flip = torch.from_numpy(uniform(self.seed, Purpose.FLIP, step, (self.batch, 1))[:, 0] < 0.5)
        draws = torch.from_numpy(uniform(self.seed, Purpose.CAPTION, step, (self.batch, 2)))
        subset = torch.from_numpy(uniform(self.seed, Purpose.SUBSET, step, (self.batch, 2)))
        mismatch = uniform(self.seed, Purpose.MISMATCH, step, (self.batch, 2))
        other = self.items[np.floor(mismatch[:, 1] * len(self.items)).astype(np.int64)]
        kind = mismatch[:, 0]
        target = torch.from_numpy(np.where(kind < self._mismatched, other, items))
        caption = self._caption(index, draws[:, 0], subset[:, 0])
        own = target == index
        swaps = self._swaps(step, caption)
        own_text = caption
        if self._swapped > self._mismatched:
            swap = torch.from_numpy((kind >= self._mismatched) & (kind < self._swapped))
            own_text = torch.where(swap, self._one(self.table.swaps[caption], Purpose.RECAPTION, step), own_text)
        if self._recoloured > self._swapped:
            swap = torch.from_numpy((kind >= self._swapped) & (kind < self._recoloured))
            own_text = torch.where(swap, self._one(self.table.recolours[caption], Purpose.RECAPTION, step), own_text)
        blur = uniform(self.seed, Purpose.BLUR, step, (self.batch, 1))[:, 0]
        target_caption = torch.where(own, own_text, self._caption(target, draws[:, 1], subset[:, 1]))
        restore = recolour = None
        if self._restored > self._swapped:
            restore = torch.from_numpy((kind >= self._swapped) & (kind < self._restored))
            recolour = torch.from_numpy(uniform(self.seed, Purpose.RECOLOUR, step, (self.batch, DRAWS))).float()
        return Plan(
            index,
            corner[:, 0].contiguous(),
            corner[:, 1].contiguous(),
            flip,
            caption,
            target,
            target_caption,
            torch.from_numpy(normal(self.seed, Purpose.NOISE, step, (self.batch, self.noise_dim))),
            torch.from_numpy(normal(self.seed, Purpose.CONDITION, step, (self.batch, self.condition_dim))),
            torch.from_numpy(self.blur_sizes[np.floor(blur * len(self.blur_sizes)).astype(np.int64)]),
            swaps,
            restore,
            recolour,
        )

    def dropout(self, step: int, positions: int, channels: int, p: float) -> Tensor:
        """(B, positions, channels) float32: 0 with probability p rounded to 1/256, else 1 / (1 - p).

        What the text encoder multiplies its word embeddings by.
        """
        raw = random_bits(self.seed, Purpose.DROPOUT, step, (self.batch, -(-positions * channels // 8)))
        threshold = round(256 * p)
        keep = torch.from_numpy(raw.view(np.uint8)[:, : positions * channels] >= threshold)
        return keep.view(self.batch, positions, channels) * (256 / (256 - threshold))

    def _order(self, step: int) -> np.ndarray:
        """Images of the step: the endless stream of shuffled epochs, cut into batches."""
        place = np.arange(step * self.batch, (step + 1) * self.batch)
        epoch, place = place // len(self.items), place % len(self.items)
        epochs = range(int(epoch[0]), int(epoch[-1]) + 1)
        self._orders = {e: self._orders[e] if e in self._orders else self._shuffle(e) for e in epochs}
        return np.array(
            [self._orders[e][p] for e, p in zip(epoch.tolist(), place.tolist(), strict=True)], dtype=np.int64
        )

    def _shuffle(self, epoch: int) -> np.ndarray:
        return self.items[
            np.argsort(random_bits(self.seed, Purpose.ORDER, epoch, (len(self.items), 1))[:, 0], kind="stable")
        ]

    def _one(self, rows: Tensor, purpose: Purpose, step: int) -> Tensor:
        """(B,) one of each row of (B, K)."""
        draw = torch.from_numpy(uniform(self.seed, purpose, step, (self.batch, 1)))
        return rows.gather(1, (draw * rows.shape[1]).to(torch.int64))[:, 0]

    def _swaps(self, step: int, caption: Tensor) -> Tensor:
        """(B, hard_negatives) different swaps of each caption, a run of the table's row that begins anywhere in it."""
        swaps = self.table.swaps[caption]
        if self.hard_negatives == 0:
            return swaps[:, :0]
        start = uniform(self.seed, Purpose.SWAP, step, (self.batch, 1)) * swaps.shape[1]
        place = torch.from_numpy(np.floor(start).astype(np.int64)) + torch.arange(self.hard_negatives)
        return swaps.gather(1, place % swaps.shape[1])

    def _caption(self, image: Tensor, draw: Tensor, subset: Tensor) -> Tensor:
        table = self.table
        count = table.of_image[image + 1] - table.of_image[image]
        caption = table.of_image[image] + (draw * count).to(torch.int64)
        return table.first[caption] + (subset * table.variants[caption]).to(torch.int64)
