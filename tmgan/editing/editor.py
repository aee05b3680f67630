"""Edit photos with a trained generator: `tmgan.load(run).edit(photo, text)`.

The network sees a small square; its *change* is enlarged and added to the photo, so a photo keeps its own resolution
and what the edit does not touch stays exactly as sharp as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from tmgan.common.files import user_path
from tmgan.common.philox import Purpose, normal
from tmgan.config.runtime import Runtime, decide
from tmgan.config.settings import RuntimeConfig, TrainConfig
from tmgan.data.captions import lost_letters
from tmgan.editing.compositing import KeepSource
from tmgan.editing.edited import Edited, Outcome
from tmgan.editing.limits import check_seed, check_strength
from tmgan.editing.pipeline import Failed
from tmgan.editing.placement import Box
from tmgan.editing.requests import Request, requests
from tmgan.editing.stages import Stages
from tmgan.methods.mask_providers import MaskProvider
from tmgan.models.bundle import GENERATOR, Encoders, load_encoders, load_generator
from tmgan.models.stages import GeneratorOutput, in_order

_SAME = 1 / 255  # half a level of 255, in [-1, 1]: less is not seen
BATCH = 8  # photos that go through the network together: more hold more of them in memory


class Editor:
    """A trained generator with its encoders, ready to edit.

    Attributes:
        run: the folder it comes from; None for one that was put together.
    """

    def __init__(
        self,
        generator: nn.Module,
        encoders: Encoders,
        config: TrainConfig,
        runtime: Runtime,
        images: int | None = None,
        run: Path | None = None,
    ):
        self.run = run
        self.generator = generator.eval().requires_grad_(False).to(runtime.device)
        self.encoders, self.config, self.runtime, self._images = encoders, config, runtime, images
        for module in (encoders.text, encoders.photo):
            module.eval().requires_grad_(False).to(runtime.device)

    @property
    def image_size(self) -> int:
        """Edge of the square the network edits, in pixels."""
        return self.config.model.image_size

    @property
    def notes(self) -> list[str]:
        """What whoever looks at the edits must know about this model, as sentences."""
        notes = [self.encoders.random_note] if self.encoders.random_note else []
        if self._images is not None and self._images < self.config.images:
            notes.append(f"this run is unfinished: it has seen {self._images:,} of {self.config.images:,} images.")
        if not self.encoders.finished:
            notes.append(self.encoders.unfinished_note)
        return notes

    def words(self, text: str) -> list[str]:
        """The known words of a text, in its order.

        Raises:
            ValueError: it has none.
        """
        vocabulary = self.encoders.vocabulary
        return [vocabulary.words[i] for i in self._ids(text)]

    def tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Word ids (B, L) and lengths (B,) of the known words of each text. Unknown words are left out.

        Raises:
            ValueError: a text has no known word at all.
        """
        rows = [self._ids(text) for text in texts]
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        return tokens.to(self.runtime.device), torch.tensor([len(r) for r in rows]).to(self.runtime.device)

    def _ids(self, text: str) -> list[int]:
        if not text.strip():
            raise ValueError("The text is empty: say what the photo should show.")
        ids = self.encoders.vocabulary.encode(text)[0]
        if not ids:
            raise ValueError(f"No word of {text!r} is in the vocabulary of this model: {self.unknown_words(text)}.")
        return ids

    def unknown_words(self, text: str) -> str:
        """What of a text is not read: lost letters, unknown words with the nearest known ones; or ""."""
        vocabulary = self.encoders.vocabulary
        notes = [
            f"{word!r} is read as {left!r}" if left else f"{word!r} has none of the letters that are read, a to z"
            for word, left in lost_letters(text)
        ]
        for word in dict.fromkeys(vocabulary.encode(text)[1]):
            nearest = vocabulary.nearest(word)
            notes.append(f"{word!r} is unknown" + (f" (nearest: {', '.join(nearest)})" if nearest else ""))
        return "; ".join(notes)

    @torch.no_grad()
    def edit_tensors(self, images: Tensor, texts: list[str], seed: int = 0, strength: float = 1.0) -> GeneratorOutput:
        """Edit images (B, 3, S, S) in [-1, 1] at the network's size, with the conditioning augmentation at its mean.

        Args:
            strength: times the change: 0 is the photo, 1 the network's edit, 0.5 half-way between. More is bolder, 4
                the most, but only inside what the network does not keep.

        Raises:
            ValueError: no word of a text is known, or strength is out of range.
        """
        check_strength(strength)
        device, model = self.runtime.device, self.config.model
        images = images.to(device)
        tokens, lengths = self.tokens(texts)
        if model.attention == "published" and len(lengths.unique()) > 1:
            # Its masks are those of other captions of the batch: without padding they are of no account.
            rows = [(lengths == length).nonzero().flatten() for length in lengths.unique()]
            return in_order(
                [self.edit_tensors(images[some], [texts[i] for i in some], seed, strength) for some in rows], rows
            )
        noise = fixed_noise(seed, 1, model.noise_dim).to(device).expand(len(images), -1)
        eps = torch.zeros(len(images), model.condition_dim, device=device)
        with self.runtime.autocast():
            words, sentence = self.encoders.text(tokens, lengths)
            features = self.encoders.photo.features(images, code=getattr(self.generator, "reads_code", True))
            output = self.generator(noise, sentence, words, tokens == 0, eps, features, images)
        return output if strength == 1.0 else output._replace(image=_exaggerate(images, output, strength))

    def edit(
        self,
        photo: str | Path | Image.Image,
        text: str,
        box: Box | None = None,
        seed: int = 0,
        strength: float = 1.0,
        find: MaskProvider | None = None,
    ) -> Image.Image:
        """The photo edited towards the text, at the photo's own resolution and in its own colour space.

        The picture is RGB, or RGBA if the photo has transparency. Its `info` holds the photo's profile, EXIF, XMP and
        resolution. Its `save("x.png")` writes profile and transparency; `tmgan.save_photo` writes all,
        and a JPEG as coarse as the photo's was.

        Args:
            photo: a file, or a picture of Pillow's, which stays as it is.
            box: x, y, width, height of the bird in pixels. Without it, what `find` finds is edited; without that, or
                where it finds nothing, the photo's central square.
            seed: of the noise of generators that use some: see `varies`.
            strength: 0 is the photo, 1 the network's edit, up to 4 is bolder; see `edit_tensors`.
            find: who looks for the object: `tmgan.make_provider` makes those there are, and any object with the
                interface of `tmgan.MaskProvider` will do.

        Raises:
            ValueError: the photo cannot be read, the box lies outside it, no word is known, or strength is out of
                range.
        """
        return self.edit_in_full(photo, text, box, seed, strength=strength, find=find).picture

    def attention(
        self,
        photo: str | Path | Image.Image,
        text: str,
        box: Box | None = None,
        seed: int = 0,
        find: MaskProvider | None = None,
    ) -> list[tuple[str, Image.Image]]:
        """Where the generator looks for each known word of the text: (word, map), in the order of the text.

        A map is greyscale and shows the square that is edited, at its size in the photo (`edit_in_full` tells where it
        lies); white is where this word was looked at most, black least. Arguments and errors are those of `edit`.
        """
        return self.edit_in_full(photo, text, box, seed, find=find).attention

    def edit_in_full(
        self,
        photo: str | Path | Image.Image,
        text: str,
        box: Box | None = None,
        seed: int = 0,
        keep: KeepSource | None = None,
        strength: float = 1.0,
        find: MaskProvider | None = None,
    ) -> Edited:
        """edit(), with the attention of every known word and, if `keep` is given, the composited picture."""
        check_seed(seed)
        return Stages(self, find, strength).alone(Request(photo, text, box, seed, keep))

    def edit_many(
        self,
        photos: Iterable[str | Path | Image.Image],
        texts: str | Iterable[str],
        boxes: Iterable[Box | None] | None = None,
        seed: int | Iterable[int] = 0,
        strength: float = 1.0,
        keep: KeepSource | Iterable[KeepSource | None] | None = None,
        find: MaskProvider | None = None,
        batch: int = BATCH,
    ) -> Generator[Outcome, None, None]:
        """edit_in_full() of many photos, faster: what each has become, in the order of the photos.

        The network works on `batch` photos at a time, while a few threads read the next ones and finish the last: so
        few batches are in memory, and nothing is read before the first outcome is asked for. A photo that cannot be
        edited does not stop the others: its outcome has an `error`.

        Sums are rounded in another order than in an edit alone: some values in a million differ by one level of 255.

        Args:
            photos: files, or pictures of Pillow's.
            texts, seed, keep: one for all photos, or one for each.
            boxes: one for each photo, None where `find`, or else the centre, places the edit.
            batch: photos at a time.

        Raises:
            ValueError: at once, if no word of a single text is known, strength, seed or batch is out of range, or the
                numbers of photos and of what is given for each differ; later, where only the last photo tells that.

        >>> import tmgan
        >>> editor = tmgan.load("runs/quickstart")
        >>> for outcome in editor.edit_many(["PHOTO.jpg", "nowhere.jpg"], "a bird with a red head"):
        ...     print(outcome.photo, outcome.error or outcome.edited.picture.size)
        PHOTO.jpg (256, 256)
        nowhere.jpg nowhere.jpg is missing
        """
        check_strength(strength)
        if batch < 1:
            raise ValueError(f"batch is {batch}; use 1 or more.")
        if isinstance(texts, str):
            self.words(texts)
        rows = requests(photos, texts, boxes, seed, keep)
        return _outcomes(Stages(self, find, strength), rows, batch)

    def varies(self, text: str) -> bool:
        """Whether edits by a text depend on the seed: two seeds are tried on a ramp of greys.

        They do not with our own generator (`model.architecture` editor), which has no noise.
        """
        size = self.image_size
        ramp = torch.linspace(-1, 1, size).expand(1, 3, size, size)
        one, other = (self.edit_tensors(ramp, [text], seed).image for seed in (0, 1))
        return bool((one - other).abs().max() > _SAME)


def _outcomes(stages: Stages, rows: Iterable[Request], batch: int) -> Generator[Outcome, None, None]:
    wrong: list[ValueError] = []
    asked, again = itertools.tee(_until_wrong(rows, wrong))
    for edited in stages.together(asked, batch):
        photo = next(again).photo
        yield Outcome(photo, edited.error, None) if isinstance(edited, Failed) else Outcome(photo, None, edited)
    if wrong:
        raise wrong[0]


def _until_wrong(rows: Iterable[Request], wrong: list[ValueError]) -> Generator[Request, None, None]:
    """The requests up to an error among them, which waits in `wrong` for the edits before it."""
    try:
        yield from rows
    except ValueError as error:
        wrong.append(error)


def _exaggerate(images: Tensor, output: GeneratorOutput, strength: float) -> Tensor:
    """(B, 3, S, S) in [-1, 1]: the change times `strength`, but no more than once where the network keeps its input."""
    factor: float | Tensor = strength
    if strength > 1 and output.keep_logits is not None:
        factor = 1 + (strength - 1) * (1 - torch.sigmoid(output.keep_logits))
    return (images + factor * (output.image - images)).clamp(-1, 1)


def fixed_noise(seed: int, count: int, dim: int) -> Tensor:
    """(count, dim) standard normal numbers, for edits and for pictures that stay comparable over time."""
    return torch.from_numpy(normal(seed, Purpose.NOISE, 2**62, (count, dim)))


def load(run: str | Path, runtime: RuntimeConfig | None = None) -> Editor:
    """The editor that a run of `tmgan train` has made.

    >>> import tmgan
    >>> editor = tmgan.load("runs/quickstart")
    >>> editor.edit("PHOTO.jpg", "a bird with a red head").size
    (256, 256)
    >>> [word for word, picture in editor.attention("PHOTO.jpg", "a red head")]
    ['a', 'red', 'head']

    Args:
        run: its folder.
        runtime: where and how to compute; None: the GPU if there is one.

    Raises:
        ValueError: there is none; the message says what is missing.
    """
    run = user_path(run)
    if not run.is_dir():
        raise ValueError(f"There is no run folder {run}. `tmgan train` makes one.")
    if not (run / GENERATOR).exists():
        raise ValueError(
            f"{run} holds no {GENERATOR}: it is not a run of `tmgan train`, has no checkpoint yet, or "
            "holds encoders alone, for `tmgan train --encoders`."
        )
    decision = decide(runtime or RuntimeConfig())
    encoders = load_encoders(run)
    generator, config, images = load_generator(run, encoders)
    return Editor(generator, encoders, config, decision, images, run)
