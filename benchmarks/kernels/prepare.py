"""What one row calls: a provider's function, checked against the definition, and its inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.kernels import cases, timer
from benchmarks.kernels.cases import OPERATIONS, Case

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# A provider is refused where more than TIES of its values are off by more than this, relative to their root mean
# square. Some always are: at a sharpness of 0 the sign, and so the gradient, depends on the order of summation.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "uint8": 1e-5}
TIES = 0.05


def implementation(case: Case, provider: str) -> Callable:
    """A function of the case's positional tensors."""
    if provider in ("eager", "triton", "cuda"):
        return cases.call_of(case, provider)
    if provider.startswith("compile"):
        torch._dynamo.reset()  # else the ninth case of a function would silently run eager
        mode = "max-autotune-no-cudagraphs" if provider == "compile-max" else None
        return torch.compile(cases.call_of(case, "eager"), dynamic=False, mode=mode)
    return functools.partial(OPERATIONS[case.operation].rivals[provider], **dict(case.options))


class Prepared:
    """Inputs of a case in as many sets as the timer rotates through, and a function: kept for the passes of a row."""

    def __init__(self, case: Case, provider: str, sets: int | None) -> None:
        self.operation = OPERATIONS[case.operation]
        self.differentiable = self.operation.differentiable
        random = torch.Generator(DEVICE).manual_seed(1)
        self.sets = [self._inputs(case, random)]
        if sets is None:
            size = sum(x.numel() * x.element_size() for x in self.sets[0])
            sets = timer.input_sets(size, timer.cache_bytes()) if DEVICE.type == "cuda" else 2
        self.sets += [self._inputs(case, random) for _ in range(sets - 1)]
        self.function = implementation(case, provider)
        definition = implementation(case, "eager")
        self.cotangents = (
            [self._cotangent(definition(*tensors)) for tensors in self.sets] if self.differentiable else []
        )
        if provider != "eager":
            self._compare(definition, TOLERANCE[case.dtype])

    def _inputs(self, case: Case, random: torch.Generator) -> list[Tensor]:
        tensors = self.operation.inputs(case, DEVICE, random)
        return [x.requires_grad_() if i in self.differentiable else x for i, x in enumerate(tensors)]

    @staticmethod
    def _cotangent(output: Tensor) -> Tensor:
        return torch.rand_like(output.detach()) if output.dim() else torch.ones_like(output)

    def _compare(self, definition: Callable, tolerance: float) -> None:
        """Raise ValueError for a provider that computes something else. Ours are tested in tests/tmgan_kernels."""
        both = [self.all_of(function) for function in (self.function, definition)]
        for i, (actual, expected) in enumerate(zip(*both, strict=True)):
            size = expected.double().square().mean().sqrt()
            near = (actual.double() - expected.double()).abs() <= tolerance * size  # NaN is not
            off = (~near).double().mean()
            if not off <= TIES:
                raise ValueError(f"{off:.0%} of result {i} differ from the definition's")

    def all_of(self, function: Callable) -> list[Tensor]:
        """Outputs and gradients for the first set."""
        tensors = self.sets[0]
        output = function(*tensors)
        outputs = [output] if isinstance(output, Tensor) else list(output)
        if self.differentiable:
            outputs += torch.autograd.grad(outputs, [tensors[i] for i in self.differentiable], self.cotangents[:1])
        return [x.detach() for x in outputs]

    def call(self, which: str) -> Callable[[int], object]:
        if which == "forward":
            return timer.forward_call(self.function, self.sets)
        make = timer.backward_call if which == "backward" else timer.both_call
        return make(self.function, self.sets, self.differentiable, self.cotangents)


@functools.lru_cache(maxsize=1)
def prepare_case(case: Case, provider: str, sets: int | None = None) -> Prepared:
    with timer.on_stream():
        return Prepared(case, provider, sets)
