"""What `tile_conv2d` means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .packing import unpack


def tile_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
    add: Tensor | None,
    outputs: int,
    taps: list[int],
    ends: list[int],
    stride: int,
    up: int,
    size: list[int],
    measured: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """x [B, H, W, C] -> y [B, *size, outputs], a tap at a time, and its mean and variance [B, outputs] if `measured`,
    else empty ones; the rest as in `PackedConv2d`, taps one after the other."""
    if scale is not None and shift is not None:
        x = F.leaky_relu(x * scale[:, None, None] + shift[:, None, None], slope)
    kernels = unpack(weight, ends, outputs, x.shape[3]).to(x.dtype)
    y = x.new_zeros(len(x), *size, outputs)
    for phase, end in enumerate(ends):
        part = y[:, phase // up :: up, phase % up :: up]
        for tap in range(ends[phase - 1] if phase else 0, end):
            part += _seen(x, taps[2 * tap : 2 * tap + 2], stride, part.shape[1:3]) @ kernels[tap].T
    if bias is not None:
        y = y + bias.to(x.dtype)
    if add is not None:
        y = y + add
    if not measured or len(x) == 0:
        return y, y.new_empty(0, outputs), y.new_empty(0, outputs)
    variance, mean = torch.var_mean(y, (1, 2), correction=0)
    return y, mean, variance


def _seen(x: Tensor, tap: list[int], stride: int, size: tuple[int, ...]) -> Tensor:
    """x[:, stride i + dy, stride j + dx] for all (i, j) of `size`, 0 outside."""
    for axis, (offset, n) in enumerate(zip(tap, size, strict=True), 1):
        at = torch.arange(n, device=x.device) * stride + offset
        there = (at >= 0) & (at < x.shape[axis])
        shape = [1] * 4
        shape[axis] = n
        x = torch.where(there.view(shape), x.index_select(axis, at.clamp(0, x.shape[axis] - 1)), 0)
    return x
