"""The meaning of `threshold_ema` with a structure, in plain PyTorch.

x [..., D] is the matrix [R, D] of its flattened rows, cut into groups: columns, rows, or tiles of 64 x 64. A group
lives or dies as a whole, by its mean size against its mean threshold:

    live(G)  <=>  mean over G of |x|  >  mean over G of sigmoid(theta) mu

mu is what it is for elements: the moving average of mean |x| over all of x, before the mask (eq. 5-6). With groups of
one element this is eq. 7. The gradients follow from the same two choices as for elements (see the reference of
`threshold_ema`): the step is widened to a biweight window of half-width t(G), the group's mean threshold, so that

    dL/dt(G) = -K(mean |x| - t(G)) sum over G of dL/dy x,

which each element's threshold receives in equal parts; and x receives gradient where it is live.

A group with a NaN is dead, one with an infinity and no NaN is live. Neither enters mu.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...masked import MU
from ...structure import Cell, cell
from ..mask_bits.reference import pack_mask
from ..sparse_linear.reference import rows as matrix
from ..threshold_ema import reference as element
from ..threshold_ema.reference import work_dtype


class Forward(NamedTuple):
    """Everything the operator returns; `statistics` and `means` are kept for the backward pass."""

    values: Tensor
    bits: Tensor
    live: Tensor
    information: Tensor
    state: Tensor
    statistics: Tensor
    means: Tensor
    """[groups down, groups across]: mean |x| of each group, in the arithmetic of x."""


def gather(x: Tensor, size: Cell) -> Tensor:
    """The sums of each group of x [R, D] -> [groups down, groups across]."""
    down, across = size.grid(*x.shape)
    padded = F.pad(x, (0, across * size.width - x.shape[1], 0, down * size.height - x.shape[0]))
    return padded.reshape(down, size.height, across, size.width).sum((1, 3))


def spread(groups: Tensor, size: Cell, rows: int, width: int) -> Tensor:
    """What each group [groups down, groups across] has, at its elements: broadcasts to [R, D]."""
    if groups.shape[0] != 1:
        groups = groups.repeat_interleave(size.height, 0)[:rows]
    return groups if groups.shape[1] == 1 else groups.repeat_interleave(size.width, 1)[:, :width]


def spread_bits(alive: Tensor, size: Cell, rows: int, width: int) -> Tensor:
    """The packed mask [R, ceil(D / 64)] of groups that are one column wide, or whole words."""
    if size.width == 1:
        return pack_mask(spread(alive, size, rows, width)).expand(rows, -1).contiguous()
    full = pack_mask(torch.ones((1, width), dtype=torch.bool, device=alive.device))
    return torch.where(spread(alive, Cell(size.height, 1), rows, full.shape[1]), full, 0).expand(rows, -1).contiguous()


def group_sums(x: Tensor, structure: int) -> Tensor:
    """float64 [3, groups down, groups across]: the sum of |x| over the finite elements of each group, their number, and
    the sum over all elements."""
    flat = matrix(x)
    size = cell(structure, *flat.shape)
    finite = torch.isfinite(flat)
    wide = flat.double().abs()
    return torch.stack([gather(part, size) for part in (torch.where(finite, wide, 0.0), finite.double(), wide)])


def extents(groups: int, side: int, total: int, device: torch.device) -> Tensor:
    """[groups]: how much of `total` each group of `side` covers; the last may be cut short."""
    return (total - torch.arange(groups, device=device) * side).clamp(max=side)


def members(size: Cell, rows: int, width: int, device: torch.device) -> Tensor:
    """float64 [groups down, groups across]: elements of each group."""
    down, across = size.grid(rows, width)
    tall, wide = extents(down, size.height, rows, device), extents(across, size.width, width, device)
    return (tall[:, None] * wide[None, :]).double()


def bounds(theta: Tensor, state: Tensor, size: Cell, rows: int, width: int) -> Tensor:
    """float64 [groups across] or []: the mean threshold of each group (eq. 5 times mu)."""
    t = torch.sigmoid(theta.double()) * state[MU].double()
    if not t.dim():
        return t
    columns = extents(size.grid(rows, width)[1], size.width, width, t.device)
    return gather(t[None], Cell(1, size.width))[0] / columns


def decide(
    sums: Tensor, theta: Tensor, state: Tensor, size: Cell, rows: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(mean |x|, live) of each group, [groups down, groups across]."""
    means = (sums[2] / members(size, rows, width, sums.device)).to(dtype)
    return means, means > bounds(theta, state, size, rows, width).to(dtype)


def forward(
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    sums: Tensor,
    totals: Tensor | None,
    alpha: float,
    update: bool,
    information: bool,
    store: bool,
    structure: int,
) -> Forward:
    """The operator without gradients: x [..., D], theta [] or [D], state [4], sums of `group_sums`; totals float64 [2]
    from all ranks, or None to take those of `sums`."""
    flat, dtype = matrix(x), work_dtype(x)
    rows, width = flat.shape
    size = cell(structure, rows, width)
    totals = sums[:2].sum((1, 2)) if totals is None else totals
    state = element.next_state(state, totals, alpha) if update else state.clone()
    means, alive = decide(sums, theta, state, size, rows, width, dtype)
    live = (alive * members(size, rows, width, x.device)).sum() / max(x.numel(), 1)
    mask = spread(alive, size, rows, width)
    values = torch.where(mask, flat, 0) if store or information else x.new_empty(0)
    divergence, statistics = x.new_zeros((), dtype=dtype), x.new_zeros((4, width if information else 0), dtype=dtype)
    if information and width:
        exact = torch.stack([m for t in (flat, values) for m in element.moments(t)])
        divergence, statistics = element.gaussian_divergence(exact).to(dtype), exact.to(dtype)
    values = values.reshape(x.shape).contiguous() if store else x.new_empty(0)
    bits = spread_bits(alive, size, rows, width)
    bits = bits.reshape(*x.shape[:-1], bits.shape[-1])
    return Forward(values, bits, live.float(), divergence, state, statistics, means)


def backward(
    grad: Tensor | None,
    grad_information: Tensor | None,
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    statistics: Tensor,
    means: Tensor,
    structure: int,
) -> tuple[Tensor, Tensor]:
    """Gradients to x and to theta; state, statistics and means are those that the forward pass returned."""
    dtype, flat = work_dtype(x), matrix(x)
    rows, width = flat.shape
    size, wide = cell(structure, rows, width), flat.to(dtype)
    t = bounds(theta, state, size, rows, width).to(dtype)
    mask = spread(means > t, size, rows, width)
    g = torch.zeros_like(wide) if grad is None else matrix(grad).to(dtype)
    grad_x = torch.where(mask, g, 0)
    if grad_information is not None and statistics.shape[1]:
        push, slope_q, slope_p = (element.divergence_slopes(statistics, rows) * grad_information.double()).to(dtype)
        g = g + push + slope_p * (torch.where(mask, wide, 0) - statistics[2])
        grad_x = torch.where(mask, g, 0) + slope_q * (wide - statistics[0]) - push
    pulled = gather(torch.where(torch.isfinite(wide), g * wide, 0.0).double(), size)
    on_groups = -pulled * element.window((means - t).double(), t.double())  # dL/dt of each group
    grad_theta = share(on_groups, theta, state, size, width)
    return grad_x.to(x.dtype).reshape(x.shape), grad_theta.to(theta.dtype)


def share(on_groups: Tensor, theta: Tensor, state: Tensor, size: Cell, width: int) -> Tensor:
    """dL/dtheta from dL/dt of each group [groups down, groups across], t being the mean over the group's columns."""
    s = torch.sigmoid(theta.double())
    slope = s * (1 - s) * state[MU].double()
    if not theta.dim():
        return on_groups.sum() * slope
    columns = extents(on_groups.shape[1], size.width, width, s.device)
    return (on_groups.sum(0) / columns).repeat_interleave(size.width)[:width] * slope
