"""Commands as messages print them: what a user copies into a shell runs as printed, whatever a path is called."""

from __future__ import annotations

import shlex
from pathlib import Path


def command(*words: object) -> str:
    """`tmgan` with these words after it, each quoted if the shell needs it.

    command("data", "prepare", source, pack, "--image-size", 64)

    Args:
        words: paths as Path, so that one that begins with a dash is not taken for a flag.
    """
    return shlex.join(["tmgan", *map(_word, words)])


def _word(word: object) -> str:
    return f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
