"""Where kernels are interpreted: Triton's interpreter twice as fast, and its oldest versions with a new numpy."""

from __future__ import annotations

import os

if os.environ.get("TRITON_INTERPRET") == "1":  # set by ../conftest.py where there is no GPU
    import triton
    from triton.runtime import interpreter

    # Two thirds of the interpreter's work is for nothing.
    patched: set[int] = set()

    def call(self, *args, **kwargs):
        """A jitted function calls another. Triton patches its whole language for each call; once per module will do."""
        if id(self.fn.__globals__) not in patched:
            patched.add(id(self.fn.__globals__))
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call
    # Every sum and product of integers is computed again in 64 bits, to find an overflow that no image of a few pixels
    # has.
    object.__setattr__(interpreter.interpreter_builder.options, "sanitize_overflow", False)

    # Scalars are arrays of one element here. A loop takes its bounds from int(array), which numpy 2.4 refuses unless
    # the array is 0-dimensional; Triton 3.8 squeezes it first. In older versions this does.
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8):
        patch_tensor = interpreter._patch_lang_tensor

        def patch_tensor_and_index(tensor, scope):
            patch_tensor(tensor, scope)
            scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

        interpreter._patch_lang_tensor = patch_tensor_and_index
