"""`masked_linear`: public function and autograd, over the operators of `threshold_ema` and `sparse_linear`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import ProcessGroup

from ...masked import Masked
from ..sparse_linear.op import check as check_product
from ..sparse_linear.op import operands, route_of
from ..sparse_linear.reference import rows
from ..sparse_linear.tuning import AUTO
from ..threshold_ema.op import check as check_threshold

ELEMENT = 0  # the structure of a threshold's mask
FEW_ROWS = 4
"""Below this many rows the dense product is the faster one on a CPU, whatever the mask; a masked tensor that small is
stored for it, and forgotten."""


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
    group: ProcessGroup | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Masked]:
    """`threshold_ema` on x (eq. 5-7), then y = masked x @ weight.T + bias, skipping what the mask zeroed.

    x: [..., K]; theta, state, alpha, update, information, group: as for `threshold_ema`.
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
    sums = None
    if group is not None and update:
        sums = torch.ops.dmt_kernels.abs_sums(x.detach())
        torch.distributed.all_reduce(sums, group=group)
    y, bits, live, divergence, moved, _ = _MaskedLinear.apply(
        x, theta, state.detach(), sums, weight, bias, alpha, update, information, route_of(impl)
    )
    if update:
        with torch.no_grad():
            state.copy_(moved)
    return y, Masked(None, bits, live, divergence if information else None)


class _MaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, theta, state, sums, weight, bias, alpha, update, information, route):
        ops = torch.ops.dmt_kernels
        few = route == AUTO and x.device.type == "cpu" and x.shape[:-1].numel() < FEW_ROWS
        values, bits, live, divergence, moved, statistics = ops.threshold_ema(
            x, theta, state, sums, alpha, update, information, few
        )
        y = F.linear(values, weight, bias) if few else ops.sparse_linear(x, bits, weight, bias, ELEMENT, route)
        ctx.route = route
        ctx.mark_non_differentiable(bits, live, moved, statistics)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, theta, weight, bits, moved, statistics)
        return y, bits, live, divergence, moved, statistics

    @staticmethod
    def backward(ctx, grad, _bits, _live, grad_information, _moved, _statistics):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                "masked_linear is differentiable once: call backward without create_graph, or use sparse_linear"
            )
        x, theta, weight, bits, moved, statistics = ctx.saved_tensors
        need_x, need_theta, _, _, need_weight, need_bias, *_ = ctx.needs_input_grad
        ops, how = torch.ops.dmt_kernels, (ELEMENT, ctx.route)
        grad_values = grad_x = grad_theta = grad_weight = grad_bias = None
        if grad is not None:
            if need_x or need_theta:
                grad_values = ops.sparse_linear_grad_input(grad, bits, weight, *how)
            if need_weight:
                grad_weight = ops.sparse_linear_grad_weight(grad, x, bits, *how)
            if need_bias:
                grad_bias = rows(grad).sum(0)
        if (need_x or need_theta) and (grad_values is not None or grad_information is not None):
            grad_x, grad_theta = ops.threshold_ema_backward(grad_values, grad_information, x, theta, moved, statistics)
        return grad_x, grad_theta, None, None, grad_weight, grad_bias, None, None, None, None
