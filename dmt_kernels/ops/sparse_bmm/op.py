"""`sparse_bmm`: batched products that skip the zeros of their left operand."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import define
from ..batching import one_by_one
from ..direct import recorded
from ..sparse_linear.op import route_of
from . import reference

DTYPES = (torch.float32, torch.float64)


def sparse_bmm(x: Tensor, weight: Tensor, *, impl: str = "auto") -> Tensor:
    """y = x @ weight, item by item; on a CPU zeros of x cost nothing but being looked at.

    x: [N, P, D], float32 or float64, any strides, contiguous along P or D best; weight: [N, D, out], dtype of x.
    impl: auto (whichever is faster, by P, out and the zeros), sparse or dense. Returns [N, P, out], contiguous.
    Made for few rows P to each matrix, as where every frame has its own; one matrix for all rows is a matter for
    `sparse_linear`, which takes a mask. Elsewhere than on a CPU it is `torch.bmm`.

    Gradients are those of `torch.bmm`, which then makes y as well: what a backward pass needs is dense. A zero of x
    that meets an infinity or a NaN in weight gives 0 where it is skipped, and NaN where it is not.

    Raises TypeError for a dtype and ValueError for a shape, device or name that does not fit.
    """
    check(x, weight)
    route = route_of(impl)
    if recorded(x, weight):
        return torch.bmm(x, weight)
    return torch.ops.dmt_kernels.sparse_bmm(x, weight, route)


def check(x: Tensor, weight: Tensor) -> None:
    """One clear error for operands that do not fit one another."""
    if x.dtype not in DTYPES or weight.dtype != x.dtype:
        raise TypeError(f"sparse_bmm expects x and weight in float32 or both in float64, got {x.dtype}, {weight.dtype}")
    if x.device != weight.device:
        raise ValueError(f"x and weight must share a device, got {x.device} and {weight.device}")
    if x.dim() != 3 or weight.dim() != 3 or x.shape[0] != weight.shape[0] or x.shape[2] != weight.shape[1]:
        raise ValueError(
            f"sparse_bmm expects x [N, P, D] and weight [N, D, out], got {tuple(x.shape)} and {tuple(weight.shape)}"
        )


def _reference(x: Tensor, weight: Tensor, route: int) -> Tensor:
    check(x, weight)
    return reference.sparse_bmm(x, weight)


def _fake(x: Tensor, weight: Tensor, route: int) -> Tensor:
    check(x, weight)
    return x.new_empty((*x.shape[:2], weight.shape[2]))


define("sparse_bmm(Tensor x, Tensor weight, int route) -> Tensor", _reference, _fake)
one_by_one("sparse_bmm")
