"""One training step of the editor: discriminator update, generator update, averaged generator, in named parts.

Every random number the step uses is in the batch, so the step itself is deterministic. Losses stay on the device.
objective.py says what is computed, engine.py how; here the weights change.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypedDict

import torch
from torch import Tensor, nn

import tmgan_kernels
from tmgan.config.methods import MethodConfig
from tmgan.config.runtime import Runtime
from tmgan.config.settings import LossConfig, Memory, OptimConfig
from tmgan.methods.recolour import Recolour
from tmgan.models.discriminator import Discriminator
from tmgan.models.encoders import PhotoEncoder
from tmgan.models.layers import fold_batch_norms
from tmgan.models.recompute import keep_inputs_only
from tmgan.training.engine import Compiled, Eager, Graphed
from tmgan.training.guard import Guard
from tmgan.training.loaders.batch import Batch
from tmgan.training.objective import Captions, Edit, Losses, Objective
from tmgan.training.parts import Parts


def frozen_copy(photo: PhotoEncoder, runtime: Runtime) -> PhotoEncoder:
    """The photo encoder as a step needs it: batch norms folded, channels_last, weights in the precision of the run.

    In a bf16 run the weights are what autocast would make of them in each call.
    """
    encoder = copy.deepcopy(photo).eval().requires_grad_(False)
    fold_batch_norms(encoder)
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    return encoder.to(  # type: ignore[call-overload]  # torch's stubs know memory_format only by itself
        device=runtime.device, dtype=dtype, memory_format=torch.channels_last
    )


class _AdamOptions(TypedDict):
    betas: tuple[float, float]
    fused: bool
    capturable: bool


class TrainStep:
    """step(batch, images_seen) -> losses, scalars on the device by name.

    A network whose gradients are not finite stays as it was: see guard.py; `grad_d` and `grad_g` among the losses are
    the L2 norms of all gradients. Owns the optimisers and the averaged generator `ema`; `within` names its parts, and
    that of whoever loads batches.

    Args:
        generator, discriminator: as `build_networks` makes them.
        photo: as `frozen_copy` makes it.
        backend: of torch.compile, for the engines that use it.
        recolour: what method.restore needs.
        memory: "low": activations are computed again in the backward pass; the numbers are the same.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: Discriminator | nn.ModuleList,
        captions: Captions,
        photo: PhotoEncoder,
        method: MethodConfig,
        loss: LossConfig,
        optim: OptimConfig,
        runtime: Runtime,
        backend: str = "inductor",
        recolour: Recolour | None = None,
        memory: Memory = "normal",
    ):
        self.generator, self.discriminator, self.photo = generator, discriminator, photo
        self.optim, self.runtime = optim, runtime
        self.objective = Objective(generator, discriminator, captions, photo, method, loss, runtime, recolour)
        self.ema = copy.deepcopy(generator).eval().requires_grad_(False)
        if memory == "low":
            for network in (generator, discriminator, photo):
                keep_inputs_only(network)
        less = "" if memory == "low" else "--memory low, which computes more and keeps less, or "
        self.within = Parts(runtime.device, f"Try {less}a smaller --batch.")
        names = [name for name, parameter in generator.named_parameters() if parameter.requires_grad]
        self._average: list[Tensor] = [self.ema.get_parameter(name) for name in names]
        live = [generator.get_parameter(name) for name in names]
        self._live: list[Tensor] = [*live]
        # The statistics of batch norms and how many batches they are of, by dtype: one launch or two for each.
        pairs = [*zip(self.ema.buffers(), generator.buffers(), strict=True)]
        dtypes = dict.fromkeys(theirs.dtype for _, theirs in pairs)
        self._statistics = [
            [*zip(*(pair for pair in pairs if pair[1].dtype == dtype), strict=True)] for dtype in dtypes
        ]
        self._weight = torch.zeros((), device=runtime.device)  # of the generator in the average; the graph reads it
        # A graph needs Adam's arithmetic to read nothing from the host.
        self._adam: _AdamOptions = {
            "betas": (optim.beta1, optim.beta2),
            "fused": True,
            "capturable": runtime.engine == "graphed",
        }
        self.adam_g = torch.optim.Adam(live, lr=optim.lr_g, **self._adam)
        self.adam_d = torch.optim.Adam(discriminator.parameters(), lr=optim.lr_d, **self._adam)
        self.guard_g = Guard(self.adam_g, generator)
        self.guard_d = Guard(self.adam_d, discriminator)
        self.functions = Eager(self.objective) if runtime.engine == "eager" else Compiled(self.objective, backend)
        self._graphed = Graphed(self._step, self._state) if runtime.engine == "graphed" else None
        self.before_update: Callable[[], None] = lambda: None  # a save waits here, see snapshot.py

    def __call__(self, batch: Batch, images_seen: int) -> Losses:
        self._weight.fill_(1.0 - self._decay(len(batch.images), images_seen))
        if self._graphed is not None:
            self.before_update()
            return self._graphed(batch)
        with self.dispatch():
            return self._step(batch)

    def dispatch(self) -> AbstractContextManager:
        """While active, fused operations are what they are in this engine: the eager one takes their definitions."""
        return tmgan_kernels.prefer("eager") if self.runtime.engine == "eager" else nullcontext()

    def _step(self, batch: Batch) -> Losses:
        losses: Losses = {}
        for _, part in self.parts(batch, losses):
            part()
        return losses

    def parts(self, batch: Batch, losses: Losses) -> list[tuple[str, Callable[[], None]]]:
        """One step, cut into parts that must be called in this order, each `within` its name.

        Args:
            losses: is given the step's losses, without gradients.
        """
        edit: Edit | None = None
        total: Tensor | None = None

        def generate() -> None:
            nonlocal edit
            self.guard_g.begin()
            self.guard_d.begin()
            edit = self.functions.generate(batch)

        def d_loss() -> None:
            nonlocal total
            assert edit is not None
            self.discriminator.requires_grad_(True)
            total, d_losses = self.functions.d_loss(batch, edit)
            losses.update({name: loss.detach() for name, loss in d_losses.items()})

        def g_loss() -> None:
            nonlocal total
            assert edit is not None
            self.discriminator.requires_grad_(False)  # it judges, and takes no gradient
            total, g_losses = self.functions.g_loss(batch, edit)
            losses.update({name: loss.detach() for name, loss in g_losses.items()} | edit.signs)

        def backward() -> None:
            nonlocal total
            assert total is not None
            loss, total = total, None
            loss.backward()

        def g_backward() -> None:
            nonlocal edit
            edit = None  # nobody needs it any more, and its features are large
            backward()

        def update(name: str, guard: Guard) -> None:
            losses[name] = guard.check()
            self.before_update()
            guard.adam.step()
            guard.adam.zero_grad(set_to_none=True)  # at once: until the next backward pass they would only take memory

        def average() -> None:
            self.guard_g.settle()
            self.guard_d.settle(self.guard_g.skipped)  # its statistics have seen what the generator's loss has
            self.average(1 - self.guard_g.skipped)

        parts = [
            ("generate", generate),
            ("discriminator loss", d_loss),
            ("discriminator backward", backward),
            ("discriminator update", lambda: update("grad_d", self.guard_d)),
            ("generator loss", g_loss),
            ("generator backward", g_backward),
            ("generator update", lambda: update("grad_g", self.guard_g)),
            ("average", average),
        ]
        return [(name, functools.partial(self._within, name, part)) for name, part in parts]

    def _within(self, name: str, part: Callable[[], None]) -> None:
        with self.within(name):
            part()

    def _decay(self, batch: int, images_seen: int) -> float:
        half_life = self.optim.ema_half_life
        if self.optim.ema_rampup > 0:
            half_life = min(half_life, images_seen * self.optim.ema_rampup)
        return 0.5 ** (batch / max(half_life, 1e-8))

    @torch.no_grad()
    def average(self, share: Tensor | float = 1.0) -> None:
        """Move the averaged generator towards the live one, and copy the statistics of its batch norms.

        Args:
            share: of the way that it would go.
        """
        # Three calls of few launches: _foreach_lerp_ with a weight on the device takes one launch per parameter.
        change = torch._foreach_sub(self._live, self._average)
        torch._foreach_mul_(change, self._weight * share)
        torch._foreach_add_(self._average, change)
        for mine, theirs in self._statistics:
            torch._foreach_copy_(mine, theirs)

    def _state(self) -> dict[str, Tensor]:
        """Every tensor that a step changes."""
        state = {
            f"{name}.{key}": tensor
            for name in ("generator", "discriminator", "ema")
            for key, tensor in getattr(self, name).state_dict().items()
        }
        for name in ("adam_g", "adam_d"):
            for number, moments in enumerate(getattr(self, name).state.values()):
                state |= {f"{name}.{number}.{key}": tensor for key, tensor in moments.items()}
        return state

    def buffers(self) -> list[Tensor]:
        """Of the state, what forward passes change."""
        return [*self.generator.buffers(), *self.discriminator.buffers()]

    def state_dict(self) -> dict:
        """Plain tensors and numbers."""
        return {
            name: getattr(self, name).state_dict() for name in ("generator", "discriminator", "ema", "adam_g", "adam_d")
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore state_dict(), also that of a step with another engine or other learning rates."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)
        for adam, lr in ((self.adam_g, self.optim.lr_g), (self.adam_d, self.optim.lr_d)):
            for group in adam.param_groups:  # lr may have been lowered after a run diverged
                group.update(self._adam, lr=lr)
        if self._graphed is not None:
            self._graphed.reset()
