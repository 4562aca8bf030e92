"""What is compared: every variant is one row here, and all are trained with the same data, steps and seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dmt.config import DenoiserConfig, ModelConfig, SparsityConfig, SpeechConfig
from dmt.training import LossConfig, StageConfig, TrainingConfig

START = 0.99
"""theta' at the start: close to the most that eq. 5 allows. It moves little in so few steps, so this decides."""

LAMBDA = 2.0
"""Weight of L_MI where it is on."""

CROWDING = 0.5
"""Weight of our own pressure towards few large elements, where it is on (`dmt/sparsity/crowding.py`)."""

SEEDS = (0, 1, 2)

STAGE = StageConfig(steps=300, rate=2e-3, clips=5, frames=16)
"""The same for every variant."""


SPEECH = SpeechConfig(
    pretrained=None, width=128, layers=1, heads=4, feed_forward=256, conv_width=32, positional_kernel=16
)
PROSODIC_WIDTH = 256
DENOISER = DenoiserConfig(
    width=96,
    heads=4,
    feed_forward=256,
    content_layers=1,
    style_layers=1,
    decoder_layers=1,
    tail_width=96,
    dropout=0.0,
    shared_matrices=4,
)
"""Sizes of the experiment, written out, so that another bundled model does not change it. The widths are those of the
encoders that it was run with."""


@dataclass(frozen=True)
class Variant:
    """One model to train.

    condition: the rows that the denoiser reads; decoder: as `DenoiserConfig.decoder`; start: theta' at the first
    step, None without thresholds; information: lambda of L_MI; reach: as `SparsityConfig.reach`; tails: theta' at
    the first step in the tails, or `start` where that is less; crowding: weight of our own pressure. mask `fixed` and
    `top_k` are what thresholds are compared with: constants, or the largest elements of each row, at the levels that
    the variant `like` reached.
    """

    name: str
    title: str
    condition: Literal["acoustic", "prosodic", "fused"] = "acoustic"
    decoder: Literal["plain", "dynamic"] = "plain"
    start: float | None = None
    information: float = 0.0
    reach: Literal["feed_forward", "decoders"] = "decoders"
    tails: float = 0.2
    crowding: float = 0.0
    mask: Literal["dynamic", "fixed", "top_k"] = "dynamic"
    like: str | None = None

    def model(self) -> ModelConfig:
        """A small denoiser; the speech branches are not used, as their rows are made beforehand."""
        width = PROSODIC_WIDTH if self.condition == "prosodic" else SPEECH.width
        return ModelConfig(
            name=f"ablation {self.name}",
            speech=replace(SPEECH, width=width),
            tacotron=None,
            sparsity=self.sparsity(),
            denoiser=replace(DENOISER, decoder=self.decoder),
            normalised=True,
        )

    def sparsity(self) -> SparsityConfig:
        start = self.start or START
        tails = min(start, self.tails)
        return SparsityConfig(self.start is not None, start, reach=self.reach, tail_threshold=tails)

    def training(self, corpus: str, output: str, seed: int) -> TrainingConfig:
        losses = LossConfig(information=self.information, crowding=self.crowding)
        return TrainingConfig(
            corpus, output, self.model(), seed, denoiser=STAGE, losses=losses, save_every=50, outlier_limit=None
        )


DENSE = Variant("dense", "dense baseline (acoustic rows, plain decoders)")
THRESHOLDS = replace(DENSE, name="thresholds", title="+ thresholds", start=START)
CONSTRAINED = replace(THRESHOLDS, name="thresholds-mi", title="+ thresholds + L_MI", information=LAMBDA)
FUSION = replace(DENSE, name="fusion", title="+ fusion", condition="fused")
DECODERS = replace(DENSE, name="decoders", title="+ dynamic decoders", decoder="dynamic")
DENSE_ALL = replace(FUSION, name="all-dense", title="fusion + dynamic decoders, no thresholds", decoder="dynamic")
ALL_FREE = replace(DENSE_ALL, name="all-no-mi", title="all without L_MI", start=START)
ALL = replace(ALL_FREE, name="all", title="all", information=LAMBDA)
PRESSED = replace(ALL, name="all-pressed", title="all, with our pressure", crowding=CROWDING)
PROSODIC = replace(DENSE, name="prosodic", title="control: prosodic rows alone", condition="prosodic")

MAIN = (DENSE, ALL, PRESSED, DENSE_ALL, ALL_FREE, FUSION, THRESHOLDS, CONSTRAINED, DECODERS, PROSODIC)

LEVELS = (0.5, 0.1)
"""Further starts of theta' for the curve of sparsity against quality; START is among the main runs."""


def _curve() -> tuple[Variant, ...]:
    """The full model at other levels, with and without L_MI; constants and top-k at the levels reached without it;
    thresholds at the feed-forward layers alone, and as high in the tails as elsewhere."""
    free = [replace(ALL_FREE, name=f"all-no-mi-{x}", title=f"all without L_MI, from {x}", start=x) for x in LEVELS]
    bound = [replace(ALL, name=f"all-{x}", title=f"all, from {x}", start=x) for x in LEVELS]
    masks = [
        replace(peer, name=f"{mask}-{peer.start}", title=f"{title}, from {peer.start}", mask=mask, like=peer.name)
        for peer in (ALL_FREE, free[0])
        for mask, title in (("fixed", "constant thresholds"), ("top_k", "top-k"))
    ]
    return (free[0], bound[0], *masks[:2], free[1], bound[1], *masks[2:])


CURVE = _curve()

TAILS = replace(ALL, name="all-high-tails", title=f"all, tails from {START} as well", tails=START)
NARROW = replace(ALL, name="all-feed-forward", title="all, feed-forward layers only", reach="feed_forward")
LIGHTER = replace(ALL, name="all-mi-1", title="all, half the weight of L_MI", information=LAMBDA / 2)
TRIED = (LIGHTER, TAILS, NARROW)
"""Another weight, and other places for thresholds."""

VARIANTS = (*MAIN, *CURVE, *TRIED)


def plan() -> list[tuple[Variant, int]]:
    """All runs, in the order that makes an unfinished report worth the most; who copies levels comes after its peer."""
    first, second, third = SEEDS
    parts = [(group, seed) for group in (MAIN[:8], MAIN[8:]) for seed in SEEDS]
    parts += [(CURVE[:6], first), (CURVE[:6], second), (TRIED, first)]
    parts += [(CURVE[:6], third), (TRIED, second), (TRIED, third), *((CURVE[6:], seed) for seed in SEEDS)]
    return [(variant, seed) for part, seed in parts for variant in part]
