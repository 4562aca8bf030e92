"""Expression quality on held-out clips: the number early stopping watches ("the expression naturalness index")."""

from __future__ import annotations

import torch
from torch import Tensor

from ..decoder import LOWER, UPPER
from ..face.basis import LandmarkBasis

STILL = 1e-6
"""Movement below this (normalised coefficients a frame) counts as none."""


def expression_quality(made: list[Tensor], truth: list[Tensor], mean: Tensor, std: Tensor) -> dict[str, float]:
    """Measures of sampled motion against the true one, and their mean `validation_quality`, at most 1.

    made, truth: coefficients [T, 64] of each clip; mean, std [64]: of the training data.
    - `validation_opening`: correlation of the mouth's opening over all frames, in -1..1: do the lips follow?
    - `validation_lower`, `validation_upper`: 1 / (1 + mean squared error in units of the training spread), in 0..1:
      is the region where it should be?
    - `validation_liveliness`: mean movement from frame to frame, the smaller over the larger of made and true, in
      0..1: a face that has frozen is close on average, and so is one that trembles.

    The paper stops by an "expression naturalness index on the validation set" and does not define it; this is ours.
    """
    basis = LandmarkBasis.load()
    made, truth = [m.float().cpu() for m in made], [t.float().cpu() for t in truth]
    opening = torch.stack([torch.cat([basis.mouth_opening(c) for c in clips]) for clips in (made, truth)])
    mean, std = mean.cpu(), std.cpu()
    error = (torch.cat(made) - torch.cat(truth)) / std
    moved = [torch.cat([(c.diff(dim=0) / std).abs().mean(1) for c in clips]).mean() for clips in (made, truth)]
    slow, fast = sorted(float(m) for m in moved)
    parts = {
        "opening": float(torch.corrcoef(opening)[0, 1].nan_to_num()),  # lips that never move do not correlate
        "lower": float(1 / (1 + error[:, list(LOWER)].square().mean())),
        "upper": float(1 / (1 + error[:, list(UPPER)].square().mean())),
        "liveliness": 1.0 if fast < STILL else slow / fast,
    }
    measures = {f"validation_{name}": value for name, value in parts.items()}
    return measures | {"validation_quality": sum(parts.values()) / len(parts)}
