"""Which implementation of an operation runs: the meaning of the argument `impl` is the same everywhere."""

IMPLEMENTATIONS = ("auto", "eager", "triton", "cuda")


def choose(operation: str, impl: str, available: tuple[str, ...]) -> str:
    """Resolve `impl` to one of `available` (ordered: what `auto` prefers first).

    Raises ValueError for a name that is not an implementation at all, RuntimeError for one that this operation does
    not have: an explicit choice is never replaced silently.
    """
    if impl == "auto":
        return available[0]
    if impl in available:
        return impl
    if impl not in IMPLEMENTATIONS:
        known = ", ".join(IMPLEMENTATIONS)
        raise ValueError(f"{operation}: impl={impl!r} is not an implementation; use one of {known}")
    raise RuntimeError(
        f"{operation}: the {impl} implementation does not exist yet in this version; "
        f"use impl='auto' or one of {', '.join(available)}"
    )
