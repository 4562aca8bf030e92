"""`modulate`: what happens to pixels between convolutions, in one pass over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ...backends import tiles
from ...registry import define
from ..direct import recorded
from . import reference

Affine = tuple[Tensor, Tensor]
"""Scale and shift, each [B, C]."""


def modulate(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    slope: float = 1.0,
    *,
    add: Tensor | None = None,
    add_affine: Affine | None = None,
    pool: bool = False,
) -> Tensor:
    """leaky_relu(x scale + shift, slope), and what is asked for besides.

    x: float32 [B, C, H, W], best in channels-last memory; scale, shift: [B, C]. add: [B, C, H, W], added, after scale,
    shift and leaky ReLU of its own if `add_affine` gives them. pool: means of two by two pixels, of x alone; H and W
    even. Returns float32 [B, C, H, W] (pool: half the height and width), channels last.

    Compiled for processors with matrix tiles (`dmt_kernels.tiles()`), beside `packed_conv2d`; elsewhere PyTorch's
    operators in turn. No gradient. Raises TypeError, ValueError or RuntimeError as `packed_conv2d` does.
    """
    _check(x, scale, shift, add, add_affine, pool)
    more = [None, None] if add_affine is None else [t.contiguous() for t in add_affine]
    other = None if add is None else add.permute(0, 2, 3, 1).contiguous()
    work = torch.ops.dmt_kernels.modulate if tiles() or not x.is_cpu else reference.modulate
    y = work(x.permute(0, 2, 3, 1), scale.contiguous(), shift.contiguous(), slope, other, *more, pool)
    return y.permute(0, 3, 1, 2)


def _check(x: Tensor, scale: Tensor, shift: Tensor, add: Tensor | None, add_affine: Affine | None, pool: bool) -> None:
    if x.dtype != torch.float32:
        raise TypeError(f"modulate expects float32, got {x.dtype}")
    if x.dim() != 4:
        raise ValueError(f"modulate expects x [B, C, H, W], got {tuple(x.shape)}")
    if add is None and add_affine is not None:
        raise ValueError("modulate expects something to add where a scale for it is given")
    if pool and (add is not None or x.shape[2] % 2 or x.shape[3] % 2):
        raise ValueError(f"only a picture of even sides, with nothing added, is pooled; got {tuple(x.shape)}")
    vectors = {"scale": scale, "shift": shift}
    if add_affine is not None:
        vectors |= {"scale of what is added": add_affine[0], "shift of what is added": add_affine[1]}
    for name, t in vectors.items():
        if t.dtype != x.dtype or t.shape != x.shape[:2]:
            raise ValueError(f"expected {name} {list(x.shape[:2])} of float32, got {list(t.shape)} of {t.dtype}")
    if add is not None and (add.dtype != x.dtype or add.shape != x.shape):
        raise ValueError(f"expected {list(x.shape)} of float32 to add, got {list(add.shape)} of {add.dtype}")
    if len({t.device for t in (x, add, *vectors.values()) if t is not None}) > 1:
        raise ValueError("modulate expects everything on one device")
    if recorded(x, add, *vectors.values()):
        raise RuntimeError("modulate has no gradient: call it under torch.no_grad()")


def _fake(x, scale, shift, slope, other, other_scale, other_shift, pooled):
    batch, height, width, channels = x.shape
    return x.new_empty((batch, height // 2, width // 2, channels) if pooled else x.shape)


define(
    "modulate(Tensor x, Tensor scale, Tensor shift, float slope, Tensor? other, Tensor? other_scale, "
    "Tensor? other_shift, bool pooled) -> Tensor",
    reference.modulate,
    _fake,
)
