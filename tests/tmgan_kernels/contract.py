"""What every fused operation promises, as tests that each operation's file inherits.

The kernels run on the GPU where there is one; else on the CPU, the Triton kernels in Triton's interpreter and the CUDA
C++ kernels as their host build (csrc/host): same tests. The oracle is the eager definition in float64. Accuracy rule
(flash-attention's): the kernel's error against it is at most twice the error that the eager definition makes in the
same dtype, plus two units in the last place of the largest value.
"""

from __future__ import annotations

import contextlib
import itertools

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # float64: layouts and gradcheck
# One pixel, odd, one row, several strips of rows, wider than a block of 256 columns.
SHAPES = ((1, 1, 1, 1), (2, 3, 5, 7), (1, 2, 1, 9), (1, 4, 17, 9), (1, 3, 2, 300))
GPU_SHAPES = ((4, 3, 256, 256), (3, 3, 255, 257))
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    # Two elements of padding: the base is misaligned, the strides are not dense, the guard bands hold NaN.
    "sliced": lambda x: torch.nn.functional.pad(x, (1, 2, 1, 1), value=float("nan"))[:, :, 1:-1, 1:-2],
    "expanded": lambda x: x[:1].expand(x.shape),
}


def ids(values) -> list[str]:
    return [str(value).removeprefix("torch.") for value in values]


class Log(TorchDispatchMode):
    """The operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[torch._ops.OpOverload] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls.append(function)
        return function(*args, **(kwargs or {}))

    @property
    def copies(self) -> list[str]:
        """Those that move whole tensors in memory."""
        moves = torch.ops.aten.clone, torch.ops.aten.copy_, torch.ops.aten._to_copy
        return [str(function) for function in self.calls if function.overloadpacket in moves]


@contextlib.contextmanager
def filled_memory():
    """New memory holds NaN, or the largest integer, as under torch's deterministic algorithms."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def as_list(outputs) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def assert_accurate(actual: Tensor, low: Tensor, exact: Tensor, what: str) -> None:
    """actual: from the kernel; low: eager in the same dtype; exact: eager in float64."""
    assert actual.shape == exact.shape, what
    assert actual.dtype == low.dtype, what
    if not actual.numel():
        return
    error = (actual.double() - exact.double()).abs().max()
    unit = torch.finfo(actual.dtype).eps * exact.double().abs().max()
    allowed = 2 * (low.double() - exact.double()).abs().max() + 2 * unit + 1e-30
    assert error <= allowed, f"{what}: error {error:.3e}, allowed {allowed:.3e}"


class KernelContract:
    """Inherit as `class TestX(KernelContract)`; set what is below; add the tests that only X has."""

    operation = None  # the public function
    impl = "triton"  # which kernels are held against the definition
    layout_dtype = torch.float64  # the widest that they take
    variants: tuple[dict, ...] = ({},)  # keyword arguments, each tested throughout
    more_variants: tuple[dict, ...] = ()  # on large images alone: on a GPU, and compiled by test_aot.py
    shapes: tuple = SHAPES
    gpu_shapes: tuple = GPU_SHAPES
    differentiable: tuple[int, ...] = (0,)  # which positional inputs have a gradient
    twice = True  # whether gradients of gradients exist
    preserves_layout = False  # whether the output has the memory format of the first input
    small = (2, 3, 4, 6)  # for the tests that are not about values: the interpreter is slow
    compiled_shapes: tuple = ((2, 3, 256, 256),)  # for which test_aot.py compiles the kernels
    many_values = 2**31

    def inputs(self, shape: tuple, dtype: torch.dtype, random: torch.Generator) -> list[Tensor]:
        """Positional tensors on the CPU. Image-like ones in `dtype`."""
        return [torch.rand(shape, generator=random, dtype=torch.float64).mul_(2).sub_(1).to(dtype)]

    def operators(self, inputs: list[Tensor]) -> list[tuple]:
        """(operator, arguments) pairs for opcheck: every operator that this operation registers."""
        raise NotImplementedError

    def compare(self, actual: list[Tensor], low: list[Tensor], exact: list[Tensor]) -> None:
        """Outputs that are masks or labels override this: exact away from thresholds."""
        for i, triple in enumerate(zip(actual, low, exact, strict=True)):
            assert_accurate(*triple, f"output {i}")

    # ------------------------------------------------------------- machinery
    @property
    def brief(self) -> tuple[dict, ...]:
        """For what does not depend on the variant: the interpreter takes a second for what a GPU does in none."""
        return self.variants if GPU else self.variants[:1]

    @property
    def sizes_and_variants(self) -> list[tuple]:
        """What parity is tested on."""
        pairs = list(itertools.product(self.shapes + (self.gpu_shapes if GPU else ()), self.variants))
        return pairs + (list(itertools.product(self.gpu_shapes, self.more_variants)) if GPU else [])

    def make(self, shape, dtype, seed=0) -> list[Tensor]:
        return [x.to(DEVICE) for x in self.inputs(shape, dtype, torch.Generator().manual_seed(seed))]

    def run(self, inputs, impl, variant) -> list[Tensor]:
        return as_list(type(self).operation(*inputs, **variant, impl=impl))

    def widened(self, inputs) -> list[Tensor]:
        return [x.double() if x.is_floating_point() else x for x in inputs]

    def require_grad(self, inputs) -> list[Tensor]:
        return [x.detach().requires_grad_() if i in self.differentiable else x for i, x in enumerate(inputs)]

    def gradients(self, inputs, impl, variant, cotangents) -> list[Tensor]:
        inputs = self.require_grad(inputs)
        outputs = self.run(inputs, impl, variant)
        wanted = [inputs[i] for i in self.differentiable]
        pairs = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
        return list(torch.autograd.grad([y for y, _ in pairs], wanted, [c.to(y.dtype) for y, c in pairs]))

    def cotangents(self, outputs) -> list[Tensor]:
        random = torch.Generator().manual_seed(9)
        return [torch.rand(y.shape, generator=random, dtype=torch.float64).sub_(0.3).to(DEVICE) for y in outputs]

    # ----------------------------------------------------------------- tests
    @pytest.mark.parametrize("dtype", DTYPES, ids=ids(DTYPES))
    def test_parity(self, dtype):
        for shape, variant in self.sizes_and_variants:
            inputs = self.make(shape, dtype)
            actual = self.run(inputs, self.impl, variant)
            self.compare(actual, self.run(inputs, "eager", variant), self.run(self.widened(inputs), "eager", variant))

    @pytest.mark.parametrize("dtype", DTYPES, ids=ids(DTYPES))
    def test_gradient_parity(self, dtype):
        if not self.differentiable:
            pytest.skip("not differentiable")
        for shape, variant in self.sizes_and_variants:
            inputs = self.make(shape, dtype)
            # Rounded to the dtype first, so that all three see the same incoming gradient.
            outputs = self.run(inputs, "eager", variant)
            cotangents = [c.to(y.dtype) for y, c in zip(outputs, self.cotangents(outputs), strict=True)]
            triple = (
                self.gradients(inputs, self.impl, variant, cotangents),
                self.gradients(inputs, "eager", variant, cotangents),
                self.gradients(self.widened(inputs), "eager", variant, cotangents),
            )
            for i, (actual, low, exact) in enumerate(zip(*triple, strict=True)):
                assert_accurate(actual, low, exact, f"gradient {i}, {tuple(shape)}, {variant}")

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_layouts(self, layout):
        """Any strides of inputs and of incoming gradients give the values of contiguous ones."""
        for variant in self.variants if layout == "channels_last" else self.brief:
            inputs = self.make((3, *self.small[1:]), self.layout_dtype)
            if layout == "expanded":
                inputs = [x[:1].repeat(3, *[1] * (x.dim() - 1)) for x in inputs]
            arranged = [LAYOUTS[layout](x) if x.dim() == 4 else x for x in inputs]
            wanted = self.run([x.contiguous() for x in arranged], self.impl, variant)
            actual = self.run(arranged, self.impl, variant)
            for a, w in zip(actual, wanted, strict=True):
                torch.testing.assert_close(a, w)
            if self.preserves_layout and layout in ("contiguous", "channels_last"):
                memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
                assert all(y.is_contiguous(memory_format=memory_format) for y in actual)
            if not self.differentiable:
                continue
            cotangents = self.cotangents(wanted)
            if layout == "expanded":
                cotangents = [c[:1].repeat(3, *[1] * (c.dim() - 1)) if c.dim() == 4 else c for c in cotangents]
            strided = [LAYOUTS[layout](c) if c.dim() == 4 else c for c in cotangents]
            for a, w in zip(
                self.gradients(arranged, self.impl, variant, strided),
                self.gradients([x.contiguous() for x in arranged], self.impl, variant, cotangents),
                strict=True,
            ):
                torch.testing.assert_close(a, w)

    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    def test_dense_inputs_are_not_copied(self, layout):
        for variant in self.brief:
            inputs = self.require_grad(
                [LAYOUTS[layout](x) if x.dim() == 4 else x for x in self.make(self.small, torch.float32)]
            )
            with Log() as log:
                outputs = self.run(inputs, self.impl, variant)
                grads = [
                    LAYOUTS[layout](y.detach()) if y.dim() == 4 else y.detach() for y in outputs if y.requires_grad
                ]
            assert not log.copies, (variant, log.copies)
            if grads:
                with Log() as log:
                    torch.autograd.grad(
                        [y for y in outputs if y.requires_grad], [inputs[i] for i in self.differentiable], grads
                    )
                assert not log.copies, (variant, "backward", log.copies)

    def test_gradcheck(self):
        """The kernels' own derivatives against finite differences, in float64; second derivatives too."""
        if not self.differentiable:
            pytest.skip("not differentiable")
        for variant in self.variants:
            inputs = self.require_grad(self.make((1, *self.small[1:]), torch.float64))

            def call(*tensors, variant=variant):
                return [y for y in self.run(tensors, self.impl, variant) if y.requires_grad]

            assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
            if self.twice:
                assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)

    @pytest.mark.parametrize("batch", [2, 0])
    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    def test_registration(self, batch, layout):
        """torch's own check of schema, fake kernel and tracing, for each registered operator."""
        what = ("test_schema", "test_faketensor")  # what layout and size bear on
        if batch and layout == "contiguous":
            what += ("test_autograd_registration", "test_aot_dispatch_dynamic")
        inputs = [LAYOUTS[layout](x) if x.dim() == 4 else x for x in self.make((batch, *self.small[1:]), torch.float32)]
        for operator, arguments in self.operators(inputs):
            torch.library.opcheck(operator, arguments, test_utils=what)

    def test_compiles_without_breaks(self):
        """One graph forward and backward, and no new one for another batch size."""
        for variant in self.brief:
            torch._dynamo.reset()
            counter = CompileCounterWithBackend("aot_eager")

            def call(*tensors, variant=variant):
                return self.run(tensors, self.impl, variant)

            compiled = torch.compile(call, fullgraph=True, backend=counter)
            for batch in (2, 4):
                inputs = self.require_grad(self.make((batch, *self.small[1:]), torch.float32))
                for x in inputs:
                    torch._dynamo.mark_dynamic(x, 0)
                actual, wanted = compiled(*inputs), call(*inputs)
                for a, w in zip(actual, wanted, strict=True):
                    torch.testing.assert_close(a, w)
                if self.differentiable:
                    tensors = [inputs[i] for i in self.differentiable]
                    pairs = [(a, w) for a, w in zip(actual, wanted, strict=True) if w.requires_grad]
                    grads = torch.autograd.grad([a.sum() for a, _ in pairs], tensors)
                    for a, w in zip(grads, torch.autograd.grad([w.sum() for _, w in pairs], tensors), strict=True):
                        torch.testing.assert_close(a, w)
            assert counter.frame_count == 1, f"{counter.frame_count} graphs for two batch sizes"

    def test_empty_batch(self):
        for variant in self.brief:
            inputs = self.make((0, *self.small[1:]), torch.float32)
            for actual, wanted in zip(
                self.run(inputs, self.impl, variant), self.run(inputs, "eager", variant), strict=True
            ):
                assert actual.shape == wanted.shape
                torch.testing.assert_close(actual, wanted, equal_nan=True)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_nonfinite_values_travel_as_in_eager(self, value):
        for variant in self.variants:
            inputs = self.make(self.small, torch.float32)
            inputs[0][0, 1, 2, 3] = value
            for actual, wanted in zip(
                self.run(inputs, self.impl, variant), self.run(inputs, "eager", variant), strict=True
            ):
                torch.testing.assert_close(actual, wanted, equal_nan=True)

    def test_constant_and_large_values(self):
        for variant in self.variants:
            for fill in (0.25, 1e4):
                inputs = self.make(self.small, torch.float32)
                inputs[0].fill_(fill)
                self.compare(
                    self.run(inputs, self.impl, variant),
                    self.run(inputs, "eager", variant),
                    self.run(self.widened(inputs), "eager", variant),
                )

    def test_repeats_are_bit_equal(self):
        """Whatever the memory held that results and scratch tables are put in."""
        for variant in self.brief:
            inputs = self.make(self.gpu_shapes[0] if GPU else self.small, torch.float32)
            first = self.run(inputs, self.impl, variant)
            cotangents = self.cotangents(first)
            slopes = self.gradients(inputs, self.impl, variant, cotangents) if self.differentiable else []
            for _ in range(20 if GPU else 1):
                with filled_memory():
                    again = self.run(inputs, self.impl, variant)
                    more = self.gradients(inputs, self.impl, variant, cotangents) if self.differentiable else []
                assert all(torch.equal(a, b) for a, b in zip(first + slopes, again + more, strict=True))

    @pytest.mark.parametrize("eager", [True, False], ids=["eager", "kernel"])
    def test_autocast_changes_nothing(self, eager):
        impl = "eager" if eager else self.impl
        for variant in self.brief:
            inputs = self.make(self.small, torch.float32)
            plain = self.run(inputs, impl, variant)
            with torch.autocast(DEVICE.type, torch.bfloat16):
                cast = self.run(inputs, impl, variant)
            for a, b in zip(plain, cast, strict=True):
                assert a.dtype == b.dtype
                assert torch.equal(a, b)

    def test_refuses_unknown_implementations(self):
        inputs = self.make(self.small, torch.float32)
        with pytest.raises(ValueError, match="not an implementation"):
            self.run(inputs, "fast", self.variants[0])

    def test_auto_is_the_kernel_on_a_gpu_and_eager_in_float64(self):
        """Which operator runs, on tensors that only pretend to be on a GPU: no machine needs to have one."""
        for dtype in (torch.float32, torch.float64):
            inputs = self.make(self.small, dtype)
            with FakeTensorMode(), Log() as log:
                fakes = [torch.empty(x.shape, dtype=x.dtype, device="cuda") for x in inputs]
                outputs = self.run(fakes, "auto", self.variants[0])
            assert {y.device.type for y in outputs} == {"cuda"}
            assert any(call.namespace == "tmgan_kernels" for call in log.calls) == (dtype == torch.float32)

    @pytest.mark.skipif(not GPU, reason="needs a GPU")
    def test_graph_capture_on_a_side_stream(self):
        """Forward and backward, captured once and replayed on other images."""
        shape = (4, self.small[1], 64, 64)
        for variant in self.brief:
            inputs, stream = self.require_grad(self.make(shape, torch.float32)), torch.cuda.Stream()
            cotangents = self.cotangents(self.run(inputs, self.impl, variant))

            def step(inputs=inputs, variant=variant, cotangents=cotangents):
                outputs = self.run(inputs, self.impl, variant)
                pairs = [(y, c.to(y.dtype)) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
                if not pairs:
                    return outputs
                wanted = [inputs[i] for i in self.differentiable]
                return outputs + list(torch.autograd.grad([y for y, _ in pairs], wanted, [c for _, c in pairs]))

            torch.cuda.synchronize()
            with torch.cuda.stream(stream):
                step()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                captured = step()
            with torch.no_grad():
                for x, new in zip(inputs, self.make(shape, torch.float32, seed=5), strict=True):
                    x.copy_(new)
            graph.replay()
            torch.cuda.synchronize()
            assert all(torch.equal(a, w) for a, w in zip(captured, step(), strict=True))

    @pytest.mark.slow
    @pytest.mark.skipif(not GPU or torch.cuda.mem_get_info()[1] < 70e9, reason="needs a GPU with 80 GB")
    def test_images_beyond_two_billion_values(self):
        """Are what they are alone: offsets of images are 64 bits wide."""
        variant, few = self.variants[0], self.make((3, self.small[1], 256, 256), torch.bfloat16)
        times = self.many_values // few[0].numel() + 1
        many = [x.repeat(times, *[1] * (x.dim() - 1)) for x in few]
        wanted = self.run(few, self.impl, variant)
        for y, w in zip(self.run(many, self.impl, variant), wanted, strict=True):
            torch.testing.assert_close(y[-3:] if y.dim() else y, w, rtol=0 if y.dim() else 1e-4, atol=0)
        if not self.differentiable:
            return
        cotangents = self.cotangents(wanted)
        slopes = self.gradients(few, self.impl, variant, cotangents)
        repeated = [c.repeat(times, *[1] * (c.dim() - 1)) if c.dim() else c * times for c in cotangents]
        for slope, wanted in zip(self.gradients(many, self.impl, variant, repeated), slopes, strict=True):
            torch.testing.assert_close(slope[-3:], wanted, rtol=2**-7, atol=0)
