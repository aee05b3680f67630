"""Commands as messages print them: what a user copies into a shell runs as printed, whatever a path is called."""

from __future__ import annotations

import shlex


def command(*words: object) -> str:
    """`tmgan` with these words after it, each quoted if the shell needs it.

    command("data", "prepare", source, pack, "--image-size", 64)
    """
    return shlex.join(["tmgan", *map(str, words)])
