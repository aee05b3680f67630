"""What is measured: operations, their inputs, the bytes that they must move, and the sizes, in order of importance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

import tmgan_kernels as kernels
from benchmarks.kernels import rivals
from tmgan_kernels import _native

TILE = 304  # edge of the resident tiles that gather_crop cuts from
BLURS = {5: 1.0, 7: 1.5, 9: 2.0}  # kernel size: sigma
GOAL_BATCH, NORM_BATCH = 256, 64  # images at which the goals are asked; of instance_norm_glu
STAGES = ((512, 16), (256, 32), (128, 64), (64, 128), (64, 256))  # the generator's: channels in, edge


@dataclass(frozen=True)
class Case:
    """One call: an operation on one size, type and memory layout. `shape` is that of the first image."""

    operation: str
    shape: tuple[int, int, int, int]
    dtype: str = "float32"
    layout: str = "nchw"
    options: tuple[tuple[str, object], ...] = ()

    def key(self) -> dict:
        batch, channels, height, width = self.shape
        return {
            "operation": self.operation,
            "batch": batch,
            "channels": channels,
            "height": height,
            "width": width,
            "dtype": self.dtype,
            "layout": self.layout,
            "options": dict(self.options),
        }

    def __str__(self) -> str:
        options = "".join(f"-{name}={value}" for name, value in self.options)
        return f"{self.operation}-{'x'.join(map(str, self.shape))}-{self.dtype}-{self.layout}{options}"


@dataclass(frozen=True)
class Traffic:
    """Bytes per pixel that no implementation can avoid moving: every input read once, every result written once.

    What a backward pass needs from the forward pass is counted as the kernels do it.

    Attributes:
        inputs: read by the forward pass.
        outputs: written by the forward pass.
        kept: written by the forward pass and read by the backward pass.
        again: inputs that the backward pass reads a second time.
        cotangents: read by the backward pass.
        gradients: written by the backward pass.
    """

    inputs: float
    outputs: float
    kept: float = 0
    again: float = 0
    cotangents: float = 0
    gradients: float = 0

    def of(self, which: str) -> float:
        forward = self.inputs + self.outputs + self.kept
        backward = self.cotangents + self.kept + self.again + self.gradients
        return {"forward": forward, "backward": backward, "both": forward + backward}[which]


@dataclass(frozen=True)
class Operation:
    """How to call an operation, and what its calls must move.

    Attributes:
        inputs: makes the positional tensors of a case on a device.
        traffic: takes the number of channels and the bytes per value.
        differentiable: positions of the tensors that take gradients.
        passes: those that are measured.
        rivals: other implementations, by provider.
    """

    inputs: Callable[[Case, torch.device, torch.Generator], list[Tensor]]
    traffic: Callable[[int, int], Traffic]
    differentiable: tuple[int, ...] = ()
    passes: tuple[str, ...] = ("forward",)
    rivals: dict[str, Callable] = field(default_factory=dict)


ALL_PASSES = ("forward", "backward", "both")


# -------------------------------------------------------------------- inputs
def photo(case: Case, device: torch.device, random: torch.Generator, channels: int | None = None) -> Tensor:
    """An image in [-1, 1] with smooth parts, edges and noise: constants and pure noise suit some kernels too well.

    Its values before rounding to the dtype are those of 8 bits, as a photo's are.
    """
    batch, own, height, width = case.shape
    shape = (batch, channels or own, -(-height // 8), -(-width // 8))
    coarse = torch.rand(shape, device=device, generator=random)
    image = F.interpolate(coarse, size=(height, width), mode="bilinear")
    image += 0.2 * torch.rand(image.shape, device=device, generator=random) - 0.1
    return arrange((image.clamp(0, 1) * 255).round() / 127.5 - 1, case)


def arrange(image: Tensor, case: Case) -> Tensor:
    memory_format = torch.channels_last if case.layout == "nhwc" else torch.contiguous_format
    return image.to(getattr(torch, case.dtype)).contiguous(memory_format=memory_format)


def one_photo(case, device, random):
    return [photo(case, device, random)]


def two_photos(case, device, random):
    return [photo(case, device, random), photo(case, device, random)]


def two_photos_and_mask(case, device, random):
    return [*two_photos(case, device, random), photo(case, device, random, channels=1) > 0]


def photo_and_gain(case, device, random):
    return [photo(case, device, random), photo(case, device, random, channels=1) + 1]


def plane(case, device, random):
    return [photo(case, device, random, channels=1).abs()]


def photo_and_sizes(case, device, random):
    """A kernel size for each image, where the case says that they are drawn."""
    image = photo(case, device, random)
    if dict(case.options).get("kernel_size") != "drawn":
        return [image]
    sizes = torch.randint(0, 3, (image.shape[0],), device=device, generator=random) * 2 + 5
    return [image, sizes.int()]


def tiles_and_crops(case, device, random):
    batch, channels, size, _ = case.shape
    tiles = torch.randint(0, 256, (batch, TILE, TILE, channels), device=device, generator=random, dtype=torch.uint8)
    index = torch.randperm(batch, device=device, generator=random)
    top, left = (torch.randint(0, TILE - size + 1, (batch,), device=device, generator=random) for _ in range(2))
    return [tiles, index, top, left, torch.rand(batch, device=device, generator=random) < 0.5]


# ---------------------------------------------------------------- operations
# c channels of e bytes per pixel; masks and signs are one byte. Sums and thresholds of an image are not counted.
OPERATIONS: dict[str, Operation] = {
    "laplace_sharpness": Operation(
        one_photo,
        lambda c, e: Traffic(c * e, e, kept=1, cotangents=e, gradients=c * e),
        (0,),
        ALL_PASSES,
        rivals.LAPLACE,
    ),
    "sharpness_score": Operation(one_photo, lambda c, e: Traffic(c * e, 0)),
    "sharp_regions": Operation(plane, lambda c, e: Traffic(e, 1)),
    "naive_sharpness_loss": Operation(
        one_photo, lambda c, e: Traffic(c * e, 0, kept=e, gradients=c * e), (0,), ALL_PASSES
    ),
    "scale_gradient": Operation(
        photo_and_gain, lambda c, e: Traffic(0, 0, again=e, cotangents=c * e, gradients=c * e), (0,), ("backward",)
    ),
    "sharp_gradient": Operation(
        one_photo, lambda c, e: Traffic(0, 0, again=c * e, cotangents=c * e, gradients=c * e), (0,), ("backward",)
    ),
    "box_blur": Operation(
        photo_and_sizes,
        lambda c, e: Traffic(c * e, c * e, cotangents=c * e, gradients=c * e),
        (0,),
        ALL_PASSES,
        rivals.BOX,
    ),
    "gaussian_blur": Operation(
        one_photo,
        lambda c, e: Traffic(c * e, c * e, cotangents=c * e, gradients=c * e),
        (0,),
        ALL_PASSES,
        rivals.GAUSSIAN,
    ),
    "masked_mae": Operation(
        two_photos_and_mask, lambda c, e: Traffic(2 * c * e + 1, 0, kept=c, again=1, gradients=c * e), (1,), ALL_PASSES
    ),
    "mask_score": Operation(two_photos_and_mask, lambda c, e: Traffic(2 * c * e + 1, 0)),
    "match_histogram": Operation(two_photos, lambda c, e: Traffic(2 * c * e, c * e)),
    "change_mask": Operation(two_photos, lambda c, e: Traffic(2 * c * e, 1)),
    "instance_norm_glu": Operation(
        one_photo,
        lambda c, e: Traffic(c * e, c * e / 2, again=c * e, cotangents=c * e / 2, gradients=c * e),
        (0,),
        ALL_PASSES,
        rivals.NORM,
    ),
    "gather_crop": Operation(tiles_and_crops, lambda c, e: Traffic(c, 4 * c)),
}


def bytes_moved(case: Case, which: str) -> int:
    """The compulsory bytes of one call: bytes per pixel, times pixels."""
    batch, channels, height, width = case.shape
    size = getattr(torch, case.dtype).itemsize
    return round(OPERATIONS[case.operation].traffic(channels, size).of(which) * batch * height * width)


def call_of(case: Case, impl: str) -> Callable:
    """The public function with the case's options, as a function of the positional tensors."""
    function = getattr(kernels, case.operation)
    options = {name: value for name, value in case.options if value != "drawn"}
    if case.operation == "gather_crop":
        options["size"] = case.shape[2]

    def call(*tensors: Tensor) -> object:
        return function(*tensors, **options, impl=impl)

    return call


# --------------------------------------------------------------------- sizes
def options_of(operation: str) -> list[tuple[tuple[str, object], ...]]:
    """The options measured; the first is the one measured at every size."""
    if operation == "box_blur":
        return [(("kernel_size", k),) for k in (*BLURS, "drawn")]
    if operation == "gaussian_blur":
        return [(("kernel_size", k), ("sigma", sigma)) for k, sigma in BLURS.items()]
    if operation == "sharp_gradient":
        return [(("mode", mode),) for mode in ("regions", "smooth")]
    if operation == "match_histogram":
        return [(("quantize", True), ("eight_bit", True)), (("quantize", True),), (("ties", "level"),)]
    if operation == "change_mask":
        return [(("eight_bit", True),), (("eight_bit", False),)]
    return [()]


def gpu_plan(built: bool | None = None) -> list[tuple[Case, str]]:
    """(case, provider), the most important first: a run that must stop early lacks the end of this list.

    Args:
        built: whether the CUDA C++ kernels are built, or will be by then; None looks whether they are now.
    """
    built = _native.missing() is None if built is None else built
    plan: list[tuple[Case, str]] = []

    def add(
        operations: Sequence[str],
        batch: int,
        dtypes: Sequence[str],
        layout: str,
        every_option: bool,
        providers: Sequence[str],
    ) -> None:
        for operation in operations:
            options = options_of(operation)
            for choice in options[1:] if every_option else options[:1]:
                for dtype in dtypes:
                    channels = 1 if operation == "sharp_regions" else 3
                    case = Case(operation, (batch, channels, 256, 256), dtype, layout, choice)
                    plan.extend((case, provider) for provider in providers if available(case, provider, built))

    def add_stages(batch: int, dtypes: Sequence[str], layout: str, providers: Sequence[str]) -> None:
        for channels, edge in STAGES:
            for dtype in dtypes:
                case = Case("instance_norm_glu", (batch, channels, edge, edge), dtype, layout)
                plan.extend((case, provider) for provider in providers if available(case, provider, built))

    flat = [name for name in OPERATIONS if name not in ("instance_norm_glu", "gather_crop")]
    both = ("float32", "bfloat16")
    all_but_slowest = ("eager", "best-eager", "kornia", "compile", "triton", "cuda")
    add(flat, 64, both, "nchw", False, all_but_slowest)
    add(["gather_crop"], 64, ["uint8"], "nhwc", False, all_but_slowest)
    add_stages(64, both, "nhwc", (*all_but_slowest, *(f"groups-{name}" for name in rivals.GROUPS)))
    add(flat, 256, both, "nchw", False, all_but_slowest)
    add(["gather_crop"], 256, ["uint8"], "nhwc", False, ("eager", "compile", "triton"))
    add(flat, 64, both, "nchw", True, all_but_slowest)
    images = [name for name in flat if name != "sharp_regions"]  # a plane is the same in both layouts
    add(images, 64, both, "nhwc", False, ("eager", "compile", "triton", "cuda"))
    add(flat, 16, both, "nchw", False, ("eager", "triton", "cuda"))
    add(["gather_crop"], 16, ["uint8"], "nhwc", False, ("eager", "triton"))
    add_stages(16, both, "nhwc", ("eager", "triton", "cuda"))
    add_stages(64, both, "nchw", ("eager", "best-eager", "compile", "triton", "cuda"))
    add(flat, 64, ["float32"], "nchw", False, ["compile-max"])
    add_stages(64, ["float32"], "nhwc", ["compile-max"])
    return plan


def cpu_plan() -> list[tuple[Case, str]]:
    """One small case per operation: enough to see that the harness works, and what torch.compile does on a CPU."""
    cases = [
        Case(name, (2, 1 if name == "sharp_regions" else 3, 64, 64), options=options_of(name)[0])
        for name in OPERATIONS
        if name not in ("instance_norm_glu", "gather_crop")
    ]
    cases.append(Case("instance_norm_glu", (2, 32, 32, 32), layout="nhwc"))
    cases.append(Case("gather_crop", (2, 3, 64, 64), "uint8", "nhwc"))
    return [
        (case, provider)
        for case in cases
        for provider in ("eager", "best-eager", "kornia", "compile")
        if available(case, provider)
    ]


def available(case: Case, provider: str, built: bool = False) -> bool:
    """Whether this provider has the case.

    Every operation has an eager, a compiled and a Triton implementation, few have rivals, and some CUDA C++, where it
    is built.
    """
    if provider == "cuda":
        by_sorting = case.operation in ("match_histogram", "change_mask") and not (
            dict(case.options).get("eight_bit") or ("ties", "level") in case.options
        )
        return case.operation in _native.OPERATIONS and built and not by_sorting
    if provider in ("eager", "compile", "compile-max", "triton"):
        return True
    if ("kernel_size", "drawn") in case.options:
        return False  # no other library has a size per image
    if provider.startswith("groups-"):
        return case.operation == "instance_norm_glu" and case.shape[2] >= 128 and case.layout == "nhwc"
    if case.operation == "instance_norm_glu" and case.dtype == "float32":
        return False  # there the rival is the definition
    return provider in OPERATIONS[case.operation].rivals and (provider != "kornia" or rivals.kornia is not None)


def ours_first() -> list[tuple[Case, str]]:
    """gpu_plan without what needs other packages or torch.compile: the generator's blocks in bf16 first, then the rows
    of the goals."""
    providers = ("triton", "cuda", *(f"groups-{name}" for name in rivals.GROUPS), "eager")
    ours = [entry for entry in gpu_plan(built=True) if entry[1] in providers]
    cases = list(dict.fromkeys(case for case, _ in ours))

    def rank(entry: tuple[Case, str]) -> tuple:
        case, provider = entry
        headline = (case.operation, case.dtype, case.layout) == ("instance_norm_glu", "bfloat16", "nhwc")
        return not headline, not in_goals(case), cases.index(case), providers.index(provider)

    return sorted(ours, key=rank)


def in_goals(case: Case) -> bool:
    """Whether benchmarks/goals.py asks for it: the largest batch, and the generator's blocks at every stage."""
    return case.shape[0] == GOAL_BATCH or (case.operation == "instance_norm_glu" and case.shape[0] == NORM_BATCH)


def host_plan(plan: Sequence[tuple[Case, str]], gpu: bool) -> list[tuple[Case, str, str]]:
    """(case, provider, pass) of what a call costs the host; size and type do not matter: one case per operation."""
    first = {case.operation: case for case, _ in reversed(plan)}.values()
    return [
        (tiny(case), provider, which)
        for case in first
        for provider in (("eager", "triton") if gpu else ("eager",))
        for which in (("forward", "both") if OPERATIONS[case.operation].differentiable else ("forward",))
    ]


def tiny(case: Case) -> Case:
    """The same operation on next to nothing: what is left is the host's cost."""
    channels = case.shape[1] if case.operation in ("sharp_regions", "instance_norm_glu") else 3
    return dataclasses.replace(case, shape=(1, min(channels, 4), 8, 8))
