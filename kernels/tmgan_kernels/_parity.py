"""Whether the kernels compute what the eager definitions say, on the device at hand: one `Check` an operation.

The oracle is the eager definition in float64. Accuracy rule (flash-attention's): an error against it may be at most
twice the error that the eager definition makes in the same dtype, plus two units in the last place of the largest
value. Masks must be equal but for pixels within rounding of their threshold. Everything runs twice and must repeat bit
for bit.

Shapes are few on purpose: each costs a compilation of every kernel, and what they cost together is what `verify` takes.
Inputs keep away from the kinks of absolute values and thresholds, so that rounding alone cannot decide a sign or label.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import tmgan_kernels
from tmgan_kernels import _native, _triton
from tmgan_kernels.change_mask import difference_eager, dilate_eager

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
PAIRS = (("float32", "nchw"), ("bfloat16", "nhwc"))  # as they are met: in a user's own code, and in training
# Odd, and shorter than any block; whole vectors, at the size that is trained at; several blocks wide, and low.
ODD, WHOLE, WIDE = (3, 3, 37, 53), (2, 3, 256, 256), (2, 3, 9, 300)
RACED = ((4, 3, 256, 256), (40, 3, 256, 256))


class Disagreement(Exception):
    """An implementation does not do what the definition does; the message says where and by how much."""


class Unusable(Exception):
    """The definition itself does not run, or memory runs out: that says nothing about a kernel."""


# -------------------------------------------------------------------- inputs
def uniform(shape: tuple, random: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=random, dtype=torch.float64)


def image(shape: tuple, random: torch.Generator) -> list[Tensor]:
    return [uniform(shape, random) * 2 - 1]


def checkered(shape: tuple, random: torch.Generator) -> list[Tensor]:
    """A chequered image with some noise, weak on its left, strong on its right.

    Its Laplacian is nowhere near zero, and no pixel is near the threshold between blurred (below 3.8)
    and sharp (above 4.6).
    """
    row, column = torch.arange(shape[2])[:, None], torch.arange(shape[3])
    contrast = torch.where(column < shape[3] // 2, 0.2, 0.9).double()
    return [contrast * (1 - 2 * ((row + column) % 2)) + uniform(shape, random) * 0.04 - 0.02]


def pair_and_mask(shape: tuple, random: torch.Generator) -> list[Tensor]:
    mask = uniform((shape[0], 1, *shape[2:]), random)
    return [*image(shape, random), *image(shape, random), mask * (mask > 0.3)]


def image_and_gain(shape: tuple, random: torch.Generator) -> list[Tensor]:
    return [*image(shape, random), uniform((shape[0], 1, *shape[2:]), random) * 2 - 0.5]


def image_and_labels(shape: tuple, random: torch.Generator) -> list[Tensor]:
    """Soft labels in eighths, 1 on a ninth of the pixels."""
    return [*checkered(shape, random), torch.randint(0, 9, (shape[0], 1, *shape[2:]), generator=random).double() / 8]


def in_levels(x: Tensor) -> Tensor:
    """x of [-1, 1] with 8 bits, a quarter of a level above each: neither its floor nor the nearest is in doubt."""
    return (((x + 1) * 127.5).floor().clamp(0, 255) + 0.25) / 127.5 - 1


def two_photos(shape: tuple, random: torch.Generator) -> list[Tensor]:
    return [in_levels(uniform(shape, random) * 2 - 1), in_levels(uniform(shape, random) * 1.5 - 1)]


def photo_and_edit(shape: tuple, random: torch.Generator) -> list[Tensor]:
    """An image, and the same with less contrast, some noise and a brighter quarter."""
    original = uniform(shape, random) * 2 - 1
    edit = 0.9 * original + 0.1 * uniform(shape, random)
    edit[..., : shape[2] // 2, : shape[3] // 2] += 0.6
    return [in_levels(original), in_levels(edit)]


def sharpness_map(shape: tuple, random: torch.Generator) -> list[Tensor]:
    """Skewed like sharpness, so that mean, median and threshold differ."""
    return [uniform((shape[0], 1, *shape[2:]), random).pow(3)]


def doubled(shape: tuple, random: torch.Generator) -> list[Tensor]:
    return image((shape[0], 2 * shape[1], *shape[2:]), random)


def tiles_and_places(shape: tuple, random: torch.Generator) -> list[Tensor]:
    batch, channels, edge, _ = shape
    corners = edge - crop_of(edge) + 1
    return [
        torch.randint(256, (batch + 2, edge, edge, channels), generator=random, dtype=torch.uint8),
        torch.randint(batch + 2, (batch,), generator=random),
        torch.randint(corners, (batch,), generator=random),
        torch.randint(corners, (batch,), generator=random),
        torch.arange(batch) % 2 == 0,
    ]


def crop_of(edge: int) -> int:
    return max(1, edge * 7 // 8)


# --------------------------------------------------------------- comparisons
def accurate(what: str, actual: Tensor, low: Tensor, exact: Tensor) -> float:
    """The error of actual as a share of what is allowed; Disagreement if it is more.

    actual: of the implementation; low: eager in the same dtype; exact: eager in float64.
    """
    if actual.shape != exact.shape or actual.dtype != low.dtype:
        raise Disagreement(f"{what} is {tuple(actual.shape)} {actual.dtype}, not {tuple(exact.shape)} {low.dtype}")
    exact = exact.double()
    error = (actual.double() - exact).abs().max().item()
    unit = torch.finfo(actual.dtype).eps * exact.abs().max().item()
    allowed = 2 * (low.double() - exact).abs().max().item() + 2 * unit + 1e-30
    if not error <= allowed:  # NaN is not
        raise Disagreement(f"{what} has an error of {error:.3g}, allowed are {allowed:.3g}")
    return error / allowed


def compare_all(inputs: list[Tensor], options: dict, actual: list, low: list, exact: list) -> float:
    return max(accurate(f"output {i}", *triple) for i, triple in enumerate(zip(actual, low, exact, strict=True)))


def compare_bytes(inputs: list[Tensor], options: dict, actual: list, low: list, exact: list) -> float:
    if actual[0].dtype != low[0].dtype or not torch.equal(actual[0], low[0]):
        raise Disagreement("the crops are not equal")
    return 0.0


def compare_regions(inputs: list[Tensor], options: dict, actual: list, low: list, exact: list) -> float:
    """The mask is exact, but where a value is within four units of the threshold's last place; nearly none is."""
    share = accurate("threshold", actual[1], low[1], exact[1])
    threshold = exact[1][:, None, None, None]
    distance = (inputs[0].double() - threshold).abs()
    close = (distance <= 4 * torch.finfo(actual[1].dtype).eps * threshold.abs()) & (distance > 0)
    return max(share, exact_but_for(close, close, actual[0], exact[0]))


def compare_masks(inputs: list[Tensor], options: dict, actual: list, low: list, exact: list) -> float:
    """Exact, but for pixels that see a difference so near the threshold or the ceiling that rounding decides."""
    how = {name: value for name, value in options.items() if name != "ceiling"}
    original, generated = inputs
    difference = difference_eager(original, generated, **how)
    near = (difference - 32.5).abs() < 1e-3
    if "ceiling" in options:
        near |= (difference - options["ceiling"]).abs() < 1e-3
    seen = dilate_eager(dilate_eager(near.any(dim=1, keepdim=True)))
    return max(exact_but_for(near, seen, actual[0], wanted[0]) for wanted in (low, exact))


def exact_but_for(close: Tensor, excused: Tensor, actual: Tensor, wanted: Tensor) -> float:
    if actual.dtype != wanted.dtype or actual.shape != wanted.shape:
        raise Disagreement(f"the mask is {tuple(actual.shape)} {actual.dtype}")
    if wrong := int(((actual != wanted) & ~excused).sum()):
        raise Disagreement(f"the mask differs in {wrong} of {wanted.numel()} pixels that no rounding excuses")
    if close.sum() > 1e-4 * close.numel():
        raise Disagreement(f"{int(close.sum())} of {close.numel()} values are too near a threshold to tell")
    return 0.0


# ------------------------------------------------------------ the operations
@dataclass(frozen=True)
class Check:
    """How one operation is called, on what, and what of it is compared."""

    inputs: Callable[[tuple, torch.Generator], list[Tensor]] = image  # (B, C, H, W) -> float64 and integer tensors
    variants: tuple[dict, ...] = ({},)
    differentiable: tuple[int, ...] = ()  # which inputs have a gradient that a kernel computes
    whole: tuple[tuple, ...] = (WHOLE,)
    odd: tuple[tuple, ...] = (ODD,)
    wide: tuple[tuple, ...] = (WIDE,)
    raced: tuple[tuple, ...] = RACED
    compare: Callable = compare_all
    dtypes: tuple[str, ...] = tuple(DTYPES)
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    call: Callable | None = None  # (operation, inputs, options, impl) -> outputs
    cuda: Callable[[dict], bool] = lambda options: True  # which variants the CUDA C++ kernels have


def call_blur(operation: Callable, inputs: list[Tensor], options: dict, impl: str) -> Tensor:
    size = options["kernel_size"]
    if size == "drawn":
        sizes = torch.tensor([5, 9, 7], device=inputs[0].device)
        size = sizes[torch.arange(len(inputs[0]), device=sizes.device) % 3]
    return operation(*inputs, size, impl=impl)


def call_labelled(operation: Callable, inputs: list[Tensor], options: dict, impl: str) -> Tensor:
    options = dict(options)
    return operation(inputs[0], labels=inputs[1] if options.pop("given") else None, **options, impl=impl)


def call_crop(operation: Callable, inputs: list[Tensor], options: dict, impl: str) -> Tensor:
    return operation(*inputs, crop_of(inputs[0].shape[1]), impl=impl)


def counts(options: dict) -> bool:
    return options.get("eight_bit", False) or options.get("ties") == "level"


CHECKS: dict[str, Check] = {
    # First those whose kernels take long to compile: they should not be the last to be waited for.
    "box_blur": Check(variants=({"kernel_size": 5}, {"kernel_size": "drawn"}), differentiable=(0,), call=call_blur),
    "naive_sharpness_loss": Check(
        image_and_labels,
        ({"given": False}, {"given": True, "region": "sharp", "gamma": 1.0}),
        differentiable=(0,),
        call=call_labelled,
    ),
    "sharp_gradient": Check(checkered, ({}, {"mode": "smooth"}), differentiable=(0,)),
    "change_mask": Check(
        photo_and_edit,
        ({"eight_bit": True, "ceiling": 120.0}, {"ties": "level"}, {}),
        compare=compare_masks,
        cuda=counts,
    ),
    "match_histogram": Check(two_photos, ({"quantize": True, "eight_bit": True}, {"ties": "level"}, {}), cuda=counts),
    # Deep and small, and as wide as at the last stage: it has other kernels for either.
    "instance_norm_glu": Check(
        doubled,
        differentiable=(0,),
        whole=((2, 32, 128, 128), (2, 64, 16, 16)),
        odd=((2, 3, 15, 17),),
        wide=(),
        raced=((4, 32, 128, 128), (40, 32, 128, 128), (40, 64, 16, 16)),
    ),
    "sharp_regions": Check(sharpness_map, ({"steps": 5},), compare=compare_regions),
    "gaussian_blur": Check(variants=({"kernel_size": 5, "sigma": 1.0},), differentiable=(0,)),
    "laplace_sharpness": Check(checkered, ({}, {"border": "zeros"}), differentiable=(0,)),
    "sharpness_score": Check(),
    "masked_mae": Check(pair_and_mask, differentiable=(0, 1)),
    "mask_score": Check(pair_and_mask),
    "scale_gradient": Check(image_and_gain, differentiable=(0,)),
    "gather_crop": Check(
        tiles_and_places,
        whole=((4, 3, 293, 293),),
        odd=((2, 1, 37, 37),),
        wide=(),
        raced=((4, 3, 293, 293), (40, 3, 293, 293)),
        compare=compare_bytes,
        dtypes=("float32",),
        layouts=("nchw",),
        call=call_crop,
    ),
}


def run(operation: str, inputs: list[Tensor], options: dict, impl: str) -> list[Tensor]:
    function, call = getattr(tmgan_kernels, operation), CHECKS[operation].call
    out = call(function, inputs, options, impl) if call else function(*inputs, **options, impl=impl)
    return [out] if isinstance(out, Tensor) else list(out)


def prepare(operation: str, shape: tuple, dtype: str, layout: str, device: torch.device) -> list[Tensor]:
    """The inputs on the device, floating ones in this dtype and images in this layout: the same on every machine."""
    made = CHECKS[operation].inputs(shape, torch.Generator().manual_seed(0))
    images = [x.to(DTYPES[dtype]) if x.is_floating_point() else x for x in made]
    return [(x.contiguous(memory_format=LAYOUTS[layout]) if x.is_floating_point() else x).to(device) for x in images]


def gradients(operation: str, inputs: list[Tensor], options: dict, impl: str, incoming: list[Tensor]) -> list[Tensor]:
    wanted = CHECKS[operation].differentiable
    inputs = [x.detach().requires_grad_() if i in wanted else x for i, x in enumerate(inputs)]
    outputs = run(operation, inputs, options, impl)
    return list(
        torch.autograd.grad(
            outputs, [inputs[i] for i in wanted], [g.to(y.dtype) for g, y in zip(incoming, outputs, strict=True)]
        )
    )


# ------------------------------------------------------------------- running
def definition(operation: str, inputs: list[Tensor], options: dict) -> tuple[list, list, list, list, list]:
    """What eager gives for inputs and in float64: outputs, incoming gradients for them, gradients. Raises Unusable."""
    wide = [x.double() if x.is_floating_point() else x for x in inputs]
    random = torch.Generator().manual_seed(9)
    try:
        low, exact = run(operation, inputs, options, "eager"), run(operation, wide, options, "eager")
        if not CHECKS[operation].differentiable:
            return low, exact, [], [], []
        # Rounded to the dtype, and in the layout, of the outputs first: all three see the same incoming gradient.
        incoming = [torch.empty_like(y).copy_(uniform(y.shape, random) - 0.3) for y in low]
        return (
            low,
            exact,
            incoming,
            gradients(operation, inputs, options, "eager", incoming),
            gradients(operation, wide, options, "eager", incoming),
        )
    except Exception as error:
        raise Unusable(f"the eager definition of {operation} does not run: {reason(error)}") from error


def compare(
    operation: str, impl: str, shape: tuple, dtype: str, layout: str, options: dict, device: torch.device
) -> float:
    """The largest share of an allowed error that is taken up. Raises Disagreement, Unusable, or what kernels raise."""
    try:
        inputs = prepare(operation, shape, dtype, layout, device)
    except Exception as error:
        raise Unusable(f"no tensor can be made on {device}: {reason(error)}") from error
    low, exact, incoming, *slopes = definition(operation, inputs, options)
    actual = run(operation, inputs, options, impl)
    share = CHECKS[operation].compare(inputs, options, actual, low, exact)
    if not all(map(torch.equal, actual, run(operation, inputs, options, impl))):
        raise Disagreement("a repeat gives other bits")
    if incoming:
        actual = gradients(operation, inputs, options, impl, incoming)
        for i, triple in enumerate(zip(actual, *slopes, strict=True)):
            share = max(share, accurate(f"gradient {i}", *triple))
        if not all(map(torch.equal, actual, gradients(operation, inputs, options, impl, incoming))):
            raise Disagreement("a repeat of the gradient gives other bits")
    return share


def cases(operation: str, impl: str) -> Iterator[tuple[tuple, str, str, dict]]:
    """Shape, dtype, layout and options of everything that is compared.

    The first variant in every type and layout on a whole shape; odd shapes and other variants in PAIRS alone.
    """
    check = CHECKS[operation]
    first, *others = [options for options in check.variants if impl != "cuda" or check.cuda(options)]
    pairs = [(dtype, layout) for dtype, layout in PAIRS if dtype in check.dtypes and layout in check.layouts]
    for shape in check.whole:
        for dtype, layout in itertools.product(check.dtypes, check.layouts):
            yield shape, dtype, layout, first
    for dtype, layout in pairs:
        for shape in check.odd:
            yield shape, dtype, layout, first
        for options in others:
            yield check.whole[0], dtype, layout, options
    for shape in check.wide:
        yield shape, *pairs[0], first


def reason(error: BaseException) -> str:
    """An exception as one line."""
    text = str(error).strip().splitlines()
    line = text[0] if text else "no message"
    return f"{type(error).__name__}: {line}"


def implementations(operation: str) -> list[str]:
    """Those that can run here, beside "eager"."""
    cuda = operation in _native.OPERATIONS and _native.missing() is None
    return ["triton"] * (_triton.triton is not None) + ["cuda"] * cuda


def check(operation: str, impl: str, device: torch.device, only: list | None = None) -> Iterator[dict]:
    """A row for each case, as soon as it is known: `problem` is None where the implementation agrees.

    What raises ends it: after an illegal access, say, nothing more can be learnt in this process. Raises Unusable where
    that is not the implementation's doing. only: the cases to run instead of all, as `cases` gives them.
    """
    for shape, dtype, layout, options in only if only is not None else cases(operation, impl):
        row = {
            "operation": operation,
            "impl": impl,
            "shape": list(shape),
            "dtype": dtype,
            "layout": layout,
            "options": options,
            "share": None,
            "problem": None,
        }
        try:
            row["share"] = compare(operation, impl, shape, dtype, layout, options, device)
        except Disagreement as error:
            row["problem"] = str(error)
        except Unusable:
            raise
        except torch.OutOfMemoryError as error:
            raise Unusable(f"the GPU has too little free memory: {reason(error)}") from error
        except Exception as error:  # whatever a kernel, its compiler or the driver raises is a finding
            row["problem"] = reason(error)
            yield row
            return
        yield row
