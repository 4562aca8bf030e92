"""The meaning of `masked_linear`, in plain PyTorch: `threshold_ema`, then `sparse_linear`, by their references.

    mask, mu = threshold_ema(x, theta, state)    eq. 5-7
    y = where(mask, x, 0) W^T + b

The product hands a gradient back to live elements only. Through the smooth window of `threshold_ema` theta therefore
hears from the elements just above the threshold, and not from those just below it, as it does where a dense product
follows: these would need the very products that the mask saves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sparse_linear import reference as product
from ..threshold_ema import reference as threshold


def forward(
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    alpha: float,
    update: bool,
    information: bool,
) -> tuple[Tensor, threshold.Forward]:
    """y [..., N] and what the threshold returned, without gradients."""
    masked = threshold.forward(x, theta, state, None, alpha, update, information, False)
    return product.sparse_linear(x, masked.bits, weight, bias), masked


def backward(
    grad: Tensor, grad_information: Tensor | None, x: Tensor, theta: Tensor, weight: Tensor, masked: threshold.Forward
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to x, theta, weight and bias from dy [..., N]."""
    grad_values = product.grad_input(grad, masked.bits, weight)
    grad_x, grad_theta = threshold.backward(grad_values, grad_information, x, theta, masked.state, masked.statistics)
    grad_weight = product.grad_weight(grad, x, masked.bits)
    return grad_x, grad_theta, grad_weight, product.rows(grad.to(torch.float64)).sum(0).to(grad.dtype)
