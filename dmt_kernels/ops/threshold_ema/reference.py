"""The meaning of `threshold_ema`, in plain PyTorch: eq. 5-7 and eq. 10 of the paper.

Two choices that the equations leave open:

- Gradient to theta. The mask of eq. 7 is a step, whose derivative in the threshold t is a spike. The spike is
  widened to the biweight window K(v) = 15/16 (1 - v^2)^2, v = (|x| - t) / h, |v| < 1, with half-width h = t: the
  derivative of a mask that rises smoothly from 0 at |x| = t - h to 1 at t + h, of which eq. 7 is the limit as h -> 0.
  The forward pass is always the hard mask.
- mu is a statistic: no gradient flows through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...masked import MU
from ..mask_bits.reference import WORD, pack_mask, words

EPSILON = 1e-6
"""Added to both variances of eq. 10, so that a feature without live elements stays finite (unit of x squared)."""


class Forward(NamedTuple):
    """Everything the compiled operator returns; `statistics` is kept for the backward pass."""

    values: Tensor
    bits: Tensor
    live: Tensor
    information: Tensor
    state: Tensor
    statistics: Tensor
    """[4, D]: mean and variance of the unmasked, then of the masked values, per feature; [4, 0] if not asked for."""


def work_dtype(x: Tensor) -> torch.dtype:
    """Arithmetic is float32, or float64 for float64 x."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def abs_sums(x: Tensor) -> Tensor:
    """float64 [2]: the sum of |x| over the finite elements of x, and how many there are.

    The rule that every implementation follows, so that all find the same mu: the columns of one word of the mask, 64 of
    a row (the last padded with 0), are folded in the arithmetic of x, in halves, down to 8; these are added in float64.
    A folded sum that overflows makes the sum infinite.
    """
    finite = torch.isfinite(x)
    sizes = torch.where(finite, x.to(work_dtype(x)).abs(), 0)
    count = words(x.shape[-1])
    folded = F.pad(sizes, (0, count * WORD - x.shape[-1])).unflatten(-1, (count, WORD))
    for half in (32, 16, 8):
        folded = folded[..., :half] + folded[..., half:]
    return torch.stack([folded.double().sum(), finite.sum().double()])


def next_state(state: Tensor, sums: Tensor, alpha: float) -> Tensor:
    """Eq. 6: the state after absorbing mean |x| = sums[0] / sums[1]; the same state if there is nothing to absorb."""
    mean = sums[0] / sums[1]
    mu, updates, step, seen = state.unbind()
    moved = torch.where(updates == 0, mean, alpha * mu.double() + (1 - alpha) * mean)
    new = torch.stack([moved.float(), updates + 1, step, step])
    repeated = (step != 0) & (seen == step)
    return torch.where(torch.isfinite(mean) & ~repeated, new, state)


def threshold(theta: Tensor, state: Tensor, dtype: torch.dtype) -> Tensor:
    """Eq. 5 times mu: t = sigmoid(theta) * mu, no dimensions or [D]. In float64 first, so that every device agrees."""
    return (torch.sigmoid(theta.double()) * state[MU].double()).to(dtype)


def live_mask(x: Tensor, theta: Tensor, state: Tensor) -> Tensor:
    """Eq. 7 with the mu of `state`; a NaN compares false."""
    dtype = work_dtype(x)
    return x.to(dtype).abs() > threshold(theta, state, dtype)


def gaussian_divergence(statistics: Tensor) -> Tensor:
    """Eq. 10 for [4, D] statistics: closed-form KL(masked || unmasked) of the fitted Gaussians, mean over features."""
    mean_q, var_q, mean_p, var_p = statistics
    var_q, var_p = var_q + EPSILON, var_p + EPSILON
    ratio = (var_p + (mean_p - mean_q).square()) / var_q
    return (0.5 * ((var_q / var_p).log() + ratio - 1)).mean()


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of [N, D] over N, as float64 [D]; 0 for N = 0."""
    count = max(x.shape[0], 1)
    mean = x.double().sum(0) / count
    return mean, (x.double() - mean).square().sum(0) / count


def forward(
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    sums: Tensor | None,
    alpha: float,
    update: bool,
    information: bool,
    store: bool,
) -> Forward:
    """The operator without gradients: x [..., D], theta [] or [D], state [4]; see the public function."""
    width, dtype = x.shape[-1], work_dtype(x)
    state = next_state(state, abs_sums(x) if sums is None else sums, alpha) if update else state.clone()
    mask = live_mask(x, theta, state)
    values = torch.where(mask, x, 0)
    live = mask.double().sum() / max(mask.numel(), 1)
    divergence, statistics = x.new_zeros((), dtype=dtype), x.new_zeros((4, 0), dtype=dtype)
    if information and width:
        rows = [t.reshape(-1, width) for t in (x, values)]
        exact = torch.stack([m for t in rows for m in moments(t)])
        divergence, statistics = gaussian_divergence(exact).to(dtype), exact.to(dtype)
    values = values.contiguous() if store else x.new_empty(0)
    return Forward(values, pack_mask(mask), live.float(), divergence, state, statistics)


def divergence_slopes(statistics: Tensor, rows: int) -> Tensor:
    """[4, D] statistics -> [3, D] (push, slope_q, slope_p).

    d(eq. 10)/dx = slope_q (x - mean_q) - push through the unmasked statistics, and
    d(eq. 10)/dy = slope_p (y - mean_p) + push through the masked ones, y being x after the mask.
    """
    mean_q, var_q, mean_p, var_p = statistics.double()
    var_q, var_p = var_q + EPSILON, var_p + EPSILON
    shift = mean_p - mean_q
    scale = 1 / max(rows * statistics.shape[1], 1)
    slope_q = (1 / var_q - (var_p + shift.square()) / var_q.square()) * scale
    slope_p = (1 / var_q - 1 / var_p) * scale
    push = shift / var_q * scale
    return torch.stack([push, slope_q, slope_p])


def window(distance: Tensor, half_width: Tensor) -> Tensor:
    """The biweight window K(distance / h) / h; 0 where h = 0."""
    v = distance / half_width
    inside = (v.abs() < 1) & (half_width > 0)
    return torch.where(inside, 15 / 16 * (1 - v.square()).square() / half_width, 0.0)


def backward(
    grad: Tensor | None,
    grad_information: Tensor | None,
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    statistics: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients to x and to theta. `state` is the one the forward pass returned, so mu is the mu it used."""
    dtype, width = work_dtype(x), x.shape[-1]
    wide = x.to(dtype)
    grad = torch.zeros_like(wide) if grad is None else grad.to(dtype)
    t = threshold(theta, state, dtype)
    mask = wide.abs() > t
    direct, rows = torch.zeros_like(wide), x.numel() // max(width, 1)
    if grad_information is not None and statistics.shape[1]:
        push, slope_q, slope_p = (divergence_slopes(statistics, rows) * grad_information.double()).to(dtype)
        mean_q, mean_p = statistics[0], statistics[2]
        grad = grad + push + slope_p * (torch.where(mask, wide, 0) - mean_p)
        direct = slope_q * (wide - mean_q) - push
    grad_x = torch.where(mask, grad, 0) + direct
    pulled = -grad * wide * window(wide.abs() - t, t)
    pulled = torch.where(torch.isfinite(wide), pulled, 0.0).double()
    total = pulled.reshape(rows, width).sum(0) if theta.dim() else pulled.sum()
    s = torch.sigmoid(theta.double())
    slope = s * (1 - s) * state[MU].double()  # dt / dtheta
    return grad_x.to(x.dtype), (total * slope).to(theta.dtype)


def backward_live(
    grad: Tensor,
    grad_information: Tensor | None,
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    statistics: Tensor,
    store: bool,
    backward: Callable[..., tuple[Tensor, Tensor]] = backward,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `backward`, but `grad` counts only where x is live, whatever it holds elsewhere; and, if `store`, x masked."""
    mask = live_mask(x, theta, state)
    gradients = backward(torch.where(mask, grad, 0), grad_information, x, theta, state, statistics)
    return *gradients, torch.where(mask, x, 0).contiguous() if store else x.new_empty(0)
