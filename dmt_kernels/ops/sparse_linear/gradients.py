"""The gradients of `sparse_linear`: its three products are each other's derivatives, to any order.

As autograd functions and not as `register_autograd`, which costs 50 us a call: as much as a small product. Function
transforms (torch.func) want another form of them, whose call costs 10 us more; it is taken only under a transform.
"""

from __future__ import annotations

from torch import Tensor, is_grad_enabled
from torch._C import _are_functorch_transforms_active as transformed
from torch.autograd import Function
from torch.compiler import is_compiling

from ..direct import direct, recorded
from . import reference
from .operators import operators


def nothing_recorded(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether no derivative can be asked for: the operator alone will do, which saves as much as its call costs."""
    return not (transformed() or recorded(x, weight, bias))


def product(x: Tensor, bits: Tensor, weight: Tensor, bias: Tensor | None, structure: int, route: int) -> Tensor:
    """y, with its gradients."""
    if transformed():
        return _TransformedProduct.apply(x, bits, weight, bias, structure, route)
    call = _Product.apply if is_compiling() else _eager_product
    return call(x, bits, weight, bias, structure, route)


def grad_input(grad: Tensor, bits: Tensor, weight: Tensor, structure: int, route: int) -> Tensor:
    """dX, recorded for a second derivative only where one is asked for."""
    if not is_grad_enabled():
        return operators(structure).grad_input(grad, bits, weight, structure, route)
    function = _TransformedGradInput if transformed() else _GradInput
    return function.apply(grad, bits, weight, structure, route)


def grad_weight(grad: Tensor, x: Tensor, bits: Tensor, structure: int, route: int) -> Tensor:
    """dW, likewise."""
    if not is_grad_enabled():
        return operators(structure).grad_weight(grad, x, bits, structure, route)
    function = _TransformedGradWeight if transformed() else _GradWeight
    return function.apply(grad, x, bits, structure, route)


# ---- y ----


def _run_product(x, bits, weight, bias, structure, route):
    return operators(structure).forward(x, bits, weight, bias, structure, route)


def _keep_product(ctx, inputs, output):
    x, bits, weight, _, *ctx.how = inputs
    need_x, _, need_weight, *_ = ctx.needs_input_grad
    ctx.save_for_backward(x if need_weight else None, bits, weight if need_x else None)


def _product_backward(ctx, grad):
    x, bits, weight = ctx.saved_tensors
    need_x, _, need_weight, need_bias, *_ = ctx.needs_input_grad
    if is_grad_enabled():
        grad_x = grad_input(grad, bits, weight, *ctx.how) if need_x else None
        grad_w = grad_weight(grad, x, bits, *ctx.how) if need_weight else None
    else:
        grad_x, grad_w = operators(ctx.how[0]).gradients(grad, x, bits, weight, need_x, need_weight, *ctx.how)
    return grad_x, None, grad_w, reference.rows(grad).sum(0) if need_bias else None, None, None


class _Product(Function):
    @staticmethod
    def forward(ctx, *inputs):
        _keep_product(ctx, inputs, None)
        return _run_product(*inputs)

    backward = staticmethod(_product_backward)


_eager_product = direct(_Product)


class _TransformedProduct(Function):
    generate_vmap_rule = True
    forward, setup_context = staticmethod(_run_product), staticmethod(_keep_product)
    backward = staticmethod(_product_backward)


# ---- dX ----


def _run_grad_input(grad, bits, weight, structure, route):
    return operators(structure).grad_input(grad, bits, weight, structure, route)


def _keep_all(ctx, inputs, output):
    *tensors, structure, route = inputs
    ctx.how = structure, route
    ctx.save_for_backward(*tensors)


def _grad_input_backward(ctx, outer):
    grad, bits, weight = ctx.saved_tensors
    grad_grad = product(outer, bits, weight, None, *ctx.how) if ctx.needs_input_grad[0] else None
    grad_w = grad_weight(grad, outer, bits, *ctx.how) if ctx.needs_input_grad[2] else None
    return grad_grad, None, grad_w, None, None


class _GradInput(Function):
    @staticmethod
    def forward(ctx, *inputs):
        _keep_all(ctx, inputs, None)
        return _run_grad_input(*inputs)

    backward = staticmethod(_grad_input_backward)


class _TransformedGradInput(Function):
    generate_vmap_rule = True
    forward, setup_context = staticmethod(_run_grad_input), staticmethod(_keep_all)
    backward = staticmethod(_grad_input_backward)


# ---- dW ----


def _run_grad_weight(grad, x, bits, structure, route):
    return operators(structure).grad_weight(grad, x, bits, structure, route)


def _grad_weight_backward(ctx, outer):
    grad, x, bits = ctx.saved_tensors
    grad_grad = product(x, bits, outer, None, *ctx.how) if ctx.needs_input_grad[0] else None
    grad_x = grad_input(grad, bits, outer, *ctx.how) if ctx.needs_input_grad[1] else None
    return grad_grad, grad_x, None, None, None


class _GradWeight(Function):
    @staticmethod
    def forward(ctx, *inputs):
        _keep_all(ctx, inputs, None)
        return _run_grad_weight(*inputs)

    backward = staticmethod(_grad_weight_backward)


class _TransformedGradWeight(Function):
    generate_vmap_rule = True
    forward, setup_context = staticmethod(_run_grad_weight), staticmethod(_keep_all)
    backward = staticmethod(_grad_weight_backward)
