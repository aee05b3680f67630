"""The one place that decides on device, precision, engine, threads and loader, and says what it decided and why."""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from tmgan.config.settings import RuntimeConfig

_SHARE_OF_MEMORY = 0.25  # that tiles may take; the rest is for networks and activations


@dataclass(frozen=True)
class Runtime:
    """The decision. `reasons` has a line for each setting that was `auto`."""

    device: torch.device
    precision: str  # "fp32" or "bf16"
    engine: str  # "eager", "compiled" or "graphed"
    threads: int
    deterministic: bool
    reasons: tuple[str, ...]
    loader: str = "auto"  # as requested: which one it is depends on the data, see choose_loader

    def autocast(self) -> AbstractContextManager:
        """bf16 autocast, or nothing."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def numerics(self) -> dict[str, str | int]:
        """What the last bits of a result depend on."""
        return {
            "device": self.device.type,
            "precision": self.precision,
            "engine": self.engine,
            "threads": self.threads,
            "torch": str(torch.__version__),
        }

    def choose_loader(self, needed: int) -> tuple[str, str]:
        """The loader for a set whose tiles and masks take `needed` bytes, and the reason in one line.

        Raises:
            ValueError: the requested loader cannot run here.
        """
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            memory, place = torch.cuda.mem_get_info(self.device)[0], "GPU"
        else:
            memory, place = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "computer"
        room = f"the tiles take {needed / 1e9:.2g} GB and the {place} has {memory / 1e9:.3g} GB"
        if self.loader == "dali" and not _has_dali():
            raise ValueError(
                "runtime.loader is dali, which is not installed here: pip install 'tmgan[dali]' (Linux; "
                "the package called nvidia-dali is another). Or --runtime.loader pillow."
            )
        if self.loader == "resident" and on_gpu and needed > memory:
            raise ValueError(
                f"runtime.loader is resident, but {room} free. Use --runtime.loader "
                f"{'dali' if _has_dali() else 'pillow'}, which reads the original files at every step."
            )
        if self.loader != "auto":
            return self.loader, f"loader {self.loader}: asked for"
        if needed < _SHARE_OF_MEMORY * memory:
            return "resident", f"loader resident: {room}{' free' if on_gpu else ''}"
        if on_gpu and _has_dali():
            return "dali", f"loader dali: {room} free, which the networks need"
        why = (
            " free, and dali is not installed (pip install 'tmgan[dali]')"
            if on_gpu
            else ", and without a GPU exactly the tiles' pixels matter more than dali's speed"
        )
        return "pillow", f"loader pillow: {room}{why}"

    def describe(self) -> str:
        """One line for the log."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"{self.threads} threads"
        return f"{self.device.type} ({name}), {self.precision}, {self.engine}" + (
            ", deterministic" if self.deterministic else ""
        )


def decide(config: RuntimeConfig) -> Runtime:
    """Resolve every `auto`, and set the process-wide switches of torch accordingly.

    Raises:
        ValueError: something was requested that this machine does not have.
    """
    reasons = []
    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise ValueError(
            "runtime.device is cuda, but torch sees no GPU here. Use --runtime.device cpu, or check the "
            "driver with nvidia-smi and that torch is a CUDA build (tmgan doctor shows both)."
        )
    device = torch.device("cuda" if has_gpu and config.device != "cpu" else "cpu")
    if config.device == "auto":
        reasons.append(f"device {device.type}: " + ("there is a GPU" if has_gpu else "torch sees no GPU"))
    precision = config.precision
    if precision == "auto":
        bf16 = (
            device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
            and not config.deterministic
        )
        precision = "bf16" if bf16 else "fp32"
        reasons.append(
            f"precision {precision}: "
            + (
                "the GPU has fast bf16"
                if bf16
                else "deterministic run"
                if config.deterministic
                else "bf16 pays on a recent GPU only"
            )
        )
    engine = config.engine
    if engine == "auto":
        engine, reason = _engine(device, config.deterministic)
        reasons.append(f"engine {engine}: {reason}")
    if engine == "graphed" and device.type != "cuda":
        raise ValueError(
            "runtime.engine is graphed, but CUDA graphs need a GPU. Use --runtime.engine compiled or eager."
        )
    if engine == "compiled" and device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise ValueError(
            "runtime.engine is compiled, which needs a C++ compiler on the CPU. Install g++, or use "
            "--runtime.engine eager."
        )
    threads = config.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    if device.type == "cuda":
        # The products that a bf16 run leaves in fp32 (attention, matching losses) are sums over hundreds of terms,
        # which TF32 adds up in fp32 too. It rounds their factors to 11 bits, and these are bf16 activations (8 bits)
        # and fp16 words (11) or softmaxes of them: no precision is lost that the run still had
        # (tests/training/test_tf32.py). They grow with the square of the batch, and are several times as fast.
        torch.backends.cuda.matmul.allow_tf32 = precision == "bf16"
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    return Runtime(device, precision, engine, threads, config.deterministic, tuple(reasons), config.loader)


def _has_dali() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # not even a package called nvidia
        return False


def _engine(device: torch.device, deterministic: bool) -> tuple[Literal["eager", "compiled"], str]:
    """What engine `auto` means, and why. Graphed is no candidate until it has been measured on a GPU."""
    if device.type == "cpu":
        return "eager", "on a CPU, compiling takes longer than a short run gains"
    if deterministic:
        return "eager", "the reference, for a deterministic run"
    return "compiled", "the GPU would wait for single operations; graphed has not been measured yet"
