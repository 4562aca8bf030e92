"""L = diffusion loss + lambda L_MI (paper, eq. 8) + what the eye looks at: lips, upper face, movement."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..decoder import LOWER, UPPER
from ..face.basis import LandmarkBasis
from ..model import MotionModel, NoisedPrediction
from ..sparsity import information_loss
from .config import LossConfig

OPENING_SPREAD, WIDTH_SPREAD = 0.05, 0.04
"""Spread of opening and width in eye distances: the terms are measured in these."""

CLOSED_BELOW = 0.02
"""Openings under this count as closed."""


class MotionLoss:
    """The loss of one noised prediction against clean coefficients."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self.basis = LandmarkBasis.load()

    def __call__(
        self, model: MotionModel, prediction: NoisedPrediction, truth: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """truth [B, L, 64]: coefficients; frames 2 k and 2 k + 1 follow one another in time."""
        guess = prediction.coefficients
        wanted = self.basis.mouth_opening(truth)
        opening = ((self.basis.mouth_opening(guess) - wanted) / OPENING_SPREAD).square()
        closed = 1 + (self.config.closure - 1) * (wanted < CLOSED_BELOW)
        width = ((self.basis.mouth_width(guess) - self.basis.mouth_width(truth)) / WIDTH_SPREAD).square()
        normal = model.normalise(guess), model.normalise(truth)
        upper = (normal[0][..., list(UPPER)] - normal[1][..., list(UPPER)]).square()
        moved = [x[:, 1::2] - x[:, ::2] for x in (normal[0][..., list(LOWER)], normal[1][..., list(LOWER)])]
        terms = {
            "diffusion": nn.functional.mse_loss(prediction.output, prediction.target),
            "opening": (closed * opening).mean(),
            "width": width.mean(),
            "upper": upper.mean(),
            "velocity": (moved[0] - moved[1]).square().mean(),
            "information": information_loss(model),
        }
        weights = {"diffusion": 1.0} | {name: getattr(self.config, name) for name in terms if name != "diffusion"}
        total = sum(weights[name] * value for name, value in terms.items())
        return torch.as_tensor(total), {name: float(value.detach()) for name, value in terms.items()}
