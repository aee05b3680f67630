"""The step with one thing changed: what 2-rewrites.sh measures, the most important first.

The base is the step as training runs it: compiled on a GPU, eager on a CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import torch

import tmgan_kernels
from benchmarks.step import frozen_relu, rewrites
from tmgan.config.runtime import Runtime
from tmgan.config.settings import TrainConfig
from tmgan.models.encoders import PhotoEncoder
from tmgan.training import bench
from tmgan.training.bench import SyntheticStep


@dataclasses.dataclass(frozen=True)
class Change:
    """One change of the step.

    Attributes:
        active: entered while the step is made and run.
        make: makes the step.
        runtime: the fields of the runtime that differ.
    """

    active: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    make: Callable[[TrainConfig, Runtime], SyntheticStep] = bench.synthetic_step
    runtime: dict[str, str] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def synthetic_step(self, config: TrainConfig, runtime: Runtime):
        with self.active():
            yield self.make(config, dataclasses.replace(runtime, **self.runtime))


def planar(config: TrainConfig, runtime: Runtime) -> SyntheticStep:
    synthetic = bench.synthetic_step(config, runtime)
    for network in (synthetic.step.generator, synthetic.step.discriminator, synthetic.step.photo):
        network.to(memory_format=torch.contiguous_format)
    columns = {f.name: getattr(synthetic.batch, f.name) for f in dataclasses.fields(synthetic.batch)}
    batch = type(synthetic.batch)(**{name: x.contiguous() if x is not None else None for name, x in columns.items()})
    return dataclasses.replace(synthetic, batch=batch)


def with_photo(make: Callable[[PhotoEncoder], PhotoEncoder]) -> Callable[[TrainConfig, Runtime], SyntheticStep]:
    """The step with another form of the frozen networks."""

    def synthetic_step(config: TrainConfig, runtime: Runtime) -> SyntheticStep:
        synthetic = bench.synthetic_step(config, runtime)
        synthetic.step.objective.photo = make(synthetic.photo).to(memory_format=torch.channels_last)
        return synthetic

    return synthetic_step


def judged_with_gradients(config: TrainConfig, runtime: Runtime) -> SyntheticStep:
    """The discriminator not frozen while it judges: its weight gradients are computed and thrown away."""
    synthetic = bench.synthetic_step(config, runtime)
    step = synthetic.step
    step.discriminator.requires_grad_ = lambda mode=True: step.discriminator
    forget = step.adam_g.zero_grad
    step.adam_g.zero_grad = lambda set_to_none=True: (forget(set_to_none), step.adam_d.zero_grad(set_to_none))
    return synthetic


def flat(config: TrainConfig, runtime: Runtime) -> SyntheticStep:
    """Gradients accumulate into one buffer per network, cleared by one call."""
    synthetic = bench.synthetic_step(config, runtime)
    step = synthetic.step
    for network, adam in ((step.generator, step.adam_g), (step.discriminator, step.adam_d)):
        buffer = rewrites.flat_gradients(network)
        adam.zero_grad = lambda set_to_none=True, buffer=buffer: buffer.zero_()
    return synthetic


def unguarded(config: TrainConfig, runtime: Runtime) -> SyntheticStep:
    """Nobody looks whether gradients are finite, and no statistics of batch norms are kept to go back to."""
    synthetic = bench.synthetic_step(config, runtime)
    no = torch.zeros((), device=runtime.device)
    for guard in (synthetic.step.guard_g, synthetic.step.guard_d):
        guard.norm = guard.skipped = no
        guard.begin, guard.check, guard.settle = lambda: None, lambda: no, lambda *others: None
    return synthetic


@contextlib.contextmanager
def frozen_in_cudnn():
    frozen_relu.check(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with frozen_relu.together():
        yield


@contextlib.contextmanager
def without_tf32():
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def rewritten(name: str) -> Change:
    return Change(lambda: rewrites.rewritten(name))


CHANGES: dict[str, Change] = {
    "nothing": Change(),
    "composed affine": rewritten("composed affine"),
    "discriminator in one pass": rewritten("discriminator in one pass"),
    "instance_norm_glu by Inductor": Change(lambda: tmgan_kernels.prefer("eager", "instance_norm_glu")),
    "fourfold convolutions": rewritten("fourfold convolutions"),
    "frozen bias and ReLU by cuDNN": Change(frozen_in_cudnn),
    "fp32 products without TF32": Change(without_tf32),
    "pooling and resizing by torch": rewritten("pooling and resizing by torch"),
    "3 channels padded to 8": rewritten("3 channels padded to 8"),
    "nearest doubling by F.interpolate": rewritten("nearest doubling by F.interpolate"),
    "3 channels padded to 4": rewritten("3 channels padded to 4"),
    "phase convolutions": rewritten("phase convolutions"),
    "graphed": Change(runtime={"engine": "graphed"}),
    "all fused operations by Inductor": Change(lambda: tmgan_kernels.prefer("eager")),
    "NCHW": Change(make=planar),
    "fp32": Change(runtime={"precision": "fp32"}),
    "two affine convolutions": rewritten("two affine convolutions"),
    "batch norms not folded": Change(make=with_photo(lambda photo: photo)),
    "discriminator not frozen while it judges": Change(make=judged_with_gradients),
    "flat gradient buffers": Change(make=flat),
    "gradients not guarded": Change(make=unguarded),
    "eager": Change(runtime={"engine": "eager"}),
    "compiled": Change(runtime={"engine": "compiled"}),
}
