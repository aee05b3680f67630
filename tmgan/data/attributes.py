"""Captions with one attribute changed: false of the photo, though nearly all of their words are those of its caption.

One attribute is replaced by another of its kind, or two of a kind are exchanged ("a red head and white wings" -> "a
white head and red wings"); "a" and "an" before them follow. Compare NegCLIP (Yuksekgonul et al., ICLR 2023).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tmgan.data.attribute_kinds import FoundKind, Kind, find_kinds
from tmgan.data.colour_words import COLOUR_WORDS, are_apart
from tmgan.data.pack import Pack
from tmgan.data.phrases import Flags, Ids, Phrases
from tmgan.data.vocabulary import Vocabulary

_ROWS = 4096  # captions at a time: bounds the memory
_EXCHANGE = 0.5


def training_captions(pack: Pack) -> tuple[Tensor, Tensor]:
    """Tokens (M, L) int64 and lengths (M,) of the captions of a pack's training images, in its order."""
    image = torch.repeat_interleave(torch.arange(len(pack)), pack.first.diff())
    rows = torch.isin(image, pack.train)
    return pack.tokens[rows].to(torch.int64), pack.lengths[rows]


class Attributes:
    """The attributes that captions name, and variants of captions in which one is another.

    Attributes:
        kinds: what was found, colours first; empty if captions name nothing that has an alternative.
    """

    def __init__(self, vocabulary: Vocabulary, phrases: Phrases, found: list[FoundKind], takes_an: Flags):
        """As `of_corpus` makes it; takes_an (V,): words before which captions write "an"."""
        self.kinds: tuple[Kind, ...] = tuple(each.kind for each in found)
        self._phrases = phrases
        self._takes_an = takes_an
        self._a, self._an = _articles(vocabulary)
        self._ids = np.concatenate([each.ids for each in found] + [np.zeros(1, np.int64)])  # the last: no attribute
        none = len(self._ids) - 1
        self._order = np.full(len(vocabulary), none)
        self._order[self._ids[:none]] = np.arange(none)
        apart = np.zeros((none + 1, none + 1), bool)
        clash = np.zeros((none + 1, none + 1), bool)
        start = 0
        for each in found:
            here = slice(start, start := start + len(each.ids))
            apart[here, here] = each.apart
            clash[here, here] = ~each.apart
        none_usual = np.zeros((len(vocabulary), 1), bool)
        self._usual = torch.from_numpy(np.concatenate([each.usual for each in found] + [none_usual], 1))
        colours = [word for word in vocabulary.words if word in COLOUR_WORDS]
        self._colours = torch.tensor([vocabulary.words.index(word) for word in colours], dtype=torch.int64)
        alike = [[not are_apart(one, other) for other in colours] for one in colours]
        self._colours_apart = ~torch.tensor(alike, dtype=torch.bool).view(len(colours), len(colours))
        self._apart, self._clash = torch.from_numpy(apart), torch.from_numpy(clash).float()

    @classmethod
    def of_corpus(cls, vocabulary: Vocabulary, tokens: Tensor, lengths: Tensor) -> Attributes:
        """Read the attributes from captions, of training images only if the others are to stay unseen.

        Args:
            tokens: (M, L) word ids; captions of a photo one after another, as in a pack: that they repeat themselves
                tells which words are alternatives.
            lengths: (M,) words in each; what follows them is not read.
        """
        table = tokens.cpu().to(torch.int64, copy=True).numpy()
        table[np.arange(table.shape[1]) >= lengths.cpu().numpy()[:, None]] = 0
        phrases = Phrases(vocabulary, table)
        return cls(vocabulary, phrases, find_kinds(vocabulary, table, phrases), _read_articles(vocabulary, table))

    def variants(self, tokens: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """K variants of each of R captions.

        A new word contradicts all that the caption says of the noun ("gray and black wings" do not become "black and
        black wings"), and but for colours the captions say it of that noun somewhere. Only words that are said of
        different nouns are exchanged.

        Args:
            tokens: (R, L) int64 word ids, 0 = padding.
            draws: (R, K, 4) float64 in [0, 1): which attribute, which replacement, which partner of an exchange, and
                below 0.5: exchange where that can be done.

        Returns:
            Variants (R, K, L) int64, and (R, K) bool, False where a caption has no attribute with an alternative: that
            variant is the caption.
        """
        variants = tokens[:, None].repeat(1, draws.shape[1], 1)
        differs = torch.zeros(draws.shape[:2], dtype=torch.bool)
        if self.kinds:
            for start in range(0, len(tokens), _ROWS):
                here = slice(start, start + _ROWS)
                self._change(tokens[here], draws[here], variants[here], differs[here])
        return variants, differs

    def colour_swaps(self, tokens: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """K variants of each of R captions, in which a colour is another wherever it is named, or two change places.

        What looks like the caption can be recoloured to look like the variant, without knowing which part has which
        colour. So all colour words of the vocabulary may come in, however seldom captions name them. Arguments and
        results are as for `variants`.
        """
        ids, apart = self._colours, self._colours_apart
        if not len(ids):
            return tokens[:, None].repeat(1, draws.shape[1], 1), torch.zeros(draws.shape[:2], dtype=torch.bool)
        named = (tokens[:, :, None] == ids).any(1)  # (R, C)
        free = (named.float() @ (~apart).float() == 0)[:, None].expand(-1, draws.shape[1], -1)  # of all that is named
        old = _pick(named[:, None].expand_as(free), draws[..., 0])  # (R, K)
        partners = named[:, None] & apart[old]
        exchanges = (draws[..., 3] < _EXCHANGE) & partners.any(2)
        new = torch.where(exchanges, _pick(partners, draws[..., 2]), _pick(free, draws[..., 1]))
        differs = named.any(1)[:, None] & (exchanges | free.any(2))
        old, new = ids[old][..., None], ids[new][..., None]
        before = tokens[:, None].expand(-1, draws.shape[1], -1)
        variants = torch.where(differs[..., None] & (before == old), new, before)
        variants = torch.where(exchanges[..., None] & (before == new), old, variants)
        if self._a and self._an:
            following = torch.cat([variants[..., 1:], torch.zeros_like(variants[..., :1])], 2)
            changed = torch.cat([(variants != before)[..., 1:], torch.zeros_like(differs)[..., None]], 2)
            right = torch.where(torch.from_numpy(self._takes_an)[following], self._an, self._a)
            article = (variants == self._a) | (variants == self._an)
            variants = torch.where(changed & article, right, variants)
        return variants, differs

    def _change(self, tokens: Tensor, draws: Tensor, variants: Tensor, differs: Tensor) -> None:
        """Write into `variants` and `differs`."""
        table = tokens.numpy()
        order = torch.from_numpy(self._order[table])
        none = len(self._ids) - 1
        there = order < none
        places = int(there.sum(1).max())
        if not places:
            return
        columns = torch.argsort((~there).int(), dim=1, stable=True)[:, :places]  # (R, P), those without one last
        words = order.gather(1, columns)
        nouns = torch.from_numpy(self._phrases.said_of(table)).gather(1, columns)
        same = (nouns[:, :, None] == nouns[:, None]) & there.gather(1, columns)[:, None]
        # (R, P, W): what may stand in each place. A matrix product counts the words of the same noun that forbid it.
        fits = self._apart[words] & self._usual[nouns] & (torch.bmm(same.float(), self._clash[words]) == 0)
        others = words[:, None].expand(-1, places, -1)
        exchange = fits.gather(2, others)  # none of one noun: a word of it forbids itself
        exchange &= exchange.transpose(1, 2) & (nouns > 0)[:, :, None] & (nouns > 0)[:, None]

        rows = torch.arange(len(tokens))[:, None]
        exchanges = (draws[..., 3] < _EXCHANGE) & exchange.flatten(1).any(1)[:, None]
        ready = torch.where(exchanges[..., None], exchange.any(2)[:, None], fits.any(2)[:, None])
        place = _pick(ready, draws[..., 0])
        partner = _pick(exchange[rows, place], draws[..., 2])
        ids = torch.from_numpy(self._ids)
        new = torch.where(exchanges, words[rows, partner], _pick(fits[rows, place], draws[..., 1]))
        differs.copy_(ready.any(2))
        self._write(variants, columns[rows, place], ids[new], differs)
        self._write(variants, columns[rows, partner], ids[words[rows, place]], exchanges)

    def _write(self, variants: Tensor, columns: Tensor, ids: Tensor, where: Tensor) -> None:
        """Put words `ids` (R, K) at `columns` (R, K) of variants (R, K, L), and the right article before them."""
        at = columns[..., None]
        variants.scatter_(2, at, torch.where(where[..., None], ids[..., None], variants.gather(2, at)))
        if not (self._a and self._an):
            return
        before = (at - 1).clamp(min=0)
        article = variants.gather(2, before)
        changes = where[..., None] & (at > 0) & ((article == self._a) | (article == self._an))
        right = torch.where(torch.from_numpy(self._takes_an)[ids], self._an, self._a)[..., None]
        variants.scatter_(2, before, torch.where(changes, right, article))


def _pick(mask: Tensor, draws: Tensor) -> Tensor:
    """mask (..., N), draws (...) in [0, 1) -> index (...) of one that is True; 0 where none is."""
    so_far = mask.cumsum(-1, dtype=torch.int32)
    rank = (draws * so_far[..., -1]).to(torch.int32)
    return (so_far <= rank[..., None]).sum(-1) * (so_far[..., -1] > 0)


def _articles(vocabulary: Vocabulary) -> tuple[int, int]:
    """Ids of "a" and "an"; 0 for one that no caption has."""
    words = vocabulary.words
    return (words.index("a") if "a" in words else 0), (words.index("an") if "an" in words else 0)


def _read_articles(vocabulary: Vocabulary, tokens: Ids) -> Flags:
    """(V,) words that take "an", as the captions mostly have it: a variant must not write better than they do."""
    a, an = _articles(vocabulary)
    before, after = tokens[:, :-1].ravel(), tokens[:, 1:].ravel()
    size = len(vocabulary)
    with_a, with_an = (np.bincount(after[before == article], minlength=size) for article in (a, an))
    by_letter = np.array([word[0] in "aeiou" for word in vocabulary.words])
    return np.where(with_a == with_an, by_letter, with_an > with_a)
