"""tmgan edit RUN PHOTO... --text "..." --out PATH"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from tmgan.cli.parse import parse
from tmgan.config.settings import RuntimeConfig

_ATTENTION, _COMPOSITED, _KEEP = ".attention", ".composited", ".keep"  # file name suffixes beside OUT
_KEEP_NAMES = ("none", "histogram", "fcn", "clipseg")
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Edit photos with the editor of a run of `tmgan train`, each at its own resolution."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos, or folders of photos."""
    text: str
    """What the photo should show, in quotes: "a bird with a red head and white wings"."""
    out: Path
    """Picture to write for one photo, folder for several."""
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
    seed: int = 0
    """Noise of the generator."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "edit")
    photos = _photos(options.photos)
    several = len(photos) > 1 or any(p.is_dir() for p in options.photos)
    if several and options.out.suffix.lower() in _PICTURES:
        raise ValueError(f"{len(photos)} photos do not fit into one picture {options.out}: give a folder with --out.")
    if several and options.box is not None:
        raise ValueError("--box says where the bird is in one photo; edit photos with different boxes one by one.")
    if not several and options.out.suffix.lower() not in _PICTURES:
        raise ValueError(f"--out {options.out}: give a picture name that ends in {', '.join(_PICTURES)}.")
    targets = [options.out / f"{photo.stem}.png" for photo in photos] if several else [options.out]
    if len(set(targets)) < len(targets):
        raise ValueError("Two of the photos have the same name and would overwrite each other; edit them one by one.")
    clashes = {t.resolve() for t in targets} & {p.resolve() for p in photos}
    if clashes:
        raise ValueError(f"--out would overwrite the photo {clashes.pop()}; choose another name or folder.")
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed is {options.seed}; use 0 to 2**63 - 1.")
    files = _keep_files(options.keep, photos, several)
    from tmgan.editing.compositing import keep_file, keep_unchanged, keep_without
    from tmgan.editing.editor import load, open_photo  # imports torch: after mistakes in the flags
    from tmgan.methods.mask_providers import PROVIDERS, make_provider
    from tmgan.models.bundle import RANDOM_NOTE
    from tmgan.reports.pictures import save_picture, words_strip

    editor = load(options.run, options.runtime)
    editor.tokens([options.text])
    if editor.encoders.weights == "random":
        print(f"NOTE: {RANDOM_NOTE}", file=sys.stderr)
    unknown = editor.unknown_words(options.text)
    if unknown:
        print(f"NOTE: left out: {unknown}", file=sys.stderr)
    if options.keep == "histogram":
        keep = keep_unchanged(editor.config.method)
    elif options.keep in PROVIDERS:
        keep = keep_without(
            make_provider(options.keep, options.classes, options.weights, options.weights_dir, editor.runtime.device)
        )
        if options.weights == "random":
            print(f"NOTE: --keep {options.keep} uses random weights; its mask means nothing.", file=sys.stderr)
    else:
        keep = None
    (options.out if several else options.out.parent).mkdir(parents=True, exist_ok=True)
    failures = []
    for photo, target, file in zip(photos, targets, files, strict=True):
        try:
            edit = editor.edit_in_full(
                open_photo(photo), options.text, options.box, options.seed, keep if file is None else keep_file(file)
            )
        except ValueError as error:
            if not several:
                raise
            failures.append(str(error))
            continue
        pictures = {target: edit.picture}
        if edit.composited is not None and edit.keep is not None:
            pictures[target.with_name(f"{target.stem}{_COMPOSITED}{target.suffix}")] = edit.composited
            pictures[target.with_name(f"{target.stem}{_KEEP}.png")] = edit.keep
        if options.attention:
            pictures[target.with_name(f"{target.stem}{_ATTENTION}.png")] = words_strip(edit.attention)
        for path, picture in pictures.items():
            save_picture(picture, path)
            print(path)
    if failures:
        raise ValueError(f"{len(failures)} of {len(photos)} photos were not edited:\n" + "\n".join(failures))


def _keep_files(keep: str, photos: list[Path], several: bool) -> list[Path | None]:
    """The mask file of each photo, None where --keep names no file."""
    if keep in _KEEP_NAMES:
        return [None] * len(photos)
    path = Path(keep)
    if not path.exists():
        raise ValueError(f"--keep is {keep!r}, which is neither {' nor '.join(_KEEP_NAMES)} nor an existing picture.")
    if several and not path.is_dir():
        raise ValueError(f"--keep {keep}: for several photos give a folder with a mask PNG of the same name for each.")
    return [path / f"{photo.stem}.png" if path.is_dir() else path for photo in photos]


def _photos(paths: tuple[Path, ...]) -> list[Path]:
    """The photos among `paths` and in its folders, without the pictures that earlier edits wrote beside theirs."""
    photos: list[Path] = []
    for path in paths:
        if path.is_dir():
            pictures = sorted(
                p
                for p in path.iterdir()
                if p.suffix.lower() in _PICTURES and not p.stem.endswith((_ATTENTION, _COMPOSITED, _KEEP))
            )
            if not pictures:
                raise ValueError(f"The folder {path} holds no pictures ({', '.join(_PICTURES)}).")
            photos += pictures
        elif path.exists():
            photos.append(path)
        else:
            raise ValueError(f"There is no photo {path}.")
    if not photos:
        raise ValueError('Name one or more photos: tmgan edit RUN PHOTO... --text "..." --out PATH')
    return photos
