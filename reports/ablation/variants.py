"""What is compared: every variant is one row here, and all are trained with the same data, steps and seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dmt.config import ModelConfig, preset
from dmt.training import LossConfig, StageConfig, TrainingConfig

START = 0.5
"""theta' at the start: sigmoid(0), the middle of what eq. 5 allows."""

LAMBDA = 1.0
"""Weight of L_MI where it is on."""

SEEDS = (0, 1, 2)

STAGE = StageConfig(steps=300, rate=2e-3, clips=12, frames=16)
"""The same for every variant."""


@dataclass(frozen=True)
class Variant:
    """One model to train.

    condition: the rows that the denoiser reads; decoder: as `DenoiserConfig.decoder`; start: theta' at the first
    step, None without thresholds; information: lambda of L_MI. mask `fixed` and `top_k` are what thresholds are
    compared with: constants, or the largest elements of each row, at the levels that the variant `like` reached.
    """

    name: str
    title: str
    condition: Literal["acoustic", "prosodic", "fused"] = "acoustic"
    decoder: Literal["plain", "dynamic"] = "plain"
    start: float | None = None
    information: float = 0.0
    mask: Literal["dynamic", "fixed", "top_k"] = "dynamic"
    like: str | None = None

    def model(self) -> ModelConfig:
        """The demo preset's denoiser; the speech branches are not used, as their rows are made beforehand."""
        demo = preset("demo")
        width = demo.tacotron.width if self.condition == "prosodic" else demo.speech.width
        return replace(
            demo,
            name=f"ablation {self.name}",
            speech=replace(demo.speech, width=width, layers=1),
            tacotron=None,
            sparsity=replace(demo.sparsity, enabled=self.start is not None, initial_threshold=self.start or START),
            denoiser=replace(demo.denoiser, decoder=self.decoder),
        )

    def training(self, corpus: str, output: str, seed: int) -> TrainingConfig:
        losses = LossConfig(information=self.information)
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
PROSODIC = replace(DENSE, name="prosodic", title="control: prosodic rows alone", condition="prosodic")

MAIN = (DENSE, THRESHOLDS, CONSTRAINED, FUSION, DECODERS, DENSE_ALL, ALL_FREE, ALL, PROSODIC)

LEVELS = (0.1, 0.97)
"""Further starts of theta' for the curve of sparsity against quality; START is among the main runs."""


def _curve() -> tuple[Variant, ...]:
    """The full model at other levels, with and without L_MI; constants and top-k at the levels reached without it."""
    free = [replace(ALL_FREE, name=f"all-no-mi-{x}", title=f"all without L_MI, from {x}", start=x) for x in LEVELS]
    bound = [replace(ALL, name=f"all-{x}", title=f"all, from {x}", start=x) for x in LEVELS]
    masks = [
        replace(peer, name=f"{mask}-{peer.start}", title=f"{title}, from {peer.start}", mask=mask, like=peer.name)
        for peer in (ALL_FREE, free[-1])
        for mask, title in (("fixed", "constant thresholds"), ("top_k", "top-k"))
    ]
    return (*free, *bound, *masks)


CURVE = _curve()


def plan() -> list[tuple[Variant, int]]:
    """All runs, in the order that makes an unfinished report worth the most; who copies levels comes after its peer."""
    first, *later = SEEDS
    parts = [(MAIN, first), *((MAIN, seed) for seed in later[:1]), (CURVE, first)]
    parts += [(MAIN, seed) for seed in later[1:]] + [(CURVE, seed) for seed in later]
    return [(variant, seed) for part, seed in parts for variant in part]
