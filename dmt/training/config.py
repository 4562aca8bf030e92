"""What a training run is: stages, rates and losses, saved with the run and inside the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import ModelConfig, preset


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
    closure: float = 5.0
    """How much more an opening error counts where the lips should be closed."""


@dataclass(frozen=True)
class TrainingConfig:
    """A run in `output` from the corpus in `corpus`.

    The stages follow the paper: the two speech encoders first (here each with auxiliary heads that
    name the sound and the lips, and are dropped afterwards), then the fusion with the encoders fixed,
    then the denoiser and its decoders with fusion fixed.
    """

    corpus: str
    output: str
    model: ModelConfig = field(default_factory=lambda: preset("demo"))
    seed: int = 0
    prosodic: StageConfig = StageConfig(steps=3200, rate=2e-3, clips=10, frames=100)
    acoustic: StageConfig = StageConfig(steps=420, rate=1.5e-3, clips=8, frames=100)
    fusion: StageConfig = StageConfig(steps=600, rate=4e-3, clips=24, frames=200)
    denoiser: StageConfig = StageConfig(steps=900, rate=2e-3, clips=12, frames=32)
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
