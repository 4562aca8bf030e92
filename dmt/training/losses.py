"""L = diffusion loss + lambda L_MI (paper, eq. 8) + what the eye looks at: lips, upper face, movement."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..decoder import LOWER, UPPER
from ..face.basis import LandmarkBasis
from ..model import MotionModel, NoisedPrediction
from ..sparsity import crowding_loss, information_loss
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
        """truth [B, L, 64]: coefficients; frames 2 k and 2 k + 1 follow one another in time.

        In float32 even where the network is autocast. Where it predicts noise, its x0 is that error magnified by
        1 / sqrt(SNR): the terms on x0 then count with min(1, SNR) of their diffusion time, which undoes it.
        """
        with torch.autocast(truth.device.type, enabled=False):
            return self._total(model, prediction, truth)

    def _total(
        self, model: MotionModel, prediction: NoisedPrediction, truth: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        self.basis = self.basis if self.basis.basis.device == truth.device else self.basis.to(truth.device)
        share = _share_of_x0(model, prediction)
        guess = prediction.coefficients.float()
        wanted = self.basis.mouth_opening(truth)
        opening = share * ((self.basis.mouth_opening(guess) - wanted) / OPENING_SPREAD).square()
        closed = 1 + (self.config.closure - 1) * (wanted < CLOSED_BELOW)
        width = share * ((self.basis.mouth_width(guess) - self.basis.mouth_width(truth)) / WIDTH_SPREAD).square()
        normal = model.normalise(guess), model.normalise(truth)
        upper = share[..., None] * (normal[0][..., list(UPPER)] - normal[1][..., list(UPPER)]).square()
        moved = [x[:, 1::2] - x[:, ::2] for x in (normal[0][..., list(LOWER)], normal[1][..., list(LOWER)])]
        terms = {
            "diffusion": nn.functional.mse_loss(prediction.output.float(), prediction.target),
            "opening": (closed * opening).mean(),
            "width": width.mean(),
            "upper": upper.mean(),
            "velocity": (share[..., None] * (moved[0] - moved[1]).square()).mean(),
            "information": information_loss(model),
        }
        weights = {"diffusion": 1.0} | {name: getattr(self.config, name) for name in terms if name != "diffusion"}
        if self.config.crowding:
            terms["crowding"], weights["crowding"] = crowding_loss(model), self.config.crowding
        total = sum(weights[name] * value for name, value in terms.items())
        return torch.as_tensor(total), {name: float(value.detach()) for name, value in terms.items()}


def _share_of_x0(model: MotionModel, prediction: NoisedPrediction) -> Tensor:
    """Weight of the terms on x0, [B, 1] or [1, 1]."""
    if model.config.diffusion.prediction == "x0":
        return prediction.output.new_ones(1, 1, dtype=torch.float32)
    bars = model.schedule.alpha_bars[prediction.t]
    return (bars / (1 - bars)).clamp(max=1.0)[:, None]
