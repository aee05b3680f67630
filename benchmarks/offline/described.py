"""A described GPU: makes torch, Inductor and Triton see an H200 that is not there.

All uses of torch's private parts are here, except for the nodes of a lowered graph, which counting.py reads.

Seen working with torch 2.11 (Triton 3.6) and 2.14 (Triton 3.8). To be used under the stand-ins of benchmarks/stand_in
only.
"""

from __future__ import annotations

import types
from collections.abc import Callable

import torch
from torch import Tensor, nn

DEVICE = "cuda:0"
NAME = "NVIDIA H200"
_CARD = types.SimpleNamespace(
    name=NAME,
    major=9,
    minor=0,
    total_memory=141 << 30,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    warp_size=32,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
    L2_cache_size=60 << 20,
    gcnArchName="",
    is_integrated=0,
    is_multi_gpu_board=0,
)


def install(
    take: Callable, call: Callable = lambda extra, outputs: None
) -> torch._subclasses.fake_tensor.FakeTensorMode:
    """Describe the card; compiled functions then return fake tensors and run nothing.

    Args:
        take: called with each graph that Inductor has lowered and written: torch._inductor.graph.GraphLowering, with
            its scheduler, and the Python text that it became.
        call: called at each call of such a graph, with the bytes that it needs at most beyond those that were there
            before, and its outputs, by two calls: before there are any, with None, and with them.

    Returns:
        The mode in which fake tensors of the card are made.
    """
    _describe()
    _quiet()
    _triton()
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    _capture(take, call, mode)
    return mode


def _describe() -> None:
    torch.set_num_threads(1)
    answers = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_properties": _CARD,
        "get_device_capability": (9, 0),
        "is_bf16_supported": True,
        "synchronize": None,
        "_lazy_init": None,
        "is_initialized": False,
        "get_device_name": NAME,
        "mem_get_info": (140 << 30, 141 << 30),
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": None,
    }
    for name, value in answers.items():
        setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    import torch.cuda.random as generators  # the compiler saves and restores the state around tracing

    generators.get_rng_state, generators.set_rng_state = torch.cuda.get_rng_state, torch.cuda.set_rng_state
    torch.backends.cudnn.is_available = lambda: True
    torch.accelerator.is_available = lambda: False
    import torch._subclasses.fake_tensor as fake_tensor

    fake_tensor.init_gpu_context = lambda *_: None  # would allocate a byte on the card
    import torch.utils._foreach_utils as foreach

    foreach._foreach_supported_types.append(fake_tensor.FakeTensor)  # many tensors are one call, as on the card


def _quiet() -> None:
    """Nothing in Inductor may run, look at a real card, or come from a cache."""
    import torch._inductor.compile_fx as compile_fx
    import torch._inductor.config as config
    import torch._inductor.fx_passes.joint_graph as joint_graph
    import torch._inductor.fx_passes.post_grad as post_grad
    import torch._inductor.scheduler as scheduler
    import torch._inductor.utils as utils
    import torch.utils._triton as triton_utils

    config.force_disable_caches = True
    config.compile_threads = 1
    config.worker_start_method = "subprocess"
    config.shape_padding = False  # decides by timing
    config.joint_graph_constant_folding = False  # runs operations
    for module in (triton_utils, utils, scheduler, compile_fx):
        if hasattr(module, "has_triton"):  # imported by name in some versions
            module.has_triton = lambda *_, **__: True
    joint_graph.lazy_init = post_grad.lazy_init = lambda *_, **__: None  # patterns are traced on the card


def _triton() -> None:
    import triton
    from triton.backends.compiler import GPUTarget

    class Driver:
        """What triton.runtime.driver is asked for while code is written."""

        class utils:
            get_device_properties = staticmethod(
                lambda device: {"max_shared_mem": 232448, "multiprocessor_count": 132, "warpSize": 32}
            )

        get_current_target = lambda self: GPUTarget("cuda", 90, 32)  # noqa: E731
        get_current_device = lambda self: 0  # noqa: E731
        get_current_stream = lambda self, device=0: 0  # noqa: E731
        get_device_interface = lambda self: torch.cuda  # noqa: E731
        get_active_torch_device = lambda self: torch.device(DEVICE)  # noqa: E731

    triton.runtime.driver.set_active(Driver())


def extra_bytes(lowered) -> int:
    """Bytes that a lowered graph needs beyond its inputs, at its peak, by the lifetimes that Inductor works with."""
    from torch._inductor.memory import prepare_planning_info
    from torch.utils._ordered_set import OrderedSet

    scheduler = lowered.scheduler
    most, inputs = prepare_planning_info(
        scheduler.nodes,
        scheduler.name_to_buf,
        scheduler.name_to_fused_node,
        OrderedSet(lowered.graph_inputs),
        OrderedSet(lowered.get_output_names()),
    )
    return max(0, most - sum(each.mpi_buffer.size_free for each in inputs.values()))


def _capture(take: Callable, watch: Callable, mode) -> None:
    from torch._inductor.graph import GraphLowering

    def compile_to_module(self):
        """In place of writing, importing and launching: the code is written, and its call makes empty outputs."""
        code, _ = self.codegen()
        take(self, code.value)
        extra = extra_bytes(self)
        outputs = [
            None if getattr(out, "meta", None) is None else out.meta.get("val")
            for out in self.graph.find_nodes(op="output")[0].args[0]
        ]

        def call(inputs):
            watch(extra, None)
            inputs.clear()
            with mode:
                results = tuple(
                    torch.empty_strided(
                        tuple(map(int, out.shape)), tuple(map(int, out.stride())), dtype=out.dtype, device=DEVICE
                    )
                    if isinstance(out, Tensor)
                    else out
                    for out in outputs
                )
            watch(extra, results)
            return results

        return types.SimpleNamespace(call=call, __file__="none.py", runner=None, key="none")

    GraphLowering._compile_to_module = compile_to_module


# ------------------------------------------------------------ fake tensors and modules
def fake(x: Tensor, mode, dtype: torch.dtype | None = None) -> Tensor:
    """x on the card, without its values.

    Args:
        dtype: of floating-point tensors, if not their own.
    """
    result_dtype = x.dtype if dtype is None or not x.is_floating_point() else dtype
    with mode:
        return torch.empty_strided(x.shape, x.stride(), dtype=result_dtype, device=DEVICE)


def fake_module(module: nn.Module, mode, dtype: torch.dtype | None = None) -> nn.Module:
    """The module itself, its parameters and buffers fake: `to` cannot move a real one to a card that is not there."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                with mode:
                    part._parameters[name] = nn.Parameter(
                        fake(parameter.data, mode, dtype), requires_grad=parameter.requires_grad
                    )
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = fake(buffer, mode, dtype)
    return module
