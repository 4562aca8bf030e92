"""The operators behind `threshold_ema(structure=...)`. The meaning is in reference.py.

The sums of the groups are an operator of their own, the only pass over x that a mask alone needs: mu and the mask both
follow from them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ...masked import STATE_SIZE, Masked
from ...registry import LIBRARY, NAMESPACE, define
from ...structure import cell
from ..mask_bits import words
from . import reference
from .reference import work_dtype


def masked_by_groups(
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    alpha: float,
    update: bool,
    information: bool,
    structure: int,
    group: ProcessGroup | None,
) -> Masked:
    """`threshold_ema` for a structure, of arguments that it has checked."""
    sums, totals = sums_of(x, structure, update, group)
    how = alpha, update, information, True, structure
    values, bits, live, divergence, moved, *_ = torch.ops.dmt_kernels.threshold_groups(
        x, theta, state.detach(), sums, totals, *how
    )
    if update:
        with torch.no_grad():
            state.copy_(moved)
    return Masked(values, bits, live, divergence if information else None)


def sums_of(x: Tensor, structure: int, update: bool, group: ProcessGroup | None) -> tuple[Tensor, Tensor | None]:
    """The sums of x's groups, which are of this rank's rows; and their totals over all ranks that share one mu."""
    sums = torch.ops.dmt_kernels.group_sums(x.detach(), structure)
    if group is None or not update:
        return sums, None
    totals = sums[:2].sum((1, 2))
    torch.distributed.all_reduce(totals, group=group)
    return sums, totals


def _grid(x: Tensor, structure: int) -> tuple[int, int]:
    rows, width = math.prod(x.shape[:-1]), x.shape[-1]
    return cell(structure, rows, width).grid(rows, width)


def _forward(*inputs):
    return tuple(reference.forward(*inputs))


def _fake_sums(x, structure):
    return x.new_empty((3, *_grid(x, structure)), dtype=torch.float64)


def _fake_forward(x, theta, state, sums, totals, alpha, update, information, store, structure):
    dtype, width = work_dtype(x), x.shape[-1]
    return (
        x.new_empty(x.shape if store else (0,)),
        x.new_empty((*x.shape[:-1], words(width)), dtype=torch.int64),
        state.new_empty(()),
        x.new_empty((), dtype=dtype),
        state.new_empty(STATE_SIZE),
        x.new_empty((4, width if information else 0), dtype=dtype),
        x.new_empty(_grid(x, structure), dtype=dtype),
    )


def _fake_backward(grad, grad_information, x, theta, state, statistics, means, structure):
    return x.new_empty(x.shape), theta.new_empty(theta.shape)


def _save(ctx, inputs, output):
    x, theta, *_, structure = inputs
    _, bits, live, _, state, statistics, means = output
    ctx.structure = structure
    ctx.mark_non_differentiable(bits, live, state, statistics, means)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, theta, state, statistics, means)


def _differentiate(ctx, grad, _bits, _live, grad_information, *_others):
    grad_x = grad_theta = None
    if grad is not None or grad_information is not None:
        grad_x, grad_theta = torch.ops.dmt_kernels.threshold_groups_backward(
            grad, grad_information, *ctx.saved_tensors, ctx.structure
        )
    return grad_x, grad_theta, *[None] * 8


define("group_sums(Tensor x, int structure) -> Tensor", reference.group_sums, _fake_sums)
define(
    "threshold_groups(Tensor x, Tensor theta, Tensor state, Tensor sums, Tensor? totals, float alpha, bool update,"
    " bool information, bool store, int structure) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake_forward,
)
define(
    "threshold_groups_backward(Tensor? grad, Tensor? grad_information, Tensor x, Tensor theta, Tensor state,"
    " Tensor statistics, Tensor means, int structure) -> (Tensor, Tensor)",
    reference.backward,
    _fake_backward,
)
torch.library.register_autograd(f"{NAMESPACE}::threshold_groups", _differentiate, setup_context=_save, lib=LIBRARY)
