"""One training step of the editor: discriminator update, generator update, averaged generator.

Every random number the step uses is in the batch, so the step itself is deterministic. Losses stay on the device.
objective.py says what is computed; here the weights change.
"""
from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tmgan.config import LossConfig, MethodConfig, OptimConfig
from tmgan.data.loaders.batch import Batch
from tmgan.models.encoders import PhotoEncoder
from tmgan.models.encoders.text import TextEncoder
from tmgan.objective import Objective
from tmgan.runtime import Runtime


class TrainStep:
    """step(batch, images_seen) -> losses, scalars on the device by name. Owns the optimisers and the averaged
    generator `ema`."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, text: TextEncoder, photo: PhotoEncoder,
                 method: MethodConfig, loss: LossConfig, optim: OptimConfig, runtime: Runtime):
        self.generator, self.discriminator, self.text, self.photo = generator, discriminator, text, photo
        self.optim, self.runtime = optim, runtime
        self.objective = Objective(generator, discriminator, text, photo, method, loss, runtime)
        self.ema = copy.deepcopy(generator).eval().requires_grad_(False)
        betas = (optim.beta1, optim.beta2)
        self.adam_g = torch.optim.Adam(generator.parameters(), lr=optim.lr_g, betas=betas, fused=True)
        self.adam_d = torch.optim.Adam(discriminator.parameters(), lr=optim.lr_d, betas=betas, fused=True)

    def __call__(self, batch: Batch, images_seen: int) -> dict[str, Tensor]:
        edit = self.objective.generate(batch)
        self.discriminator.requires_grad_(True)
        total, d_losses = self.objective.d_loss(batch, edit)
        self._update(self.adam_d, total)
        self.discriminator.requires_grad_(False)  # it judges, and takes no gradient
        total, g_losses = self.objective.g_loss(batch, edit)
        self._update(self.adam_g, total)
        self._average(len(batch.images), images_seen)
        return d_losses | g_losses

    @staticmethod
    def _update(adam: torch.optim.Adam, total: Tensor) -> None:
        adam.zero_grad(set_to_none=True)
        total.backward()
        adam.step()

    @torch.no_grad()
    def _average(self, batch: int, images_seen: int) -> None:
        half_life = self.optim.ema_half_life
        if self.optim.ema_rampup > 0:
            half_life = min(half_life, images_seen * self.optim.ema_rampup)
        keep = 0.5 ** (batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.generator.parameters()), 1.0 - keep)
        for mine, theirs in zip(self.ema.buffers(), self.generator.buffers()):
            mine.copy_(theirs)

    def state_dict(self) -> dict:
        """Plain tensors and numbers."""
        return {name: getattr(self, name).state_dict()
                for name in ("generator", "discriminator", "ema", "adam_g", "adam_d")}

    def load_state_dict(self, state: dict) -> None:
        """Restore state_dict()."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)
        for adam, lr in ((self.adam_g, self.optim.lr_g), (self.adam_d, self.optim.lr_d)):
            for group in adam.param_groups:       # may have been lowered after a run diverged
                group["lr"] = lr
