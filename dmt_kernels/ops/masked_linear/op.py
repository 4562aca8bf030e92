"""`masked_linear`: public function and autograd, over the operators of `threshold_ema` and `sparse_linear`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import ProcessGroup

from ...masked import Masked
from ...structure import ELEMENT, structure_of
from ..direct import direct, recorded
from ..sparse_linear.op import operands, route_of, sparse_linear
from ..sparse_linear.operators import check as check_product
from ..sparse_linear.operators import operators
from ..sparse_linear.reference import rows
from ..sparse_linear.tuning import AUTO
from ..threshold_ema.eager import gradients, gradients_of_live, step, tracing
from ..threshold_ema.op import check as check_threshold
from ..threshold_ema.op import threshold_ema
from ..threshold_groups.op import sums_of

FEW_ROWS = 4
"""Below this many rows the dense product is the faster one on a CPU, whatever the mask."""


def masked_linear(
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 0.9,
    update: bool = True,
    information: bool = False,
    structure: str = "element",
    group: ProcessGroup | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Masked]:
    """`threshold_ema` on x (eq. 5-7), then y = masked x @ weight.T + bias, skipping what the mask zeroed.

    x: [..., K]; theta, state, alpha, update, information, structure, group: as for `threshold_ema`.
    weight: [N, K], bias: [N] or None, in the dtype of x; impl: as for `sparse_linear`.
    Returns y [..., N] and the Masked, whose `values` is None: the masked tensor is not kept, the backward pass needs x
    and one bit per element.

    Gradients: dX and dW as for `sparse_linear`; theta through the smooth window of `threshold_ema`, from live elements
    (see reference.py); x and theta also through `information`. Differentiable once. Under autocast x, weight and bias
    are cast to its dtype before the threshold.

    Raises TypeError for a dtype and ValueError for a shape, device, alpha or name that does not fit.
    """
    x, weight, bias = operands(x, weight, bias)
    check_threshold(x, theta, state)
    check_product(x, None, weight, bias)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    if structure == "element" and group is None and not tracing():
        call = _eager_with_gradients if recorded(x, theta, weight, bias) else _eager
        y, bits, live, divergence, *_ = call(x, theta, state, weight, bias, alpha, update, information, route_of(impl))
        return y, Masked(None, bits, live, divergence if information else None)
    if torch._C._are_functorch_transforms_active():
        masked = threshold_ema(
            x, theta, state, alpha=alpha, update=update, information=information, structure=structure, group=group
        )
        y = sparse_linear(masked.values, masked.bits, weight, bias, structure=structure, impl=impl)
        return y, masked._replace(values=None)
    kind, sums, totals = structure_of(structure), None, None
    if kind != ELEMENT:
        sums, totals = sums_of(x, kind, update, group)
    elif group is not None and update:
        sums = torch.ops.dmt_kernels.abs_sums(x.detach())
        torch.distributed.all_reduce(sums, group=group)
    y, bits, live, divergence, moved, *_ = _MaskedLinear.apply(
        x, theta, state.detach(), sums, totals, weight, bias, alpha, update, information, kind, route_of(impl)
    )
    if update:
        with torch.no_grad():
            state.copy_(moved)
    return y, Masked(None, bits, live, divergence if information else None)


def _stores(x: Tensor, structure: int, route: int) -> bool:
    """Whether the masked tensor is made for a dense product, and forgotten. On a GPU it costs the threshold one write,
    and no fused product of ours is as fast as the vendor's."""
    if route != AUTO:
        return False
    return structure == ELEMENT if x.is_cuda else x.shape[:-1].numel() < FEW_ROWS


def _product(values, x, bits, weight, bias, structure, route):
    """y from the masked values where they were stored, else from x and the mask."""
    if values is not None:
        return F.linear(values, weight, bias)
    return operators(structure).forward(x, bits, weight, bias, structure, route)


def _eager(x, theta, state, weight, bias, alpha, update, information, route, keep=False):
    """y, bits, live, eq. 10, and what the backward pass wants (if `keep`); moves the state where it lies."""
    store = _stores(x, ELEMENT, route)
    values, bits, live, divergence, *kept = step(x, theta, state, alpha, update, information, store, keep)
    y = _product(values if store else None, x, bits, weight, bias, ELEMENT, route)
    return y, bits, live, divergence, *kept


class _EagerMaskedLinear(torch.autograd.Function):
    """The same as eager code runs it: no second call for the copy into the state (see threshold_ema/eager.py)."""

    @staticmethod
    def forward(ctx, x, theta, state, weight, bias, alpha, update, information, route):
        y, bits, live, divergence, *kept = _eager(
            x, theta, state, weight, bias, alpha, update, information, route, keep=True
        )
        ctx.how = ELEMENT, route
        ctx.mark_non_differentiable(bits, live)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, theta, weight, bits, *kept)
        return y, bits, live, divergence

    @staticmethod
    def backward(ctx, grad, _bits, _live, grad_information):
        needed = [ctx.needs_input_grad[i] for i in (0, 1, 3, 4)]
        grad_x, grad_theta, grad_weight, grad_bias = _backward(ctx, grad, grad_information, needed)
        return grad_x, grad_theta, None, grad_weight, grad_bias, *[None] * 4


_eager_with_gradients = direct(_EagerMaskedLinear)


class _MaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, theta, state, sums, totals, weight, bias, alpha, update, information, structure, route):
        ops, store = torch.ops.dmt_kernels, _stores(x, structure, route)
        how = alpha, update, information, store
        if structure == ELEMENT:
            values, bits, live, divergence, *kept = ops.threshold_ema(x, theta, state, sums, *how)
        else:
            values, bits, live, divergence, *kept = ops.threshold_groups(x, theta, state, sums, totals, *how, structure)
        y = _product(values if store else None, x, bits, weight, bias, structure, route)
        ctx.how = structure, route
        ctx.mark_non_differentiable(bits, live, *kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, theta, weight, bits, *kept)
        return y, bits, live, divergence, *kept

    @staticmethod
    def backward(ctx, grad, _bits, _live, grad_information, *_kept):
        needed = [ctx.needs_input_grad[i] for i in (0, 1, 5, 6)]
        grad_x, grad_theta, grad_weight, grad_bias = _backward(ctx, grad, grad_information, needed)
        return grad_x, grad_theta, None, None, None, grad_weight, grad_bias, *[None] * 5


def _backward(ctx, grad, grad_information, needed):
    """Gradients to x, theta, weight and bias, where `needed`."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "masked_linear is differentiable once: call backward without create_graph, or use sparse_linear"
        )
    x, theta, weight, bits, *kept = ctx.saved_tensors  # kept: state, statistics, and the means of groups
    need_x, need_theta, need_weight, need_bias = needed
    grad_values = grad_x = grad_theta = grad_weight = grad_bias = None
    if grad is not None and (need_x or need_theta) and x.is_cuda and _stores(x, *ctx.how):
        return _backward_dense(grad, grad_information, x, theta, weight, kept, need_weight, need_bias)
    if grad is not None:
        grad_values, grad_weight = operators(ctx.how[0]).gradients(
            grad, x, bits, weight, need_x or need_theta, need_weight, *ctx.how
        )
        if need_bias:
            grad_bias = rows(grad).sum(0)
    if (need_x or need_theta) and (grad_values is not None or grad_information is not None):
        grad_x, grad_theta = _through_threshold(grad_values, grad_information, x, theta, kept, ctx.how[0])
    return grad_x, grad_theta, grad_weight, grad_bias


def _backward_dense(grad, grad_information, x, theta, weight, kept, need_weight, need_bias):
    """With the vendor's products: the threshold's own pass masks the gradient to x, and x once more for dW."""
    grad_bias = rows(grad).sum(0) if need_bias else None
    with torch.autocast(x.device.type, enabled=False):
        grad_values = (rows(grad) @ weight).reshape(x.shape)
        grad_x, grad_theta, values = gradients_of_live(
            grad_values, grad_information, x, theta, *kept, store=need_weight
        )
        grad_weight = rows(grad).t() @ rows(values) if need_weight else None
    return grad_x, grad_theta, grad_weight, grad_bias


def _through_threshold(grad, grad_information, x, theta, kept, structure):
    if structure == ELEMENT:
        return gradients(grad, grad_information, x, theta, *kept)
    return torch.ops.dmt_kernels.threshold_groups_backward(grad, grad_information, x, theta, *kept, structure)
