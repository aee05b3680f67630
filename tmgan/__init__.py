"""tmgan: train GANs that edit a photo from a sentence. What is listed here is public, and nothing else.

From nothing to an edit, as `tmgan train` and `tmgan edit` do it:

    run = tmgan.train(tmgan.configure())  # drawn birds, a minute or two
    tmgan.load(run).edit("PHOTO.jpg", "a bird with a red head").save("edited.png")

On photographs of your own:

    tmgan.prepare("FOLDER", "packs/mine")
    run = tmgan.train(tmgan.configure(data="packs/mine", run="runs/mine"))
    for name, measure in tmgan.evaluate(run).items():
        print(name, measure.value)

Names are imported when they are used first: `import tmgan` takes no time, and torch only with what needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tmgan.common.version import __version__

if TYPE_CHECKING:
    from tmgan.common.progress import quiet
    from tmgan.config.settings import DamsmConfig, RuntimeConfig, TrainConfig
    from tmgan.data.drawn.dataset import write_birds as draw_birds
    from tmgan.data.masks import find_masks
    from tmgan.data.pack import Pack
    from tmgan.data.prepare import prepare
    from tmgan.editing.edited import Edited, Outcome
    from tmgan.editing.editor import Editor, load
    from tmgan.editing.saving import save_photo
    from tmgan.evaluation.comparison import Difference, RunComparison, difference
    from tmgan.evaluation.comparison import compare_runs as compare
    from tmgan.evaluation.evaluate import Evaluation, baselines, evaluate
    from tmgan.evaluation.metrics.edits import Edits
    from tmgan.evaluation.metrics.measure import Measure
    from tmgan.evaluation.metrics.per_image import PerImage
    from tmgan.evaluation.protocol import Protocol
    from tmgan.methods.mask_providers import MaskProvider, make_provider
    from tmgan.published.read import Import, import_published
    from tmgan.published.write import export_published
    from tmgan.training.follow import configure, configure_encoders
    from tmgan.training.jobs import train_editor as train
    from tmgan.training.jobs import train_encoders
    from tmgan.training.replay import Replay, replay

_HOME = {
    # settings
    "configure": "tmgan.training.follow",
    "configure_encoders": "tmgan.training.follow",
    "TrainConfig": "tmgan.config.settings",
    "DamsmConfig": "tmgan.config.settings",
    "RuntimeConfig": "tmgan.config.settings",
    # data
    "prepare": "tmgan.data.prepare",
    "Pack": "tmgan.data.pack",
    "find_masks": "tmgan.data.masks",
    "make_provider": "tmgan.methods.mask_providers",
    "MaskProvider": "tmgan.methods.mask_providers",
    "draw_birds": "tmgan.data.drawn.dataset:write_birds",
    # training
    "train": "tmgan.training.jobs:train_editor",
    "train_encoders": "tmgan.training.jobs",
    "replay": "tmgan.training.replay",
    "Replay": "tmgan.training.replay",
    # weights that others have trained
    "import_published": "tmgan.published.read",
    "Import": "tmgan.published.read",
    "export_published": "tmgan.published.write",
    # editing
    "load": "tmgan.editing.editor",
    "Editor": "tmgan.editing.editor",
    "Edited": "tmgan.editing.edited",
    "Outcome": "tmgan.editing.edited",
    "save_photo": "tmgan.editing.saving",
    # measuring
    "evaluate": "tmgan.evaluation.evaluate",
    "baselines": "tmgan.evaluation.evaluate",
    "Evaluation": "tmgan.evaluation.evaluate",
    "Protocol": "tmgan.evaluation.protocol",
    "Edits": "tmgan.evaluation.metrics.edits",
    "Measure": "tmgan.evaluation.metrics.measure",
    "compare": "tmgan.evaluation.comparison:compare_runs",
    "difference": "tmgan.evaluation.comparison",
    "RunComparison": "tmgan.evaluation.comparison",
    "Difference": "tmgan.evaluation.comparison",
    "PerImage": "tmgan.evaluation.metrics.per_image",
    # progress and status lines
    "quiet": "tmgan.common.progress",
}
__all__ = [
    "DamsmConfig",
    "Difference",
    "Edited",
    "Editor",
    "Edits",
    "Evaluation",
    "Import",
    "MaskProvider",
    "Measure",
    "Outcome",
    "Pack",
    "PerImage",
    "Protocol",
    "Replay",
    "RunComparison",
    "RuntimeConfig",
    "TrainConfig",
    "__version__",
    "baselines",
    "compare",
    "configure",
    "configure_encoders",
    "difference",
    "draw_birds",
    "evaluate",
    "export_published",
    "find_masks",
    "import_published",
    "load",
    "make_provider",
    "prepare",
    "quiet",
    "replay",
    "save_photo",
    "train",
    "train_encoders",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tmgan' has no attribute {name!r}; public are {', '.join(sorted(_HOME))}")
    module, _, other = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), other or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
