"""Updates that leave everything as it was when a gradient is not finite, decided on the device.

One number that is not finite would otherwise reach every weight, Adam's moments and the batch norms' statistics within
one step, for good. Nothing here waits for the device, and a CUDA graph captures it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Guard:
    """Watches over what one optimiser trains.

    In each step: `begin`, forward and backward passes, `check`, the optimiser's step, and `settle` when nothing will
    touch the networks any more. A gradient of 1.8e19 or more counts as not finite too: Adam could not square it.

    Args:
        adam: with fused=True; other implementations have no such switch.
        networks: whose buffers, the running statistics of batch norms, a skipped step must not change.

    Attributes:
        norm: () float32, the L2 norm of all gradients at the last `update`, before any clipping.
        skipped: () float32, 1 where that was not finite.
    """

    norm: Tensor
    skipped: Tensor

    def __init__(self, adam: torch.optim.Adam, *networks: nn.Module):
        self.adam = adam
        buffers = [buffer for network in networks for buffer in network.buffers()]
        dtypes = dict.fromkeys(buffer.dtype for buffer in buffers)  # statistics, and how many batches they are of
        self._buffers = [[b for b in buffers if b.dtype == dtype] for dtype in dtypes]
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """Remember the buffers, which are small: a few numbers per channel."""
        self._before = [_flat(buffers) for buffers in self._buffers]

    def check(self) -> Tensor:
        """Look at the gradients, and tell Adam: its next step will do nothing if they are not finite.

        Returns:
            () float32, `norm`.
        """
        gradients = [p.grad for group in self.adam.param_groups for p in group["params"] if p.grad is not None]
        self.norm = torch.nn.utils.get_total_norm(gradients)
        self.skipped = (~torch.isfinite(self.norm)).float()
        # As GradScaler does: fused Adam leaves weights, moments and its count of steps alone where this is 1.
        self.adam.grad_scale, self.adam.found_inf = None, self.skipped  # type: ignore[attr-defined]
        return self.norm

    def settle(self, *others: Tensor) -> None:
        """Bring the buffers back if this step's update was skipped, or one of `others`: () float32, 1 for yes."""
        skipped = torch.stack([self.skipped, *others]).amax() > 0
        for buffers, before in zip(self._buffers, self._before, strict=True):
            now = torch.where(skipped, before, _flat(buffers))
            parts = now.split([b.numel() for b in buffers])
            torch._foreach_copy_(buffers, [part.view_as(b) for part, b in zip(parts, buffers, strict=True)])


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.detach().flatten() for x in tensors])
