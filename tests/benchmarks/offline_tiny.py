"""A small graph, counted by benchmarks/offline under its stand-ins: writes what test_offline.py compares to its file.

python -m tests.benchmarks.offline_tiny FILE   # by stand_in.run_under
"""

import json
import sys
from pathlib import Path

import torch

from benchmarks.offline import counting, described
from benchmarks.stand_in import build as stand_in

BATCH, CHANNELS, OUT, SIDE = 4, 16, 32, 64


def main(file: Path) -> None:
    graphs, names = [], iter(("forward", "backward"))

    def take(lowered, code: str) -> None:
        extra = described.extra_bytes(lowered)
        graphs.append({**counting.summary(next(names), lowered, code), "extra_bytes": extra})

    mode = described.install(take)
    from torch.nn import functional as F

    from tmgan_kernels import instance_norm_glu

    @torch.compile(fullgraph=True, dynamic=False)
    def block(x, weight):
        made = instance_norm_glu(F.conv2d(x, weight, padding=1))
        # as Inductor writes it: atomics in NCHW in the backward pass; then a copy that changes the layout
        pixel = torch.arange(2 * SIDE, device=made.device) // 2
        doubled = made[:, :, pixel[:, None], pixel[None, :]]
        return doubled.float().sum(), made.contiguous(memory_format=torch.contiguous_format)

    def fake(*shape):
        whole = torch.empty(shape, dtype=torch.bfloat16, device="meta").to(memory_format=torch.channels_last)
        return described.fake(whole, mode).requires_grad_()

    with mode:
        total, _ = block(fake(BATCH, CHANNELS, SIDE, SIDE), fake(OUT, CHANNELS, 3, 3))
        total.backward()
    file.write_text(json.dumps(graphs))
    stand_in.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
