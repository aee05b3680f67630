"""tmgan edit RUN PHOTO... --text "..." --out PATH"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from tmgan.cli.parse import parse
from tmgan.common.errors import OUR_FAULT, exit_status, sentence
from tmgan.common.files import user_path
from tmgan.config.methods import MASK_PROVIDERS
from tmgan.config.settings import RuntimeConfig
from tmgan.editing.batch import PICTURES, Item, find_photos, plan

if TYPE_CHECKING:
    from tmgan.editing.compositing import KeepSource
    from tmgan.editing.editor import Editor

_BOLDEST = 4.0
_KEEP_NAMES = ("none", "histogram", *MASK_PROVIDERS)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Edit photos with the editor of a run of `tmgan train`, each at its own resolution."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos, or folders of photos. What an edit does not change about a photo is as before: its size, colour profile,
    transparency, EXIF, XMP; see docs/editing.md."""
    text: str
    """What the photo should show, in quotes: "a bird with a red head and white wings"."""
    out: Path
    """Picture to write for one photo, folder for several: a PNG of each photo's name, as a.jpg.png where several have
    the name a."""
    box: tuple[float, float, float, float] | None = None
    """x y width height of the bird in pixels; without it the photo's central square is edited."""
    keep: str = "none"
    """Also write M * photo + (1 - M) * edit, as OUT.composited, and M, as OUT.keep. M is 1 where `histogram` matching
    finds no change, where `fcn` sees none of the classes, where `clipseg` sees nothing that the text mentions, or
    where a picture FILE is white (for several photos a folder with a PNG of the same name for each)."""
    classes: tuple[str, ...] = ("bird",)
    """With --keep fcn: the objects that the text may change."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """With --keep fcn: random for seeded random numbers in place of trained weights, for trying things out."""
    weights_dir: str = ""
    """Folder with third-party weights, searched before TMGAN_WEIGHTS and the torch hub cache."""
    attention: bool = False
    """Also write where each word looked, as OUT.attention.png."""
    strength: float = 1.0
    """How far the edit goes: 1 as the network paints it; 1.5 or 2 is bolder, 0 is the photo. What the network keeps of
    the photo stays as it is."""
    seed: int = 0
    """Noise of the generator."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "edit")
    paths, out = [user_path(path) for path in options.photos], user_path(options.out)
    photos, notes = find_photos(paths)
    several = len(photos) > 1 or any(path.is_dir() for path in paths)
    _check(options, out, photos, several)
    masks = _masks(options.keep, several)
    items = plan(photos, out, several, masks, options.keep != "none", options.attention)
    from tmgan.editing.editor import load  # imports torch: after mistakes in the flags

    editor = load(options.run, options.runtime)
    editor.tokens([options.text])
    _note(*notes, *editor.notes)
    unknown = editor.unknown_words(options.text)
    if unknown:
        _note(unknown)
    keep = _keep_source(options, editor) if masks is None else None
    (out if several else out.parent).mkdir(parents=True, exist_ok=True)
    failures = []
    for item in items:
        try:
            for path in _edit(editor, item, options, keep):
                print(path)
        except BrokenPipeError:  # of print
            raise
        except Exception as error:
            if not several or exit_status(error) == OUR_FAULT:
                raise
            said = sentence(error)
            failures.append(said if str(item.photo) in said else f"{item.photo}: {said}")
    if failures:
        raise ValueError(f"{len(failures)} of {len(items)} photos were not edited:\n" + "\n".join(failures))


def _check(options: Arguments, out: Path, photos: list[Path], several: bool) -> None:
    """Raise ValueError for flags that do not fit each other or the number of photos."""
    if several and out.suffix.lower() in PICTURES:
        raise ValueError(f"{len(photos)} photos do not fit into one picture {out}: give a folder with --out.")
    if several and out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a folder for {len(photos)} photos.")
    if several and options.box is not None:
        raise ValueError("--box says where the bird is in one photo; edit photos with different boxes one by one.")
    if not several and out.suffix.lower() not in PICTURES:
        raise ValueError(f"--out {out}: give a picture name that ends in {', '.join(PICTURES)}.")
    if not 0 <= options.strength <= _BOLDEST:  # before torch is imported
        raise ValueError(f"--strength is {options.strength:g}; use 0, the photo, to {_BOLDEST:g}.")
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed is {options.seed}; use 0 to 2**63 - 1.")


def _masks(keep: str, several: bool) -> Path | None:
    """The mask file or the folder of them that --keep names; None if it names a way to find masks."""
    if keep in _KEEP_NAMES:
        return None
    path = user_path(keep)
    if not path.exists():
        raise ValueError(f"--keep is {keep!r}, which is neither {' nor '.join(_KEEP_NAMES)} nor an existing picture.")
    if several and not path.is_dir():
        raise ValueError(f"--keep {keep}: for several photos give a folder with a mask PNG of the same name for each.")
    return path


def _keep_source(options: Arguments, editor: Editor) -> KeepSource | None:
    """Where keep-masks come from that are no files; None for --keep none."""
    from tmgan.editing.compositing import keep_unchanged, keep_without
    from tmgan.methods.mask_providers import make_provider

    if options.keep == "histogram":
        return keep_unchanged(editor.config.method)
    if options.keep not in MASK_PROVIDERS:
        return None
    if options.weights == "random":
        _note(f"--keep {options.keep} uses random weights; its mask means nothing.")
    return keep_without(
        make_provider(options.keep, options.classes, options.weights, options.weights_dir, editor.runtime.device)
    )


def _edit(editor: Editor, item: Item, options: Arguments, keep: KeepSource | None) -> Iterator[Path]:
    """Edit one photo, say what its files cannot keep, and yield each file once it is written."""
    from tmgan.editing.compositing import keep_file
    from tmgan.editing.saving import save_photo
    from tmgan.reports.pictures import save_picture, words_strip

    source = keep if item.mask is None else keep_file(item.mask)
    edit = editor.edit_in_full(item.photo, options.text, options.box, options.seed, source, options.strength)
    _note(*edit.notes, *save_photo(edit.picture, item.target))
    yield item.target
    if edit.composited is not None and edit.keep is not None:
        save_photo(edit.composited, item.composited)  # it loses what the edited photo has lost
        yield item.composited
        save_picture(edit.keep, item.keep)
        yield item.keep
    if item.with_attention:
        save_picture(words_strip(edit.attention), item.attention)
        yield item.attention


def _note(*notes: str) -> None:
    for note in notes:
        print(f"NOTE: {note}", file=sys.stderr)
