"""`packed_conv2d`: convolutions of float32 on matrix tiles (AMX)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...backends import tiles
from ...registry import define
from ..direct import recorded
from . import reference
from .packing import PackedConv2d


class Measured(NamedTuple):
    """A result and what norms ask of it: y [B, O, H, W], its mean and its (biased) variance over pixels [B, O]."""

    y: Tensor
    mean: Tensor
    variance: Tensor


def packed_conv2d(
    x: Tensor,
    packed: PackedConv2d,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    slope: float = 1.0,
    *,
    add: Tensor | None = None,
) -> Tensor:
    """The convolution that `pack_conv2d` packed, of leaky_relu(x scale + shift, slope) if scale and shift are given.

    x: float32 [B, C, H, W], best in channels-last memory; scale, shift: [B, C], the modulation that often comes before
    a convolution, made while x is packed. What lies outside the picture is 0 after it. add: [B, O, H', W'], added to
    the result. Returns float32 [B, O, H', W'], channels last.

    Made for processors with matrix tiles (`dmt_kernels.tiles()`), where each number is a sum of one to three of
    bfloat16: denormal numbers count as 0, and what is not finite gives NaN wherever it is seen. Elsewhere the
    reference runs, a tap at a time: take `F.conv2d` there, and where a gradient is needed.

    Raises TypeError for a dtype, ValueError for a shape that does not fit, RuntimeError if a gradient is asked for.
    """
    return _call(x, packed, scale, shift, slope, add, False).y


def measured_conv2d(
    x: Tensor,
    packed: PackedConv2d,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    slope: float = 1.0,
    *,
    add: Tensor | None = None,
) -> Measured:
    """`packed_conv2d`, with the mean and variance of its result, summed in float64 as it is written."""
    return _call(x, packed, scale, shift, slope, add, True)


def _call(
    x: Tensor,
    packed: PackedConv2d,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
    add: Tensor | None,
    measured: bool,
) -> Measured:
    size = _check(x, packed, scale, shift, add)
    last = x.permute(0, 2, 3, 1)
    scale, shift = (None if t is None else t.contiguous() for t in (scale, shift))
    add = None if add is None else add.permute(0, 2, 3, 1).contiguous()
    taps = [n for tap in packed.taps for n in tap]
    work = torch.ops.dmt_kernels.tile_conv2d if tiles() or not x.is_cpu else reference.tile_conv2d
    y, mean, variance = work(
        last, packed.weight, packed.bias, scale, shift, slope, add,
        packed.outputs, taps, packed.ends, packed.stride, packed.up, size, measured,
    )  # fmt: skip
    return Measured(y.permute(0, 3, 1, 2), mean, variance)


def _check(
    x: Tensor, packed: PackedConv2d, scale: Tensor | None, shift: Tensor | None, add: Tensor | None
) -> tuple[int, int]:
    """The size of the result; one clear error for operands that do not fit one another."""
    if x.dtype != torch.float32:
        raise TypeError(f"packed_conv2d expects float32, got {x.dtype}")
    if x.dim() != 4 or x.shape[1] != packed.channels:
        raise ValueError(f"packed_conv2d expects x [B, {packed.channels}, H, W], got {tuple(x.shape)}")
    if (scale is None) != (shift is None):
        raise ValueError("packed_conv2d expects scale and shift, or neither")
    size = packed.size(*x.shape[2:])
    for name, t, shape in (
        ("scale", scale, x.shape[:2]),
        ("shift", shift, x.shape[:2]),
        ("add", add, (len(x), packed.outputs, *size)),
    ):
        if t is not None and (t.dtype != torch.float32 or tuple(t.shape) != tuple(shape)):
            raise ValueError(f"expected {name} {list(shape)} of float32, got {list(t.shape)} of {t.dtype}")
    if len({t.device for t in (x, packed.weight, scale, shift, add) if t is not None}) > 1:
        raise ValueError("packed_conv2d expects everything on one device")
    if recorded(x, scale, shift, add):
        raise RuntimeError("packed_conv2d has no gradient: call it under torch.no_grad(), or take F.conv2d")
    return size


def _fake(x, weight, bias, scale, shift, slope, add, outputs, taps, ends, stride, up, size, measured):
    moments = (len(x) if measured else 0, outputs)
    return x.new_empty((len(x), *size, outputs)), x.new_empty(moments), x.new_empty(moments)


define(
    "tile_conv2d(Tensor x, Tensor weight, Tensor? bias, Tensor? scale, Tensor? shift, float slope, "
    "Tensor? add, int outputs, int[] taps, int[] ends, int stride, int up, int[] size, bool measured) "
    "-> (Tensor, Tensor, Tensor)",
    reference.tile_conv2d,
    _fake,
)
