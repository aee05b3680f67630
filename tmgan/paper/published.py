"""Where each method's own gradient goes: as the paper says, and as the published code was wired.

The wiring is repeated here and its gradients are measured; nothing is assumed about them. All maps are of one batch of
training photos, the edits of the baseline's trained generator, and its discriminator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmgan.config import configfile
from tmgan.config.methods import BlurConfig, MethodConfig, SharpnessLossConfig
from tmgan.config.runtime import decide
from tmgan.config.settings import TrainConfig
from tmgan.data.pack import Pack
from tmgan.methods.blurred_real import blur_real
from tmgan.methods.sharpness import sharpness_loss
from tmgan.models.bundle import Encoders
from tmgan.models.discriminator import Discriminator
from tmgan.paper.variants import PreTrained
from tmgan.training.checkpoint import Checkpoints
from tmgan.training.editor_task import EditorTask
from tmgan.training.loaders.batch import Batch
from tmgan.training.objective import Edit, Objective
from tmgan_kernels import laplace_sharpness, sharp_regions

_FRAME = 4  # pixels: half of the widest published blur
_STEP = 1_000_000  # the batch: one beyond the end of any run
_PUBLISHED_NSL = SharpnessLossConfig(weight=1.0, gamma=1.0, region="sharp")


@dataclass(frozen=True)
class GradientMap:
    """One method's own gradient on the pictures: that of the whole loss with it, less that without it.

    Attributes:
        wiring: "paper" or "published".
        pictures: (B, 3, S, S), where the gradient is taken.
        gradient: (B, 3, S, S).
        strength: its L2 norm over that of the baseline's gradient.
        sharp, bird, frame: the share of its absolute values on the pictures' sharp regions, on the bird, on the
            outermost pixels; None where it is zero.
    """

    method: str
    wiring: str
    about: str
    pictures: Tensor
    gradient: Tensor
    strength: float
    sharp: float | None
    bird: float | None
    frame: float | None


@dataclass(frozen=True)
class Maps:
    """All gradient maps, and the batch they were measured on.

    Attributes:
        areas: the share of the pictures that is sharp, bird and frame: what an even gradient would have.
        answers: discriminator -> kind of picture -> mean probability of "real".
    """

    photos: Tensor
    edits: Tensor
    sharp: Tensor
    areas: dict[str, float]
    maps: tuple[GradientMap, ...]
    answers: dict[str, dict[str, float]]


class Bench:
    """The baseline's trained networks and one batch, to take gradients with.

    Args:
        baseline: settings of the finished run.
        masks: the keep-masks to load with the batch.
        others: finished runs with other discriminators, by name.
    """

    def __init__(
        self,
        baseline: TrainConfig,
        masks: PreTrained,
        pack: Pack,
        encoders: Encoders,
        others: Mapping[str, TrainConfig],
    ):
        with_masks = dataclasses.replace(baseline, method=dataclasses.replace(baseline.method, keep_mask=masks))
        runtime = decide(dataclasses.replace(baseline.runtime, engine="eager"))
        self.task = _load(EditorTask(with_masks, pack, encoders, runtime), baseline)
        self.others = {
            name: _load(EditorTask(config, pack, encoders, runtime), config) for name, config in others.items()
        }
        self.baseline = baseline.method
        self.batch: Batch = self.task.loader(_STEP)
        for task in (self.task, *self.others.values()):
            task.loader.close()
        with torch.no_grad():
            self.edit: Edit = self.task.train_step.objective.generate(self.batch)
        self.task.train_step.discriminator.requires_grad_(False)
        self.plain = self.gradient(self.baseline)

    def gradient(self, method: MethodConfig) -> Tensor:
        """(B, 3, S, S): gradient of the generator's loss by its pictures, as the training step takes it."""
        image = self.edit.image.clone().requires_grad_()
        return self._by_image(method, image, image)

    def _by_image(self, method: MethodConfig, seen: Tensor, image: Tensor) -> Tensor:
        step = self.task.train_step
        objective = Objective(
            step.generator,
            step.discriminator,
            step.objective.captions,
            step.photo,
            method,
            self.task.config.loss,
            self.task.runtime,
        )
        total, _ = objective.g_loss(self.batch, self.edit._replace(image=seen))
        return torch.autograd.grad(total, image)[0]

    def with_method(self, **changes: Any) -> Tensor:
        """A method's own gradient, as in our step."""
        return self.gradient(configfile.merge(self.baseline, changes, "tables")) - self.plain

    def published_nsl(self) -> tuple[Tensor, Tensor]:
        """As published: the loss is a term of D's loss, and G's gradients are set to zero before its own update.

        Returns:
            What was erased, and what is left of it.
        """
        image = self.edit.image.clone().requires_grad_()
        sharpness_loss(_PUBLISHED_NSL, self.batch.images, image).backward()
        assert image.grad is not None
        before = image.grad.clone()
        image.grad = None  # netG.zero_grad()
        image.grad = self._by_image(self.baseline, image, image)
        return before, image.grad - self.plain

    def published_gm(self) -> Tensor:
        """As published: the gradient manipulator is given a list with the image in it, which autograd does not see."""
        image = self.edit.image.clone().requires_grad_()
        return self._by_image(self.baseline, _OnList.apply([image])[0], image) - self.plain

    def blur_gradient(self, name: str, config: BlurConfig) -> tuple[Tensor, Tensor]:
        """Blurred photos, and the gradient of a discriminator's loss on them."""
        judge = _discriminator(self.others[name]).requires_grad_(False)
        pictures = blur_real(config, self.batch.images, self.batch.blur_sizes).contiguous().requires_grad_()
        logits = judge.conditional(judge(pictures), self.edit.sentence)
        return pictures.detach(), torch.autograd.grad(torch.nn.functional.softplus(logits).mean(), pictures)[0]

    @torch.no_grad()
    def answers(self) -> dict[str, dict[str, float]]:
        """What each discriminator says of photos that are sharp or blurred, in colour or grey."""
        photos, sizes = self.batch.images, self.batch.blur_sizes
        kinds = {
            "photo": photos,
            "blurred": blur_real(BlurConfig(sizes=(9,)), photos, sizes),
            "grey and sharp": photos.mean(1, keepdim=True).expand_as(photos),
            "grey and blurred": blur_real(BlurConfig(sizes=(9,), kind="grey", border="zeros"), photos, sizes),
        }
        probabilities = {}
        for name, task in {"lightweight": self.task, **self.others}.items():
            judge = _discriminator(task)
            probabilities[name] = {
                kind: judge.conditional(judge(x.contiguous()), self.edit.sentence).sigmoid().mean().item()
                for kind, x in kinds.items()
            }
        return probabilities


class _OnList(torch.autograd.Function):
    """The published GradientManipulator: identity forward, times 1 + tanh(sharpness) backward."""

    @staticmethod
    def forward(ctx: Any, images: list[Tensor]) -> list[Tensor]:
        return images

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise AssertionError("autograd does not look into lists")


def gradient_maps(bench: Bench, masks: PreTrained) -> Maps:
    """The maps of all methods.

    Args:
        bench: with sad9 and sad-published among its others.
        masks: those of the bench.
    """
    edits, photos = bench.edit.image, bench.batch.images
    sharp = sharp_regions(laplace_sharpness(edits))[0]
    assert bench.batch.keep is not None  # the bench has loaded masks
    bird = 1 - bench.batch.keep
    frame = torch.ones_like(bird)
    frame[..., _FRAME:-_FRAME, _FRAME:-_FRAME] = 0
    regions = {"sharp": sharp.to(bird.dtype), "bird": bird, "frame": frame}
    maps = []

    def add(
        method: str, wiring: str, about: str, gradient: Tensor, pictures: Tensor = edits, of: Tensor = bench.plain
    ) -> None:
        size = gradient.abs().sum(1, keepdim=True)
        shares = {
            name: (size * region).sum().item() / size.sum().item() if size.any() else None
            for name, region in regions.items()
        }
        maps.append(
            GradientMap(
                method,
                wiring,
                about,
                pictures.detach(),
                gradient.detach(),
                (gradient.norm() / of.norm()).item(),
                **shares,
            )
        )

    add("Lightweight GAN", "paper", "the whole loss of the generator", bench.plain)
    add(
        "masked MAE, " + {"fcn": "FCN masks", "dataset": "true masks"}[masks],
        "paper",
        "inside the mask only",
        bench.with_method(keep_mask=masks),
    )
    add(
        "masked MAE, histogram",
        "paper",
        "where histogram matching sees no change",
        bench.with_method(keep_mask="histogram"),
    )
    add(
        "masked MAE, histogram",
        "published",
        "images in [-1, 1] never differ by 32.5: the mask is 1 everywhere",
        bench.with_method(keep_mask="histogram", histogram={"threshold": 254.9}),
    )
    add(
        "NSL", "paper", "in the generator's loss, gamma 0.1", bench.with_method(sharpness={"weight": 1.0, "gamma": 0.1})
    )
    before, after = bench.published_nsl()
    add("NSL", "published", "in D's loss: what its gradient was before G's gradients were set to zero", before)
    add("NSL", "published", "what was left of it in G's update", after)
    add(
        "GM",
        "paper",
        "on the image, 1.5 on sharp regions",
        bench.with_method(gradient={"mode": "regions", "gain": 1.5}),
    )
    add("GM", "published", "on a Python list", bench.published_gm())
    for name, wiring, about in (
        ("sad9", "paper", "D's gradient on a blurred photo: in colour, border replicated"),
        ("sad-published", "published", "D's gradient on a blurred photo: grey, zeros beyond"),
    ):
        pictures, gradient = bench.blur_gradient(name, bench.others[name].config.method.blur)
        add("SAD 9", wiring, about, gradient, pictures, of=gradient)
    areas = {name: region.mean().item() for name, region in regions.items()}
    return Maps(photos, edits, sharp, areas, tuple(maps), bench.answers())


def _discriminator(task: EditorTask) -> Discriminator:
    network = task.train_step.discriminator
    assert isinstance(network, Discriminator)
    return network


def _load(task: EditorTask, config: TrainConfig) -> EditorTask:
    """Load the networks of a finished run, in training mode as in a step."""
    state = Checkpoints(Path(config.run) / "checkpoints", config.output.keep, print).load_latest()
    assert state is not None, config.run
    task.load_state_dict(state["task"])
    return task
