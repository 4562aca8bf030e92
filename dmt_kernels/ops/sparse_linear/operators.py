"""The operators behind `sparse_linear`: checks, schemas, fake kernels, vmap. The meaning is in reference.py."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...registry import define
from ...structure import ELEMENT
from ..batching import leading, one_by_one
from ..mask_bits import words
from . import reference

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check(x: Tensor, bits: Tensor | None, weight: Tensor, bias: Tensor | None) -> None:
    """One clear error for tensors that do not fit one another; bits are None where they are yet to be made."""
    if x.dtype not in DTYPES:
        raise TypeError(f"expected x in float32, bfloat16, float16 or float64, got {x.dtype}")
    if weight.dtype != x.dtype or (bias is not None and bias.dtype != x.dtype):
        values = [t for t in (x, weight, bias) if t is not None]
        raise TypeError(f"x, weight and bias must share a dtype, got {', '.join(str(t.dtype) for t in values)}")
    given = [t for t in (weight, bias, bits) if t is not None]
    device = x.device
    if any([t.device != device for t in given]):  # a list: a generator takes twice as long
        raise ValueError(
            f"x, weight, bias and bits must share a device, got {', '.join(str(t.device) for t in (x, *given))}"
        )
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


def _backward(grad, x, bits, weight, structure, route):
    ops = torch.ops.dmt_kernels
    return (
        ops.sparse_linear_grad_input(grad, bits, weight, structure, route),
        ops.sparse_linear_grad_weight(grad, x, bits, structure, route),
    )


def _fake_forward(x, bits, weight, bias, structure, route):
    check(x, bits, weight, bias)
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _fake_grad_input(grad, bits, weight, structure, route):
    return grad.new_empty((*grad.shape[:-1], weight.shape[1]))


def _fake_grad_weight(grad, x, bits, structure, route):
    return grad.new_empty((grad.shape[-1], x.shape[-1]))


def _fake_backward(grad, x, bits, weight, structure, route):
    return grad.new_empty((*grad.shape[:-1], weight.shape[1])), grad.new_empty((grad.shape[-1], x.shape[-1]))


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
    leading(_family, 2)
    leading(f"{_family}_grad_input", 2)
    one_by_one(f"{_family}_grad_weight")

# A call costs as much as a tenth of a small product, hence both gradients in one where masks are by element. A device
# without a kernel for it runs the two operators.
define(
    "sparse_linear_backward(Tensor grad, Tensor x, Tensor bits, Tensor weight, int structure, int route) "
    "-> (Tensor, Tensor)",
    _backward,
    _fake_backward,
)
one_by_one("sparse_linear_backward")


class Operators(NamedTuple):
    """The three products of one family, and dX and dW in one call where it has that."""

    forward: torch._ops.OpOverload
    grad_input: torch._ops.OpOverload
    grad_weight: torch._ops.OpOverload
    backward: torch._ops.OpOverload | None = None

    def gradients(
        self, grad: Tensor, x: Tensor, bits: Tensor, weight: Tensor, need_x: bool, need_weight: bool, *how: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """dX and dW where needed: both in one call on the CPU, where it counts and has a kernel."""
        if need_x and need_weight and self.backward is not None and grad.is_cpu:
            return self.backward(grad, x, bits, weight, *how)
        grad_x = self.grad_input(grad, bits, weight, *how) if need_x else None
        return grad_x, self.grad_weight(grad, x, bits, *how) if need_weight else None


_ops = torch.ops.dmt_kernels
_ELEMENTS = Operators(
    _ops.sparse_linear.default,
    _ops.sparse_linear_grad_input.default,
    _ops.sparse_linear_grad_weight.default,
    _ops.sparse_linear_backward.default,
)
_STRUCTURED = Operators(
    _ops.structured_linear.default,
    _ops.structured_linear_grad_input.default,
    _ops.structured_linear_grad_weight.default,
)


def operators(structure: int) -> Operators:
    """The family that serves masks of this structure."""
    return _ELEMENTS if structure == ELEMENT else _STRUCTURED
