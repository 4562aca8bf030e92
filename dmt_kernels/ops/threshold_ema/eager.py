"""`threshold_ema` as eager code runs it: one crossing into the operator, which moves the state where it lies.

The functional operator of op.py is for tracing. It costs a second call, for the copy into the state, and the generic
wrapping of a registered autograd rule: together more than the kernel needs for 64 x 256.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...registry import LIBRARY, define
from ..direct import direct, recorded

_ops = torch.ops.dmt_kernels


def tracing() -> bool:
    """Whether a compiler or a function transform looks on, to which a changed state has to be told as a result."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def masked_in_place(
    x: Tensor, theta: Tensor, state: Tensor, alpha: float, update: bool, information: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """values, bits, live, eq. 10 or None; moves `state`. Arguments as for `threshold_ema`, which checks them."""
    if recorded(x, theta):
        return _apply(x, theta, state, alpha, update, information)
    return step(x, theta, state, alpha, update, information, True, False)[:4]


def step(
    x: Tensor, theta: Tensor, state: Tensor, alpha: float, update: bool, information: bool, store: bool, keep: bool
) -> tuple[Tensor | None, ...]:
    """The operator: values (if `store`), bits, live, eq. 10, the state as the backward pass wants it (if `keep`),
    statistics. What was not asked for may be None."""
    results = _ops.threshold_ema_.default(x, theta, state, alpha, update, information, store, keep)
    if update:
        torch.autograd.graph.increment_version(state)
    return results


def gradients(
    grad: Tensor | None,
    grad_information: Tensor | None,
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    statistics: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """To x and theta, from what `step` kept; None where nothing comes in."""
    if grad is None and grad_information is None:
        return None, None
    if statistics is None:
        statistics = state.new_empty((4, 0))
    return _ops.threshold_ema_backward.default(grad, grad_information, x, theta, state, statistics)


def gradients_of_live(
    grad: Tensor,
    grad_information: Tensor | None,
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    statistics: Tensor | None,
    store: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """To x and theta, `grad` counting only where x is live; and x masked, if `store`."""
    if statistics is None:
        statistics = state.new_empty((4, 0))
    return _ops.threshold_ema_backward_live.default(grad, grad_information, x, theta, state, statistics, store)


class _Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, theta, state, alpha, update, information):
        values, bits, live, divergence, kept, statistics = step(x, theta, state, alpha, update, information, True, True)
        ctx.mark_non_differentiable(bits, live)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, theta, kept, statistics)
        return values, bits, live, divergence

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _bits, _live, grad_information):
        return *gradients(grad, grad_information, *ctx.saved_tensors), None, None, None, None


_apply = direct(_Threshold)


class TransformedThreshold(torch.autograd.Function):
    """The functional operator in the form that function transforms (torch.func) take; arguments as its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        return _ops.threshold_ema.default(*inputs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, bits, live, _, state, statistics = output
        ctx.mark_non_differentiable(bits, live, state, statistics)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[0], inputs[1], state, statistics)

    @staticmethod
    def backward(ctx, grad, _bits, _live, grad_information, _state, _statistics):
        return *gradients(grad, grad_information, *ctx.saved_tensors), *[None] * 6


def _in_place(x, theta, state, alpha, update, information, store, keep):
    with torch._C._AutoDispatchBelowAutograd():
        *results, moved, statistics = _ops.threshold_ema.default(
            x, theta, state, None, alpha, update, information, store
        )
        if update:
            state.copy_(moved)
    return *results, moved, statistics


define(
    "threshold_ema_(Tensor x, Tensor theta, Tensor(a!) state, float alpha, bool update, bool information, bool store,"
    " bool keep) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _in_place,
    _in_place,
)
# Gradients belong to `_Threshold`; the dispatcher goes straight to the kernel.
LIBRARY.impl("threshold_ema_", torch.library.fallthrough_kernel, "Autograd")
