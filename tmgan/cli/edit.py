"""tmgan edit RUN PHOTO... --text "..." --out PATH"""
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from tmgan.cli.parse import parse
from tmgan.config import RuntimeConfig

_ATTENTION = ".attention"
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
    """x y width height of the bird in pixels; without it the photo's centred square is edited."""
    attention: bool = False
    """Also write where each word looked, as OUT.attention.png."""
    seed: int = 0
    """Noise of the generator."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    given = parse(Arguments, arguments, "edit")
    photos = _photos(given.photos)
    several = len(photos) > 1 or any(p.is_dir() for p in given.photos)
    if several and given.out.suffix.lower() in _PICTURES:
        raise ValueError(f"{len(photos)} photos do not fit into one picture {given.out}: give a folder with --out.")
    if several and given.box is not None:
        raise ValueError("--box says where the bird is in one photo; edit photos with different boxes one by one.")
    if not several and given.out.suffix.lower() not in _PICTURES:
        raise ValueError(f"--out {given.out}: give a picture name that ends in {', '.join(_PICTURES)}.")
    targets = [given.out / f"{photo.stem}.png" for photo in photos] if several else [given.out]
    if len(set(targets)) < len(targets):
        raise ValueError("Two of the photos have the same name and would overwrite each other; edit them one by one.")
    overwritten = {t.resolve() for t in targets} & {p.resolve() for p in photos}
    if overwritten:
        raise ValueError(f"--out would overwrite the photo {overwritten.pop()}; choose another name or folder.")
    if not 0 <= given.seed < 2**63:
        raise ValueError(f"--seed is {given.seed}; use 0 to 2**63 - 1.")
    from tmgan.bundle import RANDOM_NOTE
    from tmgan.edit import load, open_photo       # imports torch: after mistakes in the flags
    from tmgan.snapshot import save_picture, words_strip

    editor = load(given.run, given.runtime)
    editor.tokens([given.text])
    if editor.encoders.weights == "random":
        print(f"NOTE: {RANDOM_NOTE}", file=sys.stderr)
    unknown = editor.unknown_words(given.text)
    if unknown:
        print(f"NOTE: left out: {unknown}", file=sys.stderr)
    (given.out if several else given.out.parent).mkdir(parents=True, exist_ok=True)
    failed = []
    for photo, target in zip(photos, targets):
        try:
            picture, maps = editor.edit_with_attention(open_photo(photo), given.text, given.box, given.seed)
        except ValueError as error:
            if not several:
                raise
            failed.append(str(error))
            continue
        save_picture(picture, target)
        print(target)
        if given.attention:
            beside = target.with_name(f"{target.stem}{_ATTENTION}.png")
            save_picture(words_strip(maps), beside)
            print(beside)
    if failed:
        raise ValueError(f"{len(failed)} of {len(photos)} photos were not edited:\n" + "\n".join(failed))


def _photos(given: tuple[Path, ...]) -> list[Path]:
    photos = []
    for path in given:
        if path.is_dir():
            found = sorted(p for p in path.iterdir()
                           if p.suffix.lower() in _PICTURES and not p.stem.endswith(_ATTENTION))
            if not found:
                raise ValueError(f"The folder {path} holds no pictures ({', '.join(_PICTURES)}).")
            photos += found
        elif path.exists():
            photos.append(path)
        else:
            raise ValueError(f"There is no photo {path}.")
    if not photos:
        raise ValueError("Name one photo or more: tmgan edit RUN PHOTO... --text \"...\" --out PATH")
    return photos
