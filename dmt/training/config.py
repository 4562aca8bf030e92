"""What a training run is: stages, rates and losses, saved with the run and inside the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..config import ModelConfig, preset

Precision = Literal["float32", "bfloat16", "float16"]
"""What products are computed in; weights, sums and losses stay float32. float16 needs a GPU and scales its loss."""


class RunConfig(Protocol):
    """What every run's configuration tells the loop and the journal, whatever it trains."""

    output: str
    seed: int
    weight_decay: float
    clip_norm: float
    average: float
    warm_up: int
    save_every: int
    precision: Precision
    accumulate: int
    outlier_limit: float | None
    tensorboard: bool


@dataclass(frozen=True)
class StageConfig:
    """One stage: optimiser steps, peak learning rate (warm-up, then half a cosine down to 2 %), clips per step."""

    steps: int
    rate: float
    clips: int
    frames: int
    """Frames of each clip in a step: a crop for the encoders, chosen frames for the denoiser."""
    cycles: int = 1
    """The learning rate runs through its schedule so many times, each time with a fresh optimiser."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms; every term is in units of its own spread, so 1 is a fair share."""

    information: float = 0.02
    """lambda of L_MI (eq. 8)."""
    opening: float = 3.0
    width: float = 0.5
    upper: float = 0.3
    velocity: float = 0.3
    closure: float = 8.0
    """How much more an opening error counts where the lips should be closed."""
    crowding: float = 0.0
    """Pressure towards inputs of thresholds with few large elements (`dmt/sparsity/crowding.py`): ours, not the
    paper's."""


@dataclass(frozen=True)
class PaperSchedule:
    """The paper's schedule (section 4.1), end to end on one loss.

    First the speech encoders are fine-tuned at a small rate, through the generator, which learns with
    them. Then, `rounds` times: the fusion with the generator fixed, and the generator (the decoders and
    the encoders of window and style that feed them) with the fusion fixed. Each stage stops
    when the validation measure of expression quality (`quality.py`) has not risen for `patience`
    validations, and leaves its best averaged weights.
    """

    encoders: StageConfig = StageConfig(steps=2000, rate=1e-4, clips=8, frames=32)
    """`rate` is the generator's."""
    encoder_rate: float = 1e-5
    fusion: StageConfig = StageConfig(steps=500, rate=1e-4, clips=16, frames=32)
    decoders: StageConfig = StageConfig(steps=1500, rate=1e-4, clips=16, frames=32)
    rounds: int = 2
    crop: int = 100
    """Frames of sound that are encoded together while encoders learn."""
    patience: int = 5
    """Validations without a gain that end a stage; 0: every stage runs to its end."""
    least_gain: float = 1e-3
    validation_clips: int = 24
    sampler_steps: int = 5
    """Sampler's steps in validation."""
    cache_gigabytes: float = 4.0
    """Memory for feature rows of encoders that are fixed; beyond it rows are computed again."""


@dataclass(frozen=True)
class TrainingConfig:
    """A run in `output` from the training data in `corpus`.

    schedule: None trains the bundled model's stages, which need no pretrained speech encoder: the two
    encoders first (each with auxiliary heads that name the sound and the lips, and are dropped
    afterwards), then the fusion with the encoders fixed, then the denoiser and its decoders with fusion
    fixed. A `PaperSchedule` trains by that instead, and prosodic, acoustic, fusion and denoiser are not read.
    """

    corpus: str
    output: str
    model: ModelConfig = field(default_factory=lambda: preset("demo"))
    seed: int = 0
    prosodic: StageConfig = StageConfig(steps=6000, rate=2e-3, clips=10, frames=100, cycles=2)
    acoustic: StageConfig = StageConfig(steps=300, rate=1.5e-3, clips=8, frames=100)
    fusion: StageConfig = StageConfig(steps=600, rate=4e-3, clips=24, frames=200)
    denoiser: StageConfig = StageConfig(steps=400, rate=2e-3, clips=12, frames=32)
    losses: LossConfig = field(default_factory=LossConfig)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    average: float = 0.995
    """Decay of the moving average of the weights that is kept in the end."""
    warm_up: int = 50
    save_every: int = 100
    shards: int | None = None
    """Train on the first so many shards only (for trying things out)."""
    parallel: bool = True
    """Train the two encoders, which do not know of one another, in two processes of one thread each."""
    schedule: PaperSchedule | None = None
    start: str | None = None
    """A checkpoint to start from: one of ours, or DreamTalk's `denoising_network.pth` (paper's schedule only)."""
    device: str = "cpu"
    precision: Precision = "float32"
    accumulate: int = 1
    """Parts a step's batch is cut into on each process; their gradients are added up (paper's schedule only)."""
    outlier_limit: float | None = 8.0
    """Robust z-score of mean |x| from which a threshold's running mean ignores a batch; None: it never does."""
    tensorboard: bool = False


@dataclass(frozen=True)
class RendererConfig:
    """Training of the learned renderer on one person's video, in the folder `output`.

    motion: .mat or .npy with the coefficients of every picture; None: the file beside the video, or else they are
    tracked. start: DreamTalk's `renderer.pt` or its safetensors; None: random weights. vgg: torchvision's VGG-16 for
    the perceptual term; None leaves that term out.
    """

    video: str
    output: str
    motion: str | None = None
    start: str | None = None
    vgg: str | None = None
    size: int = 256
    """Pixels of the square picture, a multiple of 32."""
    base: int = 64
    """Channels of the network's first layers; 64 is the released network, others cannot be loaded as it."""
    stage: StageConfig = StageConfig(steps=2000, rate=1e-4, clips=4, frames=1)
    """clips: pairs of pictures a step."""
    reconstruction: float = 1.0
    warp: float = 1.0
    perceptual: float = 1.0
    smoothness: float = 0.05
    """Of the flow: mean difference of neighbours, in flow-grid pixels."""
    seed: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    average: float = 0.995
    warm_up: int = 50
    save_every: int = 100
    device: str = "cpu"
    precision: Precision = "float32"
    accumulate: int = 1
    outlier_limit: float | None = None
    tensorboard: bool = False
