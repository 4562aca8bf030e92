"""What `modulate` means."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def modulate(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    slope: float,
    other: Tensor | None,
    other_scale: Tensor | None,
    other_shift: Tensor | None,
    pooled: bool,
) -> Tensor:
    """x, other [B, H, W, C], scales and shifts [B, C] -> [B, H, W, C], or half of H and W if `pooled`."""
    y = _affine(x, scale, shift, slope)
    if other is not None:
        y = y + (other if other_scale is None else _affine(other, other_scale, other_shift, slope))
    return F.avg_pool2d(y.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1).contiguous() if pooled else y.contiguous()


def _affine(x: Tensor, scale: Tensor, shift: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(x * scale[:, None, None] + shift[:, None, None], slope)
