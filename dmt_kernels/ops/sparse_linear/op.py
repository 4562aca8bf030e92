"""`sparse_linear`: public function, schemas, fake kernels, autograd. The meaning is in reference.py."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...registry import define
from ...structure import ELEMENT, structure_of
from ..mask_bits import words
from . import reference

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ROUTES = ("auto", "dense", "sparse")


def sparse_linear(
    x: Tensor,
    bits: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    structure: str = "element",
    impl: str = "auto",
) -> Tensor:
    """y = where(mask, x, 0) @ weight.T + bias, skipping what the mask zeroes, in the gradients too.

    x: [..., K], float32, bfloat16, float16 or (CPU) float64, any strides, may be empty.
    bits: int64 [..., ceil(K / 64)], the mask of x as `pack_mask` or `threshold_ema` makes it, same leading sizes as x.
    weight: [N, K], bias: [N] or None, in the dtype of x. Sums are taken in float32 (float64 for float64).
    structure: where to look for dead elements: "element" (anywhere), whole "column"s, whole "row"s, or whole "tile"s,
        squares of 64 rows (flattened) and 64 columns. With a structure what is live is gathered into smaller dense
        products. The result is right for any mask; one that lacks the structure only saves less.
    impl: "sparse" skips dead elements; "dense" masks x and multiplies in full; "auto" takes the faster. On the CPU
        auto counts the live bits; on a GPU it goes by shape, type and structure alone, and never waits for the device.
    Returns y [..., N].

    Gradients: dX is computed where the mask is 1 and is an exact 0 elsewhere; dW only from live values; nothing for an
    input that needs none. Differentiable any number of times. Under autocast the operands are cast to its dtype.

    A NaN or an infinity of x under a 0 of the mask reaches neither y nor dW. One in weight or in the incoming
    gradient may or may not reach the results where it would be multiplied with a masked 0.

    Raises TypeError for a dtype and ValueError for a shape, a device or a name that does not fit.
    """
    x, weight, bias = operands(x, weight, bias)
    how = structure_of(structure), route_of(impl)
    if torch.compiler.is_compiling():
        check(x, bits, weight, bias)
        return _Product.apply(x, bits, weight, bias, *how)
    try:
        return _Product.apply(x, bits, weight, bias, *how)
    except (RuntimeError, TypeError):
        # The kernels check for themselves; only a failure pays for a second look, which words it as Python does.
        check(x, bits, weight, bias)
        raise


def operands(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """x, weight and bias in the dtype of autocast where it is on; float64 stays."""
    device = x.device.type
    if not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
        return x, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def route_of(impl: str) -> int:
    """The number by which the compiled operators know `impl`."""
    if impl not in ROUTES:
        raise ValueError(f"impl must be one of {', '.join(ROUTES)}, got {impl!r}")
    return ROUTES.index(impl)


def check(x: Tensor, bits: Tensor | None, weight: Tensor, bias: Tensor | None) -> None:
    """One clear error for tensors that do not fit one another; bits are None where they are yet to be made."""
    if x.dtype not in DTYPES:
        raise TypeError(f"expected x in float32, bfloat16, float16 or float64, got {x.dtype}")
    values = [t for t in (x, weight, bias) if t is not None]
    if any(t.dtype != x.dtype for t in values):
        raise TypeError(f"x, weight and bias must share a dtype, got {', '.join(str(t.dtype) for t in values)}")
    given = values if bits is None else [*values, bits]
    if any(t.device != x.device for t in given):
        raise ValueError(f"x, weight, bias and bits must share a device, got {', '.join(str(t.device) for t in given)}")
    if x.dim() == 0:
        raise ValueError("expected x [..., K], got a tensor without dimensions")
    width = x.shape[-1]
    if weight.dim() != 2 or weight.shape[1] != width:
        raise ValueError(f"weight must be [N, {width}] to fit x, got {list(weight.shape)}")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != weight.shape[0]):
        raise ValueError(f"bias must be [{weight.shape[0]}] to fit weight, got {list(bias.shape)}")
    if bits is not None:
        check_bits(bits, x, width)


def check_bits(bits: Tensor, rows: Tensor, width: int) -> None:
    """bits [..., words(width)] with the leading sizes of `rows`."""
    if bits.dtype != torch.int64:
        raise TypeError(f"bits must be int64 words from pack_mask, got {bits.dtype}")
    expected = [*rows.shape[:-1], words(width)]
    if list(bits.shape) != expected:
        raise ValueError(f"bits must be {expected}, a word per 64 columns, got {list(bits.shape)}")


# ---- operators, one family for masks by element and one for structures, with one meaning. Structure and route are
# places in STRUCTURES and ROUTES, of which the reference has no need. ----


def _forward(x, bits, weight, bias, structure, route):
    check(x, bits, weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return reference.sparse_linear(x, bits, weight, bias)


def _grad_input(grad, bits, weight, structure, route):
    with torch.autocast(grad.device.type, enabled=False):
        return reference.grad_input(grad, bits, weight)


def _grad_weight(grad, x, bits, structure, route):
    with torch.autocast(x.device.type, enabled=False):
        return reference.grad_weight(grad, x, bits)


def _fake_forward(x, bits, weight, bias, structure, route):
    check(x, bits, weight, bias)
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _fake_grad_input(grad, bits, weight, structure, route):
    return grad.new_empty((*grad.shape[:-1], weight.shape[1]))


def _fake_grad_weight(grad, x, bits, structure, route):
    return grad.new_empty((grad.shape[-1], x.shape[-1]))


def _dense_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [M, K] @ weight [N, K].T + bias by oneDNN, which the compiled CPU kernels cannot reach by themselves."""
    if torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


for _family in ("sparse_linear", "structured_linear"):
    define(
        f"{_family}(Tensor x, Tensor bits, Tensor weight, Tensor? bias, int structure, int route) -> Tensor",
        _forward,
        _fake_forward,
    )
    define(
        f"{_family}_grad_input(Tensor grad, Tensor bits, Tensor weight, int structure, int route) -> Tensor",
        _grad_input,
        _fake_grad_input,
    )
    define(
        f"{_family}_grad_weight(Tensor grad, Tensor x, Tensor bits, int structure, int route) -> Tensor",
        _grad_weight,
        _fake_grad_weight,
    )
define(
    "dense_linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    _dense_linear,
    lambda x, weight, bias: x.new_empty((x.shape[0], weight.shape[0])),
)


class Operators(NamedTuple):
    """The three products of one family."""

    forward: torch._ops.OpOverload
    grad_input: torch._ops.OpOverload
    grad_weight: torch._ops.OpOverload


_ops = torch.ops.dmt_kernels
_ELEMENTS = Operators(
    _ops.sparse_linear.default, _ops.sparse_linear_grad_input.default, _ops.sparse_linear_grad_weight.default
)
_STRUCTURED = Operators(
    _ops.structured_linear.default,
    _ops.structured_linear_grad_input.default,
    _ops.structured_linear_grad_weight.default,
)


def operators(structure: int) -> Operators:
    """The family that serves masks of this structure."""
    return _ELEMENTS if structure == ELEMENT else _STRUCTURED


# ---- gradients: the three products are each other's derivatives ----
# As autograd functions and not as `register_autograd`, which costs 50 us a call: as much as a small product.


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bits, weight, bias, structure, route):
        need_x, _, need_weight, *_ = ctx.needs_input_grad
        ctx.how = structure, route
        ctx.save_for_backward(x if need_weight else None, bits, weight if need_x else None)
        return operators(structure).forward(x, bits, weight, bias, structure, route)

    @staticmethod
    def backward(ctx, grad):
        x, bits, weight = ctx.saved_tensors
        need_x, _, need_weight, need_bias, *_ = ctx.needs_input_grad
        grad_x = grad_input(grad, bits, weight, *ctx.how) if need_x else None
        grad_w = grad_weight(grad, x, bits, *ctx.how) if need_weight else None
        return grad_x, None, grad_w, reference.rows(grad).sum(0) if need_bias else None, None, None


class _GradInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grad, bits, weight, structure, route):
        ctx.how = structure, route
        ctx.save_for_backward(grad, bits, weight)
        return operators(structure).grad_input(grad, bits, weight, structure, route)

    @staticmethod
    def backward(ctx, outer):
        grad, bits, weight = ctx.saved_tensors
        grad_grad = _Product.apply(outer, bits, weight, None, *ctx.how) if ctx.needs_input_grad[0] else None
        grad_w = grad_weight(grad, outer, bits, *ctx.how) if ctx.needs_input_grad[2] else None
        return grad_grad, None, grad_w, None, None


class _GradWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grad, x, bits, structure, route):
        ctx.how = structure, route
        ctx.save_for_backward(grad, x, bits)
        return operators(structure).grad_weight(grad, x, bits, structure, route)

    @staticmethod
    def backward(ctx, outer):
        grad, x, bits = ctx.saved_tensors
        grad_grad = _Product.apply(x, bits, outer, None, *ctx.how) if ctx.needs_input_grad[0] else None
        grad_x = grad_input(grad, bits, outer, *ctx.how) if ctx.needs_input_grad[1] else None
        return grad_grad, grad_x, None, None, None


def grad_input(grad: Tensor, bits: Tensor, weight: Tensor, structure: int, route: int) -> Tensor:
    """dX, recorded for a second derivative only where one is asked for."""
    if torch.is_grad_enabled():
        return _GradInput.apply(grad, bits, weight, structure, route)
    return operators(structure).grad_input(grad, bits, weight, structure, route)


def grad_weight(grad: Tensor, x: Tensor, bits: Tensor, structure: int, route: int) -> Tensor:
    """dW, likewise."""
    if torch.is_grad_enabled():
        return _GradWeight.apply(grad, x, bits, structure, route)
    return operators(structure).grad_weight(grad, x, bits, structure, route)
