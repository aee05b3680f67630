"""Triton, if it is installed. Without it every operation still runs, as its eager definition."""

import os

try:
    import triton
    import triton.language as tl

    jit = triton.jit
except ImportError:
    triton = None

    class _Language:
        """Stands in for `triton.language`: what the kernels' signatures name, and nothing that runs."""

        constexpr = None

    tl = _Language

    def jit(function=None, **options):
        """Stands in for `triton.jit`, so that the kernels can be defined where nothing can launch them."""
        return function if function is not None else lambda decorated: decorated


# Triton reads this variable when it is imported: kernels then run on the CPU, slowly, for tests.
INTERPRETED = triton is not None and os.environ.get("TRITON_INTERPRET") == "1"
