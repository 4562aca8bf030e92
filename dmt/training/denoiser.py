"""The last stage: denoiser and decoders, on features that no longer change."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..corpus import Corpus
from ..face.basis import LandmarkBasis
from ..model import MotionModel
from ..rates import COEFFICIENTS, ROWS_PER_FRAME, STYLE_FRAMES, WINDOW
from ..sparsity import watch_crowding
from ..types import StyleClip
from .config import LossConfig, StageConfig
from .loop import Stage
from .losses import MotionLoss

SHORTEST_STYLE = 48
"""Frames of the shortest style clip shown in training."""


class DenoiserStage(Stage):
    """Random pairs of neighbouring frames of random clips, each with its style clip.

    rows [N, R, D]: condition of the training clips; validation_rows: of the held-out ones.
    """

    name = "denoiser"

    def __init__(
        self,
        model: MotionModel,
        rows: Tensor,
        validation_rows: Tensor,
        corpus: Corpus,
        validation: Corpus,
        settings: StageConfig,
        losses: LossConfig,
    ) -> None:
        self.model, self.module = model, model.denoiser
        self.rows, self.validation_rows = rows, validation_rows
        self.corpus, self.validation, self.settings = corpus, validation, settings
        self.motion_loss = MotionLoss(losses)
        watch_crowding(model, losses.crowding > 0)
        if model.config.normalised:
            model.set_statistics(*statistics(corpus))

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        clips = torch.randint(len(self.corpus), (self.settings.clips,), generator=generator)
        frames = self._frames(generator)  # [B, L]
        truth = torch.from_numpy(self.corpus.coefficients[clips[:, None].numpy(), frames.numpy()].astype(np.float32))
        style, padding = self._style(clips, generator)
        prediction = self.model.noised_prediction(
            truth, self._windows(clips, frames), style, padding, generator=generator
        )
        return self.motion_loss(self.model, prediction, truth)

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Opening of sampled motion against the truth on four dozen held-out clips."""
        model = self.model
        trained, model.denoiser = model.denoiser, module
        try:
            model.eval()
            clips = min(48, len(self.validation))
            noise = torch.randn(clips, 1, COEFFICIENTS, generator=torch.Generator().manual_seed(0))
            rows = self.validation_rows[:clips].float()
            frames = min(rows.shape[1] // ROWS_PER_FRAME, self.validation.lips.shape[1])
            style = torch.from_numpy(self.validation.style[:clips].astype(np.float32))
            padded = nn.functional.pad(style, (0, 0, 0, STYLE_FRAMES - style.shape[1]))
            clip = StyleClip(padded, torch.arange(STYLE_FRAMES).expand(clips, -1) >= style.shape[1])
            made = model.sample(rows, clip, frames=range(frames), steps=5, noise=noise.expand(-1, frames, -1))
        finally:
            model.denoiser = trained
        opening = LandmarkBasis.load().mouth_opening(made).numpy()
        truth = self.validation.lips[:clips, :frames, 0].astype(np.float32)
        closed = [
            opening[c, a : b + 1].min() < 0.02 for c, a, b in self.validation.closures if c < clips and b < frames
        ]
        return {
            "validation_opening": float(np.corrcoef(opening.ravel(), truth.ravel())[0, 1]),
            "validation_closures": float(np.mean(closed)) if closed else 1.0,
        }

    def _frames(self, generator: torch.Generator) -> Tensor:
        """[B, L] frame numbers: L / 2 random pairs of neighbours."""
        clips, frames = self.settings.clips, self.settings.frames
        last = min(self.rows.shape[1] // ROWS_PER_FRAME, self.corpus.coefficients.shape[1]) - 1
        first = torch.randint(last, (clips, frames // 2), generator=generator)
        return torch.stack([first, first + 1], dim=-1).flatten(1)

    def _windows(self, clips: Tensor, frames: Tensor) -> Tensor:
        """[B, L, 11, D], zeros beyond the clip's rows."""
        row = ROWS_PER_FRAME * frames[..., None] + torch.arange(WINDOW) - WINDOW // 2  # [B, L, 11]
        inside = (row >= 0) & (row < self.rows.shape[1])
        seen = self.rows[clips[:, None, None], row.clamp(0, self.rows.shape[1] - 1)].float()
        return seen * inside[..., None]

    def _style(self, clips: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The clips' style clips cut to random lengths: [B, 256, 64], padding [B, 256]."""
        style = torch.from_numpy(self.corpus.style[clips.numpy()].astype(np.float32))
        longest = style.shape[1]
        length = torch.randint(min(SHORTEST_STYLE, longest), longest + 1, (len(clips), 1), generator=generator)
        padding = torch.arange(STYLE_FRAMES) >= length
        style = nn.functional.pad(style, (0, 0, 0, STYLE_FRAMES - longest))
        return style.masked_fill(padding[..., None], 0.0), padding


def statistics(corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [64] of the corpus's coefficients."""
    flat = torch.from_numpy(corpus.coefficients.reshape(-1, COEFFICIENTS).astype(np.float32))
    return flat.mean(0), flat.std(0).clamp(min=1e-3)
