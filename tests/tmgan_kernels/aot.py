"""Compile every kernel that an operation launches, for the A100 and the H100, on a machine without a GPU.

    python -m tests.tmgan_kernels.aot OPERATION... [--every | --launches]     (not under TRITON_INTERPRET)

The launchers run as they are, on CPU tensors; `JITFunction.run` is replaced, so that a launch compiles its kernel with
the arguments it got, and launches nothing. What is compiled is therefore what would run: same block sizes, same warps,
same specialisation on divisibility. Prints one JSON object per kernel. test_aot.py judges them, resources.py makes a
table of them.

With --launches nothing is compiled: the operators get tensors without memory, of sizes that need a GPU, and every
launch is printed with its grid and what its compilation would depend on.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import re
import sys

assert os.environ.get("TRITON_INTERPRET") != "1", "the interpreter replaces the compiler: unset TRITON_INTERPRET"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

_register = torch.library.Library.impl
LAUNCHERS = {}  # of every registered operator


def _register_for_cpu_tensors_too(library, name, launch, key="", **options):
    if library.ns != "tmgan_kernels":  # torch registers some of its own as late as at the first use
        return _register(library, name, launch, key, **options)
    LAUNCHERS[name] = launch
    for each in ("CUDA", "CPU") if key == "CUDA" else (key,):
        _register(library, name, launch, each, **options)


torch.library.Library.impl = _register_for_cpu_tensors_too

from tmgan_kernels import _triton

from .resources import resources

_triton.INTERPRETED = True  # the public functions accept them; nothing is interpreted in this process

TARGETS = (80, 90)
LAYOUTS = ("contiguous", "channels_last")
# Without --every: each type and each layout once.
BRIEF = ((torch.float32, "contiguous"), (torch.bfloat16, "channels_last"))
POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.bool: "*i1",
}
OPTIONS = ("num_warps", "num_stages")


def specialise(kernel: JITFunction, arguments: dict) -> tuple[dict, dict, dict]:
    """Signature, constants and alignment, as Triton's own launcher derives them from the arguments."""
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if (
            parameter.is_constexpr
            or value is None
            or (
                isinstance(value, int)
                and not isinstance(value, bool)
                and value == 1
                and not parameter.do_not_specialize
            )
        ):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
            if value.data_ptr() % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
        elif isinstance(value, bool):
            signature[parameter.name] = "i1"
        elif isinstance(value, int):
            signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0 and not parameter.do_not_specialize:
                attributes[(i,)] = [["tt.divisibility", 16]]
        else:
            assert isinstance(value, float), (parameter.name, value)
            signature[parameter.name] = "fp32"
    return signature, constants, attributes


def variant(kernel: JITFunction, args: tuple, kwargs: dict) -> tuple[tuple[dict, dict, dict], dict]:
    """What the compilation of a launch depends on: see `specialise`; and the compiler's options."""
    options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
    return specialise(kernel, inspect.signature(kernel.fn).bind(*args, **kwargs).arguments), options


class Recorder:
    """Stands in for the launch of every kernel."""

    def __init__(self) -> None:
        self.rows: dict[str, dict] = {}
        self.operation, self.label, self.large = "", "", True

    def __call__(self, kernel: JITFunction, *args, grid, warmup, **kwargs):
        (signature, constants, attributes), options = variant(kernel, args, kwargs)
        for target in TARGETS:
            key = repr((self.operation, kernel.fn.__name__, signature, constants, attributes, options, target))
            if key in self.rows:
                continue
            source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
            built = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
            row = {
                "operation": self.operation,
                "kernel": kernel.fn.__name__,
                "case": self.label,
                "large": self.large,
                "sm": target,
                "types": sorted({t for t in signature.values() if t.startswith("*")}),
                "warps": options.get("num_warps", 4),
                "shared": built.metadata.shared,
                **resources(built.asm["cubin"]),
            }
            row["float_atomics"] = len(re.findall(r"\b(?:atom|red)\.[\w.]*f(?:16|32|64)", built.asm["ptx"]))
            row["wide_offsets"] = bool(re.search(r"arith\.ext[su]i .*: i32 to i64", built.asm["ttir"]))
            self.rows[key] = row


def contract_of(name: str):
    """The tests of one operation."""
    from .contract import KernelContract

    module = importlib.import_module(f".test_{name}", __package__)
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, KernelContract) and value.operation is not None
    )()


def compile_operation(name: str, recorder: Recorder, every: bool) -> None:
    """Variants, dtypes and layouts of one operation, forward and backward; fewer of each unless `every`."""
    from .contract import DTYPES
    from .contract import LAYOUTS as CONTRACT_LAYOUTS

    contract = contract_of(name)
    recorder.operation, large = name, contract.compiled_shapes
    cases = [(shape, variant, *brief) for shape in large for variant in contract.variants for brief in BRIEF]
    if every:
        # The shapes of the parity tests have sizes and strides of 1, which the compiler takes for constants.
        cases = [
            *itertools.product(large, contract.variants + contract.more_variants, DTYPES, LAYOUTS),
            *itertools.product(contract.shapes, contract.variants, DTYPES, LAYOUTS),
        ]
    for shape, variant, dtype, layout in cases:
        recorder.label = f"{name} {tuple(shape)} {variant} {dtype} {layout}".replace("torch.", "")
        # Images of a few pixels, and filters wider than registers hold, have no 128-bit accesses to make.
        recorder.large = shape in large and variant in contract.variants
        arrange = CONTRACT_LAYOUTS[layout]
        inputs = [arrange(x) if x.dim() == 4 else x for x in contract.require_grad(contract.make(shape, dtype))]
        outputs = [y for y in contract.run(inputs, "triton", variant) if y.requires_grad]
        if outputs:
            cotangents = [arrange(torch.ones_like(y)) if y.dim() == 4 else torch.ones_like(y) for y in outputs]
            torch.autograd.grad(outputs, [inputs[i] for i in contract.differentiable], cotangents)


def launch_operation(name: str) -> None:
    """Every operator of one operation, on batches of several sizes, a large photo, and many small images."""
    contract = contract_of(name)
    channels, *_ = contract.small[1:]
    shapes = [(batch, channels, 256, 256) for batch in (1, 2, 16, 19, 64)]
    for shape in [*shapes, (1, 1, 16384, 16384), (70000, channels, 16, 16)]:
        with torch.device("meta"):
            calls = contract.operators(contract.inputs(shape, torch.bfloat16, None))
        for number, (operator, arguments) in enumerate(calls):

            def show(kernel, *args, grid, warmup, shape=shape, number=number, **kwargs):
                print(
                    json.dumps(
                        {
                            "operation": name,
                            "call": number,
                            "shape": shape,
                            "kernel": kernel.fn.__name__,
                            "grid": grid,
                            "variant": repr(variant(kernel, args, kwargs)),
                        }
                    )
                )

            JITFunction.run = show
            LAUNCHERS[operator.name().partition("::")[2]](*arguments)


def main(operations: list[str], every: bool) -> None:
    recorder = Recorder()
    JITFunction.run = lambda kernel, *args, grid, warmup, **kwargs: recorder(
        kernel, *args, grid=grid, warmup=warmup, **kwargs
    )
    for name in operations:
        compile_operation(name, recorder, every)
    for row in recorder.rows.values():
        print(json.dumps(row))


if __name__ == "__main__":
    named = [name for name in sys.argv[1:] if not name.startswith("--")]
    if "--launches" in sys.argv:
        for each in named:
            launch_operation(each)
    else:
        main(named, every="--every" in sys.argv)
