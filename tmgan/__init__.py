"""tmgan: train GANs that edit a photo from a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tmgan.common.version import __version__ as __version__

if TYPE_CHECKING:
    from tmgan.editing.editor import Editor


def load(run: str, runtime: Any = None) -> Editor:
    """The editor that `tmgan train` left in the folder `run`: `tmgan.load(run).edit(photo, "a bird with ...")`."""
    from tmgan.editing.editor import load as load_editor  # imports torch, which the command line's help can do without

    return load_editor(run, runtime)
