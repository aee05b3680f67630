"""tmgan edit RUN PHOTO... --text "..." --out PATH"""

from __future__ import annotations

import contextlib
import functools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from tmgan.cli.parse import parse
from tmgan.common.errors import sentence
from tmgan.common.files import user_path
from tmgan.common.progress import Progress
from tmgan.common.text import printable
from tmgan.config.methods import MASK_PROVIDERS
from tmgan.config.settings import RuntimeConfig
from tmgan.editing.batch import PICTURES, Item, find_photos, plan
from tmgan.editing.limits import check_seed, check_strength

if TYPE_CHECKING:
    from tmgan.editing.compositing import KeepSource
    from tmgan.editing.edited import Outcome
    from tmgan.editing.editor import Editor
    from tmgan.methods.mask_providers import MaskProvider

_MOST_SEEDS = 16  # fit into one picture
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
    """x y width height of the bird in pixels; without it, --find says where it is."""
    find: Literal["auto", "centre", "fcn", "clipseg"] = "auto"
    """Where the bird is without --box. fcn: where that network sees one of the classes; clipseg: where it sees what the
    text is about; centre: in the photo's central square, as where nothing is found. auto: by the network that found
    the objects of the run's training, if one did and its weights are here, else in the centre."""
    keep: str = "none"
    """Also write M * photo + (1 - M) * edit, as OUT.composited, and M, as OUT.keep. M is 1 where `histogram` matching
    finds no change, where `fcn` sees none of the classes, where `clipseg` sees nothing that the text mentions, or
    where a picture FILE is white (for several photos a folder with a PNG of the same name for each)."""
    classes: tuple[str, ...] = ("bird",)
    """With --find fcn and --keep fcn: the objects that the text is about."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """With --find fcn and --keep fcn: random for seeded random numbers in place of trained weights, for trying things
    out."""
    weights_dir: str = ""
    """Folder with third-party weights, searched before TMGAN_WEIGHTS and the torch hub cache."""
    attention: bool = False
    """Also write where each word looked, as OUT.attention.png."""
    strength: float = 1.0
    """How far the edit goes: 0 is the photo, 1 what the network paints, 0.5 half-way between. 1.5 or 2 is bolder, 4 the
    most; what the network keeps of the photo then stays as it is."""
    seed: int = 0
    """Noise of the generator, if it has some: lightweight and manigan have, quickstart and editor have none."""
    seeds: int = 1
    """Also write the edits of this many seeds from --seed on, side by side, as OUT.seeds.png; up to 16. The edit itself
    is that of --seed."""
    batch: int = 8
    """Photos that the network edits at a time; fewer take less memory."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "edit")
    paths, out = [user_path(path) for path in options.photos], user_path(options.out)
    if not paths and options.run.suffix.lower() in PICTURES:
        raise ValueError(f"The run folder comes first, then the photos, and {options.run} is named like a picture.")
    photos, notes = find_photos(paths)
    several = len(photos) > 1 or any(path.is_dir() for path in paths)
    _check(options, out, photos, several)
    masks = _masks(options.keep, several)
    items = plan(photos, out, several, masks, options.keep != "none", options.attention, options.seeds > 1)
    from tmgan.editing.editor import load  # imports torch: after mistakes in the flags

    editor = load(options.run, options.runtime)
    editor.words(options.text)
    _note(*notes, *editor.notes)
    unknown = editor.unknown_words(options.text)
    if unknown:
        _note(unknown)
    if options.seeds > 1 and not editor.varies(options.text):
        raise ValueError(
            f"--seeds {options.seeds}: this generator has no noise, so every seed gives the same edit. Leave it out."
        )
    find, keep = _find_and_keep(options, editor)
    (out if several else out.parent).mkdir(parents=True, exist_ok=True)
    failures = _edit(editor, items, options, find, keep, several)
    if failures and not several:
        raise failures[items[0].photo]
    if failures:
        said = "\n".join(_of(photo, sentence(error)) for photo, error in failures.items())
        raise ValueError(f"{len(failures)} of {len(items)} photos were not edited:\n{said}")


def _of(photo: Path, said: str) -> str:
    """A sentence about a photo that names it."""
    return said if str(photo) in said else f"{photo}: {said}"


def _check(options: Arguments, out: Path, photos: list[Path], several: bool) -> None:
    """Raise ValueError for flags that do not fit each other or the number of photos."""
    if several and out.suffix.lower() in PICTURES:
        raise ValueError(f"{len(photos)} photos do not fit into one picture {out}: give a folder with --out.")
    if several and out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a folder for {len(photos)} photos.")
    same = [
        path for path in map(user_path, options.photos) if several and out.is_dir() and out.resolve() == path.resolve()
    ]
    if same:
        raise ValueError(
            f"--out {out} is the folder of the photos: the next time its edits would be edited. Name another."
        )
    if several and options.box is not None:
        raise ValueError("--box says where the bird is in one photo; edit photos with different boxes one by one.")
    if options.box is not None and options.find in MASK_PROVIDERS:
        raise ValueError(f"--box says where the bird is, so --find {options.find} has nothing to find: leave one out.")
    if not several and out.suffix.lower() not in PICTURES:
        raise ValueError(f"--out {out}: give a picture name that ends in {', '.join(PICTURES)}.")
    check_strength(options.strength, "--strength")
    check_seed(options.seed, "--seed")
    if not 1 <= options.seeds <= _MOST_SEEDS:
        raise ValueError(f"--seeds is {options.seeds}; use 2 to {_MOST_SEEDS}, or 1 for the edit alone.")
    check_seed(options.seed + options.seeds - 1, "the last of --seeds")
    if options.batch < 1:
        raise ValueError(f"--batch is {options.batch}; use 1 or more.")


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


def _finder(options: Arguments, editor: Editor) -> str:
    """Name of the mask provider that says where the bird is; "" for none."""
    if options.box is not None or options.find == "centre":
        return ""
    if options.find != "auto":
        return options.find
    from tmgan.editing.placement import provider_of_training

    name, is_here = provider_of_training(editor.config.method, options.weights_dir)
    if is_here and options.weights == "pretrained":
        return name
    if name:
        _note(
            f"this run has learnt from the objects that {name} finds, and its weights are not here: the centred square "
            f"of each photo is edited. --box says where the bird is; --find {name} says what is missing."
        )
    return ""


def _find_and_keep(options: Arguments, editor: Editor) -> tuple[MaskProvider | None, KeepSource | None]:
    """Who finds the bird, and where keep-masks come from that are no files. One network does both if it can."""
    from tmgan.editing.compositing import keep_unchanged, keep_without
    from tmgan.methods.mask_providers import make_provider

    finder, device = _finder(options, editor), editor.runtime.device
    providers = {
        name: make_provider(name, options.classes, options.weights, options.weights_dir, device)
        for name in MASK_PROVIDERS
        if name in (finder, options.keep)
    }
    if options.weights == "random" and finder:
        _note(f"--find {finder} uses random weights; where it finds the bird means nothing.")
    if options.weights == "random" and options.keep in providers:
        _note(f"--keep {options.keep} uses random weights; its mask means nothing.")
    keep = None
    if options.keep == "histogram":
        keep = keep_unchanged(editor.config.method)
    elif options.keep in providers:
        keep = keep_without(providers[options.keep])
    return providers.get(finder), keep


def _edit(
    editor: Editor,
    items: list[Item],
    options: Arguments,
    find: MaskProvider | None,
    keep: KeepSource | None,
    several: bool,
) -> dict[Path, Exception]:
    """Edit and write all photos, print the names of the files, and return what went wrong with which."""
    from tmgan.editing.compositing import keep_file
    from tmgan.editing.pipeline import Failed, in_threads, threads

    outcomes = editor.edit_many(
        [item.photo for item in items],
        options.text,
        None if options.box is None else [options.box],
        options.seed,
        options.strength,
        [keep if item.mask is None else keep_file(item.mask) for item in items],
        find,
        options.batch,
    )
    write, errors = functools.partial(_write, editor, options), {}
    show = Progress(visible=several)
    with contextlib.closing(outcomes), threads() as pool, show.bar("photos", len(items)):
        for written in in_threads(write, zip(items, outcomes, strict=True), pool):
            assert not isinstance(written, Failed)  # it holds the error, and what was written before it
            _note(*written.notes)
            for path in written.paths:
                print(path)
            if written.error is not None:
                errors[written.item.photo] = written.error
            show.advance()
    return errors


@dataclass
class _Written:
    """What was written for one photo.

    Attributes:
        item: the photo.
        paths: files, in the order in which they were written.
        notes: what the user should know about them.
        error: what went wrong then.
    """

    item: Item
    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: Exception | None = None


def _write(editor: Editor, options: Arguments, about: tuple[Item, Outcome]) -> _Written:
    """Write the pictures of one photo."""
    from tmgan.editing.pipeline import Failed, attempt

    item, outcome = about
    written = _Written(item)
    done = attempt(lambda outcome: _write_all(editor, options, outcome, written), outcome)
    if isinstance(done, Failed):
        written.error = done.error
    return written


def _write_all(editor: Editor, options: Arguments, outcome: Outcome, written: _Written) -> None:
    """Write the pictures of one photo, and into `written` what has been written and what files cannot keep."""
    from tmgan.editing.saving import save_photo
    from tmgan.editing.seeds import edits_of_seeds
    from tmgan.reports.pictures import grid, save_picture, words_strip

    item, edited = written.item, outcome.edited
    written.notes += [*edited.notes, *save_photo(edited.picture, item.target)]
    written.paths.append(item.target)
    if edited.composited is not None and edited.keep is not None:
        save_photo(edited.composited, item.composited)  # it loses what the edited photo has lost
        written.paths.append(item.composited)
        save_picture(edited.keep, item.keep)
        written.paths.append(item.keep)
    if item.with_attention:
        save_picture(words_strip(edited.attention), item.attention)
        written.paths.append(item.attention)
    if item.with_seeds:
        seeds = range(options.seed, options.seed + options.seeds)
        pictures = edits_of_seeds(editor, item.photo, edited.square, options.text, seeds, options.strength)
        titles = ["photo", *(f"--seed {seed}" for seed in seeds)]
        save_picture(grid([picture[None] for picture in pictures], titles), item.seeds)
        written.paths.append(item.seeds)


def _note(*notes: str) -> None:
    for note in notes:
        print(printable(f"NOTE: {note}"), file=sys.stderr)
