"""tmgan doctor"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field

from tmgan.cli.parse import parse
from tmgan.config.settings import RuntimeConfig

# distribution -> what it is for
_PACKAGES = {
    "torch": "",
    "torchvision": "",
    "triton": "GPU kernels",
    "numpy": "",
    "pillow": "",
    "safetensors": "",
    "nvidia-dali-cuda130": "decodes photos on the GPU (extra dali)",
    "pillow-simd": "",
    "pytorch-fid": "FID's network",
    "tensorboard": "curves (extra tb)",
    "textblob": "word labels (extra pos)",
    "transformers": "masks for any text (extra clip)",
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Print device, versions, what is installed and which weights are found."""

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
    from tmgan.models import weights
    from tmgan_kernels import verify

    runtime = decide(options.runtime)
    print(f"tmgan {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"device: {runtime.describe()}")
    for reason in runtime.reasons:
        print(f"  {reason}")
    print(f"  torch was built for {'CUDA ' + torch.version.cuda if torch.version.cuda else 'the CPU'}")
    for line in verify.report():
        print(f"  {line}")
    print(f"  CUDA C++ kernels: {tmgan_kernels.cuda_missing() or 'built'}")
    print("packages:")
    for name, purpose in _PACKAGES.items():
        version = machine.version(name)
        if name == "pillow-simd" and version not in ("not installed", PIL.__version__):
            purpose = "but pillow lies over it: pip install --force-reinstall --no-deps pillow-simd"
        print(f"  {name:<19} {version:<16} {purpose}".rstrip())
    print("weights:")
    for key, file in weights.KNOWN.items():
        path = weights.find(key, options.weights_dir)
        print(f"  {file.name}: {path or 'not found; ' + file.url}\n    {file.purpose}")
    print("  looked in: " + ", ".join(map(str, weights.folders(options.weights_dir))))
