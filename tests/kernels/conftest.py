"""Where kernels are interpreted, this makes it twice as fast: two thirds of the interpreter's work is for nothing."""
from __future__ import annotations

import os

if os.environ.get("TRITON_INTERPRET") == "1":  # set by ../conftest.py where there is no GPU
    from triton.runtime import interpreter

    patched: set[int] = set()

    def call(self, *args, **kwargs):
        """A jitted function calls another. Triton patches all of its language for each call; once a module will do."""
        if id(self.fn.__globals__) not in patched:
            patched.add(id(self.fn.__globals__))
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call
    # Every sum and product of integers is computed again in 64 bits, to find an overflow that no image of a few pixels
    # has.
    object.__setattr__(interpreter.interpreter_builder.options, "sanitize_overflow", False)
