"""The caption encoder: word embeddings and a bidirectional LSTM, as in AttnGAN, without packed sequences.

The backward direction reads each caption reversed within its own length by a gather, so captions need not be sorted,
lengths stay on the device, and the result equals PyTorch's packed bidirectional LSTM.
"""

import torch
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """RNN_ENCODER of AttnGAN (Xu et al., CVPR 2018).

    Args:
        vocabulary_size: number of word ids; id 0 is padding and never a word.
        dim: of words and sentences; half of it comes from each direction.
        word_dim: of the embedding table.
    """

    def __init__(self, vocabulary_size: int, dim: int = 256, word_dim: int = 300):
        super().__init__()
        if dim % 2:
            raise ValueError(f"TextEncoder: dim {dim} must be even; half of it comes from each direction")
        self.dim = dim
        self.word_dim = word_dim
        self.embedding = nn.Embedding(vocabulary_size, word_dim)
        self.forwards = nn.LSTM(word_dim, dim // 2, batch_first=True)
        self.backwards = nn.LSTM(word_dim, dim // 2, batch_first=True)

    def forward(self, tokens: Tensor, lengths: Tensor, dropout: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode a batch of captions.

        Args:
            tokens: (B, L) int word ids, 0 after each caption's end.
            lengths: (B,) int64, 1 <= length <= L.
            dropout: (B, L, word_dim), what to multiply the word embeddings by while training: 0, or 1 over the
                probability of keeping an entry. Drawn by the caller. None for no dropout.

        Returns:
            words (B, dim, L), exactly 0 from each caption's length on; sentence (B, dim), the final state of both
            directions (forward half first).
        """
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        inside = steps < lengths[:, None]  # (B, L)
        mirror = torch.where(inside, lengths[:, None] - 1 - steps, steps)

        vectors = self.embedding(tokens)
        if dropout is not None:
            vectors = vectors * dropout
        # In full precision even under autocast: cheap here, and a cell state accumulates rounding errors.
        with torch.autocast(tokens.device.type, enabled=False):
            ahead, _ = self.forwards(vectors)
            back, _ = self.backwards(_reorder(vectors, mirror))
        last = (lengths - 1)[:, None]
        sentence = torch.cat([_reorder(ahead, last), _reorder(back, last)], dim=2).squeeze(1)
        words = torch.cat([ahead, _reorder(back, mirror)], dim=2)
        return words.masked_fill(~inside[:, :, None], 0).transpose(1, 2), sentence


def _reorder(sequence: Tensor, steps: Tensor) -> Tensor:
    """sequence (B, L, C), steps (B, K) -> (B, K, C): these steps of each sequence."""
    return sequence.gather(1, steps[:, :, None].expand(-1, -1, sequence.shape[2]))
