"""`sparse_linear`: the public function. The meaning is in reference.py, the gradients are in gradients.py."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structure import structure_of
from .gradients import nothing_recorded, product
from .operators import check, operators

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
        On a CPU with matrix tiles (AMX) "dense" uses them in float32 too, as exactly, which auto does not: they are
        faster than a library's product unless something else uses the tiles of the same core.
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
        return product(x, bits, weight, bias, *how)
    try:
        if nothing_recorded(x, weight, bias):
            return operators(how[0]).forward(x, bits, weight, bias, *how)
        return product(x, bits, weight, bias, *how)
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
