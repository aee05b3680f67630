"""What each kernel of a graph that Inductor has lowered must do: bytes, FLOPs, launches, atomics, changes of layout.

Bytes are what a kernel reads and writes if nothing stays in the L2 cache between kernels, each input and each output
once: a floor, not what it moves. FLOPs are those of convolutions and matrix products, 2 per multiply-add, by the
formulas of torch.utils.flop_counter; elementwise arithmetic counts as none, as there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import torch

FUSED, CONVOLUTION, PRODUCT, OURS, OTHER = "fused", "convolutions", "products", "our operations", "other operations"
KINDS = (FUSED, CONVOLUTION, PRODUCT, OURS, OTHER)
LARGE = 1 << 18  # elements from which a tensor counts as an activation whose layout matters
_CONVOLUTIONS = ("convolution", "cudnn_convolution")
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
# Ours that launch one kernel per sweep where a plane is large; each other operation counts as one launch.
_SWEEPS = {"instance_norm_glu": 2, "instance_norm_glu_backward": 2}


# --------------------------------------------------------------------- FLOPs
def flops(node: torch.fx.Node) -> int:
    """FLOPs of one node of an FX graph, 0 for all but convolutions and products. Needs only shapes, in meta["val"]."""
    from torch.utils.flop_counter import flop_registry

    packet = getattr(node.target, "_overloadpacket", None)
    if packet not in flop_registry:
        return 0

    def value(part):
        return part.meta["val"] if isinstance(part, torch.fx.Node) else part

    arguments = torch.fx.node.map_aggregate(node.args, value)
    options = torch.fx.node.map_aggregate(node.kwargs, value)
    return int(flop_registry[packet](*arguments, **options, out_val=node.meta["val"]))


# --------------------------------------------------------------------- bytes
def touched(size: list[int], stride: list[int], itemsize: int) -> int:
    """Bytes of a tensor in memory: a dimension of stride 0 is read once. 0 for an empty tensor."""
    return itemsize * math.prod(
        1 if step == 0 and extent > 0 else extent for extent, step in zip(size, stride, strict=True)
    )


def memory_format(size: list[int], stride: list[int]) -> str:
    """ "nhwc", "nchw", "either" (not 4-D, one channel or one pixel) or "neither"."""
    if len(size) != 4 or size[1] == 1 or size[2] * size[3] == 1:
        return "either"
    if stride[1] == 1 and stride[3] >= size[1]:
        return "nhwc"
    return "nchw" if stride[3] == 1 or (size[3] == 1 and stride[2] == 1) else "neither"


def _describe_tensor(node) -> dict:
    """Size, stride and dtype of a node of Inductor's IR that is a tensor."""
    size, stride = [int(n) for n in node.get_size()], [int(n) for n in node.get_stride()]
    return {
        "size": size,
        "stride": stride,
        "dtype": str(node.get_dtype()).removeprefix("torch."),
        "bytes": touched(size, stride, node.get_dtype().itemsize),
    }


def _tensors(nodes) -> Iterator[dict]:
    for node in nodes:
        if isinstance(node, (list, tuple)):
            yield from _tensors(node)
        elif node is not None:
            try:
                yield _describe_tensor(node)
            except (AttributeError, NotImplementedError, TypeError):
                continue  # not a tensor: a generator, a symbol, or a call of many outputs, which are listed themselves


# --------------------------------------------------------------------- nodes
def rows(graph) -> list[dict]:
    """One row per launch of a lowered graph (torch._inductor.graph.GraphLowering), in the order of the launches."""
    earlier_origins: set = set()
    kernels = []
    for node in graph.scheduler.nodes:
        kind = type(node).__name__
        if kind == "NopKernelSchedulerNode":
            continue
        if kind != "ExternKernelSchedulerNode":
            kernels.append(_fused(node, graph))
        elif type(node.node).__name__ != "MultiOutput":  # the outputs of the call before it
            row = _extern(node.node, earlier_origins)
            if row is not None:
                kernels.append(row)
    return kernels


def _fused(node, graph) -> dict:
    snodes = node.get_nodes()
    inside = {name for each in snodes for name in each.get_buffer_names()}
    # Every turn of the loops is one; the dependency does not name the loops whose place is looked up in memory.
    atomics = sum(
        math.prod(int(n) for sizes in each.get_ranges() for n in sizes)
        for each in snodes
        for dep in each.read_writes.writes
        if getattr(dep, "mode", None) == "atomic_add" and _is_float(graph, dep.name)
    )
    origins = {
        str(origin.target).removesuffix(".default")
        for each in snodes
        if each.node is not None
        for origin in getattr(each.node, "origins", ())
        if origin.op == "call_function"
    }
    reductions = any(each.is_reduction() for each in snodes)
    return {
        "kind": FUSED,
        "what": ("reduction" if reductions else "pointwise") + f" {len(snodes)}",
        "of": sorted(name.rpartition("::")[2].removeprefix("aten.") for name in origins)[:6],
        "bytes": int(node.get_read_write_buffers_sizes()),
        "flop": 0,
        "launches": 1,
        "atomics": atomics,
        "layout": [change for each in snodes for change in _transpositions(each, inside, graph)],
    }


def _is_float(graph, name: str) -> bool:
    return graph.get_dtype(name).is_floating_point


def _elements(dep) -> int:
    """How often the loops around a MemoryDep run."""
    return math.prod(int(size) for size in dep.size)


def _transpositions(node, inside: set[str], graph) -> Iterator[str]:
    """Large 4-D tensors that a part of a kernel reads in one order and writes in another.

    Which loop is innermost in memory is read off the index expressions, so that views do not matter.
    """
    writes = [dep for dep in node.read_writes.writes if _large(dep)]
    for read in node.read_writes.reads:
        if read.name in inside or not _large(read):
            continue
        for write in writes:
            sizes = [_shape(graph, dep.name) for dep in (read, write)]
            if any(size is not None and math.prod(size) < LARGE for size in sizes):
                continue  # small, and read again and again
            if any(size is not None and len(size) == 4 for size in sizes) and _against(read, write):
                yield f"{read.name} {sizes[0]} read along another dimension than {write.name} {sizes[1]} is written"


def _against(read, write) -> bool:
    """Whether neighbours in memory of what is read are none of what is written.

    Inductor merges loops over adjacent memory, so that one side may have all loops and the other a single one.
    """
    try:
        mine, other = _strides(read), _strides(write)
    except TypeError:  # an index that depends on values
        return False
    if len(mine) != len(other):
        if _elements(read) != _elements(write):
            return False
        short, long = sorted((mine, other), key=len)
        return list(short.values()) == [1] and long[list(long)[-1]] > 1 and 1 in long.values()
    if list(mine) != list(other) or [*map(int, read.size)] != [*map(int, write.size)]:
        return False
    return any(step == 1 and other[loop] > 1 for loop, step in mine.items()) and any(
        step == 1 and mine[loop] > 1 for loop, step in other.items()
    )


def _large(dep) -> bool:
    return type(dep).__name__ == "MemoryDep" and dep.mode is None and _elements(dep) >= LARGE


def _shape(graph, name: str) -> list[int] | None:
    buffer = graph.try_get_buffer(name)
    try:
        return None if buffer is None else [int(n) for n in buffer.get_size()]
    except (AttributeError, NotImplementedError):
        return None


def _strides(dep) -> dict:
    """Distance in memory of one step of each loop, by loop, where the index is that simple."""
    zero = {variable: 0 for variable in dep.var_names}
    base = dep.index.subs(zero)
    return {
        variable: int(dep.index.subs({**zero, variable: 1}) - base)
        for variable, size in zip(dep.var_names, dep.size, strict=True)
        if int(size) > 1
    }


def _extern(node, earlier_origins: set) -> dict | None:
    space, name = _callee(node)
    if name.startswith("reinterpret_tensor"):
        return None
    inputs = list(_tensors(getattr(node, "inputs", ())))
    outputs = list(_tensors(getattr(node, "outputs", None) or [node]))
    origin = next(
        (
            each
            for each in sorted(getattr(node, "origins", ()), key=str)
            if each not in earlier_origins and flops(each) and _packet(each) in name
        ),
        None,
    )
    if origin is not None:
        earlier_origins.add(origin)
    row = {
        "kind": kind_of(space, name),
        "what": name,
        "of": [],
        "inputs": [_short(each) for each in inputs],
        "outputs": [_short(each) for each in outputs],
        "dtype": inputs[0]["dtype"] if inputs else "",
        "bytes": sum(each["bytes"] for each in inputs + outputs),
        "flop": 0 if origin is None else flops(origin),
        "launches": 1,
        "atomics": 0,
        "layout": [],
    }
    if row["kind"] == CONVOLUTION:
        weight = inputs[2 if name.startswith("convolution_backward") else 1]
        row["width"] = min(weight["size"][:2])
        if name.startswith("convolution_backward"):
            row["launches"] = max(1, len(outputs))
    if row["kind"] == OURS:
        row["launches"] = _launches(name, inputs)
        formats = {memory_format(each["size"], each["stride"]) for each in inputs if math.prod(each["size"]) >= LARGE}
        if len(formats - {"either"}) > 1 or "neither" in formats:
            row["layout"] = [f"{name} is given {', '.join(_short(each) for each in inputs)} in {sorted(formats)}"]
            # As instance_norm_glu_backward does, it copies the smaller one into the order of the other.
            row["bytes"] += 2 * min(each["bytes"] for each in inputs if len(each["size"]) == 4)
            row["launches"] += 1
    return row


def _callee(node) -> tuple[str, str]:
    """Namespace and name of what an extern node calls: ("aten", "bmm"), ("tmgan_kernels", "masked_mae")."""
    overload = getattr(node, "op_overload", None)
    schema = getattr(overload, "_schema", None)
    if schema is not None:
        space, _, name = schema.name.partition("::")
        return space, name
    return "aten", (getattr(node, "python_kernel_name", None) or type(node).__name__).rpartition(".")[2]


def _packet(node: torch.fx.Node) -> str:
    return str(node.target._overloadpacket).rpartition(".")[2]


def kind_of(space: str, name: str) -> str:
    """Kind of a call of the operator space::name."""
    if space == "tmgan_kernels":
        return OURS
    if name.startswith(_CONVOLUTIONS):
        return CONVOLUTION
    return PRODUCT if name in _PRODUCTS else OTHER


def sizes_of(row: dict) -> list[tuple[int, ...]]:
    """Sizes of the tensors that a counted call was given."""
    return [tuple(map(int, re.findall(r"\d+", each.partition("(")[2].partition(")")[0]))) for each in row["inputs"]]


def identity(name: str, sizes: Sequence[tuple[int, ...]]) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """By what a call of an operator is known, counted or profiled: its name, and the sizes that tell its work.

    Convolutions have the weight last: (x, weight), or (gradient, x, weight). Products have their two factors.

    Args:
        sizes: of its arguments, in order; () where one is no tensor.
    """
    tensors = tuple(size for size in sizes if size)
    if name.startswith("convolution_backward"):
        return "convolution_backward", tensors[:3]
    if name.startswith(_CONVOLUTIONS):
        return "convolution", tensors[:2]
    if name in _PRODUCTS:
        first = 1 if name in ("addmm", "baddbmm") else 0
        return name, tensors[first : first + 2]
    return name, tensors


def _launches(name: str, inputs: list[dict]) -> int:
    from tmgan_kernels.instance_norm_glu import WHOLE_NCHW, WHOLE_NHWC

    if name not in _SWEEPS:
        return 1
    x = max((each for each in inputs if len(each["size"]) == 4), key=lambda each: math.prod(each["size"]))
    whole = WHOLE_NHWC if memory_format(x["size"], x["stride"]) == "nhwc" else WHOLE_NCHW
    return _SWEEPS[name] if x["size"][2] * x["size"][3] > whole else 1


def _short(tensor: dict) -> str:
    form = memory_format(tensor["size"], tensor["stride"])
    return f"{tensor['dtype']} {tuple(tensor['size'])}" + ("" if form == "either" else f" {form}")


# ------------------------------------------------------------------ the whole
def summary(name: str, lowered, code: str) -> dict:
    """A graph's entry of the report: its rows, and what must agree with them."""
    kernels = rows(lowered)
    nodes = [node for node in lowered.graph.nodes if node.op == "call_function"]
    return {
        "graph": name,
        "rows": kernels,
        "atomics_in_code": code.count("tl.atomic_add"),
        "flop_of_graph": sum(flops(node) for node in nodes),
    }
