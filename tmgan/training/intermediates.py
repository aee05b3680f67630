"""Every tensor of one training step, as statistics: what went in, what each operation gave, each gradient, each update.

A tensor is measured when the operation that made or changed it has just returned, so work in place hides nothing. The
statistics stay on the device until the step is done. Compiled functions and CUDA graphs cannot be looked into: the step
must run operation by operation.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tmgan_kernels
from tmgan.training.encoder_step import EncoderStep
from tmgan.training.loaders.batch import Batch, Loader
from tmgan.training.parts import LOAD, Parts
from tmgan.training.step import TrainStep
from tmgan.training.tensor_stats import Row, measure, read

BEFORE = "before the step"  # the part of weights, buffers and moments as the step finds them
ELSEWHERE = "between the parts"
LOSSES = "losses"  # the part of what the step returns
_PACKAGES = (Path(__file__).parents[1], Path(tmgan_kernels.__file__).parent)
_EMPTY = ("empty", "new_empty")  # how the names of operations begin whose numbers are not there yet
_CONSTANT = "lift_fresh"  # gives a tensor that was made from Python numbers, and calls it a view
_NO_OPERATION = {"module": "", "operation": "", "place": "", "output": 0, "inputs": (), "constant": False}


def _state(modules: dict[str, nn.Module], adams: dict[str, torch.optim.Optimizer]) -> Iterator[tuple[str, Tensor]]:
    """Weights, buffers and the optimisers' moments, by name."""
    names: dict[Tensor, str] = {}
    for top, module in modules.items():
        for name, parameter in module.named_parameters():
            names[parameter] = f"{top}.{name}"
            yield names[parameter], parameter
        for name, buffer in module.named_buffers():
            yield f"{top}.{name}", buffer
    for top, adam in adams.items():
        for trained, moments in adam.state.items():
            for key, tensor in moments.items():
                yield f"{top}.{key} of {names.get(trained, 'a parameter')}", tensor


class Intermediates(TorchDispatchMode):
    """Inside, every floating-point tensor of a step is looked at; the step changes what any step changes.

    Views, and memory that was only allocated, are left out.

    Args:
        step: of the eager engine; its modules and optimisers are found as its attributes.
    """

    def __init__(self, step: TrainStep | EncoderStep):
        super().__init__()
        self._step = step
        self._modules = modules = {name: x for name, x in vars(step).items() if isinstance(x, nn.Module)}
        self._adams = {name: x for name, x in vars(step).items() if isinstance(x, torch.optim.Optimizer)}
        self._paths = {
            module: f"{top}.{name}".rstrip(".") for top, one in modules.items() for name, module in one.named_modules()
        }
        self._part = ""
        self._went_back = False  # whether a backward pass has begun, for steps whose parts have no names
        self._inside: list[str] = []  # paths of the modules that are running
        # What computed an operation, by the number of its node in autograd's graph: module, place.
        self._origins: dict[int, tuple[str, str]] = {}
        self._last_node = torch.autograd._get_sequence_nr() - 1
        self._names: dict[tuple[int, int], str] = {}  # of tensors that live longer than a step, by address and size
        self._written: dict[int, tuple[int, ...]] = {}  # the rows of what a memory holds
        self._busy = False
        self._about: list[dict[str, Any]] = []
        self._measured: list[Tensor] = []

    # What is recorded.

    def add_named(self, name: str, tensor: Tensor, kind: str, part: str) -> None:
        """Measure a tensor that no operation gives, and call it so from now on."""
        if tensor.is_floating_point() and tensor.numel():
            self._names[tensor.data_ptr(), tensor.numel()] = name
            inputs = self._written.get(tensor.untyped_storage()._cdata, ())
            self._add(tensor, {**_NO_OPERATION, "part": part, "kind": kind, "name": name, "inputs": inputs})

    def add_losses(self, losses: dict[str, Tensor]) -> None:
        """Measure what a step has returned."""
        for name, loss in losses.items():
            self.add_named(name, loss, "loss", LOSSES)

    def _add(self, tensor: Tensor, about: dict[str, Any]) -> None:
        self._busy = True
        try:
            with torch.no_grad():
                self._measured.append(measure(tensor.detach()))
        finally:
            self._busy = False
        order, storage = len(self._about), tensor.untyped_storage()
        part_of_it = tensor.numel() * tensor.element_size() < storage.nbytes()
        before = self._written.get(storage._cdata, ()) if part_of_it else ()
        self._written[storage._cdata] = (*before, order)
        shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        self._about.append({"order": order, **about, "shape": shape, "dtype": dtype})

    def rows(self) -> list[Row]:
        """All that was recorded, in the order in which it came about."""
        return read(self._measured, self._about)

    # Where the step is.

    def __enter__(self) -> Intermediates:
        for name, tensor in _state(self._modules, self._adams):
            self.add_named(name, tensor, "state", BEFORE)
        with ExitStack() as stack:
            parts: Parts | None = getattr(self._step, "within", None)
            if parts is not None:
                stack.callback(setattr, self._step, "within", parts)
                setattr(self._step, "within", lambda name: self._within(name, parts))  # noqa: B010 (for one step)
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            for top, module in self._modules.items():
                for name, parameter in module.named_parameters():
                    stack.callback(self._watch(f"{top}.{name}", parameter))
            self._undo = stack.pop_all()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._undo.close()

    @contextmanager
    def _within(self, name: str, parts: Parts) -> Iterator[None]:
        self._part = name
        try:
            with parts(name):
                yield
        finally:
            self._part = ""

    def _watch(self, name: str, parameter: Tensor) -> Callable[[], None]:
        """Measure a parameter's gradient as soon as it is complete. Returns how to stop."""
        before = parameter.requires_grad
        parameter.requires_grad_(True)  # a hook needs it; the discriminator's are switched within the step
        handle = parameter.register_post_accumulate_grad_hook(lambda one: self._gradient(name, one))
        parameter.requires_grad_(before)
        return handle.remove

    def _gradient(self, name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            about = {"part": self._part_now(True), "kind": "gradient", "name": f"gradient of {name}"}
            inputs = self._written.get(parameter.grad.untyped_storage()._cdata, ())
            module = name.rpartition(".")[0]
            self._add(parameter.grad, {**_NO_OPERATION, **about, "module": module, "inputs": inputs})

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._inside.append(self._paths.get(module, type(module).__name__))

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._inside.pop()

    def _part_now(self, backward: bool) -> str:
        self._went_back = self._went_back or backward
        if self._part or hasattr(self._step, "within"):
            return self._part or ELSEWHERE
        return "backward" if backward else "update" if self._went_back else "loss"

    def load(self, loader: Loader, step: int) -> Batch:
        """The step's batch; its columns are recorded by name."""
        before, self._part = self._part, LOAD
        try:
            batch = loader(step)
            for field in fields(batch):
                column = getattr(batch, field.name)
                if column is not None:
                    self.add_named(f"batch.{field.name}", column, "batch", LOAD)
        finally:
            self._part = before
        return batch

    # The operations.

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._busy:
            return function(*args, **kwargs)
        backward = torch._C._current_graph_task_id() != -1
        again = backward and torch.is_grad_enabled()
        name, module, place = self._origin(function, backward, again)
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        before = {id(x): self._written.get(x.untyped_storage()._cdata, ()) for x in inputs}
        outputs = function(*args, **kwargs)
        about = {
            "part": self._part_now(backward),
            "kind": "recomputed" if again else "backward" if backward else "operation",
            "module": module,
            "operation": name,
            "place": place,
            "constant": function._opname == _CONSTANT
            or any(isinstance(x, float) and not math.isfinite(x) for x in tree_leaves((args, kwargs))),
        }
        for number, (tensor, label, sources) in enumerate(_results(function, args, kwargs, outputs, inputs)):
            if not tensor.is_floating_point() or function._opname.startswith(_EMPTY) or tensor.numel() == 0:
                self._written.pop(tensor.untyped_storage()._cdata, None)
                continue
            known = dict.fromkeys(row for x in sources for row in before.get(id(x), ()))
            known_name = self._names.get((tensor.data_ptr(), tensor.numel()), label)
            self._add(tensor, {**about, "name": known_name, "output": number, "inputs": tuple(known)})
        return outputs

    def _origin(self, function: Any, backward: bool, again: bool) -> tuple[str, str, str]:
        """Name, module and place of an operation."""
        name = str(function).removesuffix(".default")
        if not backward or again:
            origin = (self._inside[-1] if self._inside else "", _place())
            node = torch.autograd._get_sequence_nr() - 1
            if not backward and node > self._last_node:  # autograd has just made one: that of this operation
                self._last_node = node
                self._origins[node] = origin
            if origin[0] or not backward:
                return name, *origin
        running = torch._C._current_autograd_node()
        if running is None:
            return name, "", ""
        module, place = self._origins.get(running._sequence_nr(), ("", ""))
        gradient = running.name().rpartition("::")[2]
        return (name if again else f"{gradient}: {name}"), module, place


class WatchedLoader:
    """A loader whose batches are recorded."""

    def __init__(self, loader: Loader, recorder: Intermediates):
        self._loader, self._recorder, self.pixels = loader, recorder, loader.pixels

    def __call__(self, step: int) -> Batch:
        return self._recorder.load(self._loader, step)

    def close(self) -> None:
        self._loader.close()


def _results(
    function: Any, args: Any, kwargs: Any, outputs: Any, inputs: list[Tensor]
) -> Iterator[tuple[Tensor, str, Iterable[Tensor]]]:
    """The tensors that an operation has made or changed, each with a label and what it was made of.

    Views are none of them: they share the memory of what they show. Of lists that are worked through together, as an
    optimiser does, each element is made of those in its own place.
    """
    schema = function._schema
    values = outputs if isinstance(outputs, tuple) else (outputs,)
    lists = [x for x in (*args, *kwargs.values()) if isinstance(x, (list, tuple)) and x and isinstance(x[0], Tensor)]
    for declared, value in zip(schema.returns, values, strict=False):
        view = declared.alias_info is not None and not declared.alias_info.is_write
        if view and function._opname != _CONSTANT:
            continue
        for tensor in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(tensor, Tensor):
                yield tensor, "", inputs
    if any(declared.alias_info is not None and declared.alias_info.is_write for declared in schema.returns):
        return  # what is changed is returned too
    for declared, value in zip(schema.arguments, args, strict=False):
        if declared.alias_info is None or not declared.alias_info.is_write:
            continue
        if isinstance(value, Tensor):
            yield value, "", inputs
        for place, tensor in enumerate(value if isinstance(value, (list, tuple)) else ()):
            yield tensor, f"{declared.name}[{place}]", [one[place] for one in lists if len(one) == len(value)]


def _place() -> str:
    """The innermost line of the package's own code that is running, this module's not counted."""
    frame = sys._getframe(1)
    while frame is not None:
        file = _own_file(frame.f_code.co_filename)
        if file:
            return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


@cache
def _own_file(name: str) -> str:
    """The file as a reader finds it, from the package on; "" for others' code and this module."""
    path = Path(name)
    roots = [root for root in _PACKAGES if path.is_relative_to(root)]
    return "" if not roots or path == Path(__file__) else path.relative_to(roots[0].parent).as_posix()
