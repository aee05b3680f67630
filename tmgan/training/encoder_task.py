"""DAMSM: train text and photo encoders so that a photo's regions match its caption's words.

Source: AttnGAN (Xu et al., CVPR 2018), section 3.2. The encoders stay frozen while the GAN trains.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from tmgan.config.methods import MethodConfig, RestoreConfig
from tmgan.config.runtime import Runtime
from tmgan.config.settings import SWAPS, DamsmConfig
from tmgan.data.crops import centre_crops
from tmgan.data.masks import open_masks
from tmgan.data.pack import Pack, spread
from tmgan.evaluation.metrics.edits import make_pairs
from tmgan.evaluation.metrics.r_precision import Candidates, RPrecision, wrong_captions
from tmgan.losses.matching import sentence_score, word_attention, words_score
from tmgan.methods.recolour import Recolour
from tmgan.models.bundle import Encoders, save_encoders
from tmgan.reports.pictures import grid, save_picture
from tmgan.training.build import colour_table
from tmgan.training.encoder_step import EncoderStep, encode_swaps
from tmgan.training.loaders import make_loader
from tmgan.training.loaders.batch import Batch, Columns
from tmgan.training.loaders.crops import planned_crops
from tmgan.training.plan import CaptionTable, Planner

_DRAWN, _WORDS = 6, 8  # photos and words in a progress picture
_MEASURED = 2  # swaps of each caption
_RETRIEVED = 500  # held-out photos of an R-precision before the end


class EncoderTask:
    """The encoders as a task for the training loop."""

    def __init__(self, config: DamsmConfig, pack: Pack, encoders: Encoders, runtime: Runtime):
        pack.require_unchanged()
        self.config, self.pack, self.encoders, self.runtime = config, pack, encoders, runtime
        self.seed, self.batch = config.seed, config.pretrain.batch
        hard = config.pretrain.hard_negatives
        recolours = SWAPS if config.pretrain.recolour > 0 else 0
        # Without hard negatives a few, of the captions to measure by.
        images = None if hard else pack.test
        self.table = CaptionTable.from_pack(
            pack, config.text.words, config.text.subsets, SWAPS if hard else _MEASURED, recolours, images
        )
        if hard and not (self.table.swaps != torch.arange(len(self.table.swaps))[:, None]).any():
            raise ValueError(
                "The captions name no attribute that could be another, so there are no hard negatives to make of them: "
                "--pretrain.hard-negatives 0."
            )
        tile = pack.tiles.shape[1]
        masks, method, self.recolour = None, MethodConfig(), None
        if config.pretrain.recolour > 0:
            masks = open_masks(pack, config.pretrain.masks)
            method = MethodConfig(
                keep_mask=config.pretrain.masks, restore=RestoreConfig(p=config.pretrain.recolour, swap=1.0)
            )
            self.recolour = Recolour(colour_table(pack.vocabulary, runtime.device))
        size = pack.image_size
        self.planner = Planner(
            config.seed, self.table, pack.train, tile, size, self.batch, method=method, hard_negatives=hard
        )
        self.columns = Columns(pack, self.table, runtime.device)
        self.loader, self.loader_reason = make_loader(runtime, pack, self.planner, self.columns, masks)
        self.text, self.photo = encoders.text.to(runtime.device), encoders.photo.to(runtime.device)
        self._final: RPrecision | None = None  # of the trained encoders
        self.train_step = EncoderStep(self.text, self.photo, config.pretrain, config.loss, len(pack.train), runtime)
        self._exported = dataclasses.replace(
            encoders,
            text=copy.deepcopy(self.text).to("meta"),
            photo=copy.deepcopy(self.photo).to("meta"),
            of=config.pretrain.images,
        )

    def step(self, step: int) -> dict[str, Tensor]:
        """One update from the step's batch."""
        batch = self.loader(step)
        drop = self.config.pretrain.dropout
        dropout = None
        if drop > 0:
            dropout = self.planner.dropout(step, batch.tokens.shape[1], self.text.word_dim, drop)
            dropout = dropout.to(self.runtime.device, non_blocking=True)
        images, tokens, swap_tokens = self.shown(batch)
        return self.train_step(step, images, tokens, batch.lengths, batch.class_ids, dropout, swap_tokens)

    def shown(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Photos (B, 3, S, S), their texts (B, L) and swaps of these (B, K, L), some with a colour swapped in both.

        Such a photo's own caption is then one of the swaps.
        """
        if self.recolour is None:
            return batch.images, batch.tokens, batch.swap_tokens
        assert batch.keep is not None and batch.swap_tokens is not None
        assert batch.recolour is not None and batch.restore is not None
        images, true = self.recolour.swap(
            batch.images, 1 - batch.keep, batch.tokens, batch.target_tokens, batch.recolour, batch.restore
        )
        tokens = torch.where(true[:, None], batch.target_tokens, batch.tokens)
        other = torch.where(true[:, None], batch.tokens, batch.swap_tokens[:, 0])
        return images, tokens, torch.cat([other[:, None], batch.swap_tokens[:, 1:]], 1)

    @torch.no_grad()
    def measure(self, images: int) -> dict[str, float]:
        """How well held-out photos and captions are told apart.

        Args:
            images: seen so far.

        Returns:
            retrieval_top1: how often a caption finds its own photo among `retrieval_photos` photos. binding_words and
            binding_sentence: how often a photo fits its own caption better than a swap of it, by the words and by the
            sentence; 0.5 is chance. Without them where captions have no attributes to swap. r_precision: how often a
            photo finds its own caption among `r_precision_candidates`; at the end of all held-out photos, before of
            some, r_precision_photos.
        """
        if len(self.pack.test) < 2:
            return {}
        batch, regions, code, words, sentence = self._encode(self.batch)
        similarity = torch.nn.functional.normalize(sentence.float()) @ torch.nn.functional.normalize(code.float()).T
        hits = similarity.argmax(1) == torch.arange(len(code), device=similarity.device)
        retrieval = {"retrieval_top1": hits.float().mean().item(), "retrieval_photos": len(code)}
        end = images >= self.config.pretrain.images
        found = self.r_precision(len(self.pack.test) if end else _RETRIEVED)
        if found is not None:
            self._final = found if end else None
            retrieval["r_precision"] = found.measure.value
            retrieval |= {"r_precision_candidates": found.candidates, "r_precision_photos": found.measure.n}
        return retrieval | self._binding(batch, regions, code, words, sentence)

    @torch.no_grad()
    def r_precision(self, count: int) -> RPrecision | None:
        """How often held-out photos find their own caption among others, as in AttnGAN.

        Args:
            count: photos, at most: the first ones in an order that follows from the seed.

        Returns:
            None where no photos are held out, or no captions that differ.
        """
        pack, device, size = self.pack, self.runtime.device, self.pack.image_size
        if len(pack.test) < 2:
            return None
        pairs = make_pairs(pack, "test", count, "own", self.config.seed)
        wrong = wrong_captions(pack, pack.test, pairs.own, self.config.seed)
        if wrong.shape[1] == 0:
            return None
        self.text.eval()
        self.photo.eval()

        def sentences(rows: Tensor) -> Tensor:
            lengths = pack.lengths[rows].long()
            tokens = pack.tokens[rows, : int(lengths.max())].long()
            with self.runtime.autocast():
                return self.text(tokens.to(device), lengths.to(device))[1]

        def codes(images: Tensor) -> Tensor:
            with self.runtime.autocast():
                return self.photo.regions_and_code(centre_crops(pack.tiles, images, size).to(device))[1]

        return Candidates(pairs.own, wrong, sentences).precision(map(codes, pairs.image.split(self.batch)))

    def conclusion(self) -> str:
        """The R-precision of all held-out photos in words; "" where there is none."""
        found = self._final or self.r_precision(len(self.pack.test))
        return "" if found is None else str(found)

    def _binding(
        self, batch: Batch, regions: Tensor, code: Tensor, words: Tensor, sentence: Tensor
    ) -> dict[str, float]:
        assert batch.swap_tokens is not None
        differs = (batch.swap_tokens != batch.tokens[:, None]).any(2)
        if not differs.any():
            return {}
        swap_words, swap_sentences = encode_swaps(self.text, batch.swap_tokens, batch.lengths)
        padding, gammas = batch.tokens == 0, (self.config.loss.gamma1, self.config.loss.gamma2)
        own, swaps = (words_score(regions, text, padding, gammas) for text in (words[:, None], swap_words))
        by_words = (own > swaps)[differs]
        own, swaps = (sentence_score(code, text) for text in (sentence[:, None], swap_sentences))
        by_sentence = (own > swaps)[differs]
        return {"binding_words": by_words.float().mean().item(), "binding_sentence": by_sentence.float().mean().item()}

    def _encode(self, count: int) -> tuple[Batch, Tensor, Tensor, Tensor, Tensor]:
        """Encode some held-out photos, spread over the classes, in eval mode; training ones where none are held out.

        Returns:
            Their batch, regions, codes, words and sentences.
        """
        items = spread(self.pack.test if len(self.pack.test) else self.pack.train, count)
        tile, swaps = self.pack.tiles.shape[1], self.table.swaps.shape[1]
        planner = Planner(
            self.config.seed, self.table, items, tile, self.pack.image_size, len(items), hard_negatives=swaps
        )
        plan = planner(0)
        images = planned_crops(self.pack.tiles, plan, self.pack.image_size).to(self.runtime.device)
        batch = self.columns.batch(plan, images, None)
        self.text.eval()
        self.photo.eval()
        with self.runtime.autocast():
            return batch, *self.photo.regions_and_code(batch.images), *self.text(batch.tokens, batch.lengths)

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Photos, and where the first words of their captions look."""
        batch, regions, _, words, _ = self._encode(_DRAWN)
        attention = word_attention(regions, words, batch.tokens == 0, self.config.loss.gamma1)[1].float()
        columns, titles = [batch.images], ["photo"]
        size = batch.images.shape[-2:]
        for k in range(min(_WORDS, int(batch.lengths.min()))):
            heat = attention[:, k : k + 1]
            heat = heat / heat.amax((2, 3), keepdim=True).clamp(min=1e-8)
            heat = torch.nn.functional.interpolate(heat, size=size, mode="bilinear", align_corners=False)
            columns.append(batch.images * (0.25 + 0.75 * heat) - 0.75 * (1 - heat))
            titles.append(" / ".join(self.encoders.vocabulary.words[i] for i in batch.tokens[:, k].tolist()))
        save_picture(grid(columns, titles), path)

    def identity(self) -> dict[str, str]:
        return {"pack": self.pack.hash}

    def state_dict(self) -> dict:
        return self.train_step.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.train_step.load_state_dict(state)

    def notes(self) -> list[str]:
        return []

    def export(self, folder: Path, images: int, state: dict) -> None:
        """Write encoders.safetensors."""
        for network, name in ((self._exported.text, "text"), (self._exported.photo, "photo")):
            network.load_state_dict(state[name], assign=True)
        save_encoders(dataclasses.replace(self._exported, images=images), folder)
