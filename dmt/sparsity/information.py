"""The information constraint L_MI (paper, eq. 8-10)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .threshold import taken

VARIANCE_FLOOR = 1e-6
"""Added to both variances, so that a feature that never moves stays finite."""


def gaussian_information(masked: Tensor, values: Tensor) -> Tensor:
    """KL(p || q) of Gaussians fitted per feature (last axis) to the masked values (p) and to all values (q).

    The closed form of eq. 10, averaged over features; mean and variance are taken over
    all other axes. This is the meaning of what `dmt_kernels.threshold_ema` returns as `information`.
    """
    p, q = masked.flatten(0, -2), values.flatten(0, -2)
    mean_p, mean_q = p.mean(0), q.mean(0)
    var_p = p.var(0, correction=0) + VARIANCE_FLOOR
    var_q = q.var(0, correction=0) + VARIANCE_FLOOR
    return 0.5 * (torch.log(var_q / var_p) + (var_p + (mean_p - mean_q) ** 2) / var_q - 1).mean()


def information_loss(model: nn.Module) -> Tensor:
    """L_MI: the mean of eq. 10 over all thresholds that took part in the last training pass; 0 if there are none.

    Call it once per pass, before the backward pass: it takes the values from the sites.
    """
    return taken(model, "information")
