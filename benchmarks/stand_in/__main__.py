"""Run a module on one NVIDIA H200 that is not there: everything happens as on a GPU, but nothing is computed.

    python -m benchmarks.stand_in [--caching] MODULE [ARGUMENTS]
    python -m benchmarks.stand_in tmgan train --runtime.engine eager --images 48

Torch's real code for CUDA runs, with its streams, events, page-locked memory and graphs, and Triton's real compiler and
launcher; only the kernels do nothing. So it finds what is wrong on the way to a kernel: a tensor on the wrong device, a
wait inside a CUDA graph, a launch that is too large. It says nothing about numbers: new memory is zero, and looking
whether all of a tensor is finite says yes, in this process and not in those that it starts. Shared memory that a kernel
must ask for and registers that it lacks are not noticed. It takes no more memory than what is copied, whatever the
batch. DALI and kernels/csrc bring a CUDA runtime of their own and do not run.

--caching: with torch's caching allocator, which CUDA graphs need; memory that is used again then holds other numbers.
Needs Linux, gcc and a torch built for CUDA 13.
"""

from __future__ import annotations

import sys

from benchmarks.stand_in import build


def main() -> int:
    arguments = sys.argv[1:]
    caching = arguments[:1] == ["--caching"]
    arguments = arguments[caching:]
    if not arguments or arguments[0].startswith("-"):
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    try:
        variables = {} if caching else {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        return build.run_under("benchmarks.stand_in.inside", arguments, **variables)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
