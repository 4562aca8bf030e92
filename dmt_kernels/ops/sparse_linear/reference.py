"""The meaning of `sparse_linear`, in plain PyTorch: a matrix product whose left operand is masked by packed bits.

With m the mask that `bits` holds and X = where(m, x, 0):

    y  = X W^T + b          x [..., K], W [N, K], b [N] -> y [..., N]
    dX = where(m, dY W, 0)  an exact 0 where the mask is 0, whatever dY and W are
    dW = dY^T X             only live values of x take part
    db = sum of dY over its rows

`where` and not a product: a NaN or an infinity of x in a masked place reaches neither y nor dW. The three products are
linear in each operand and their gradients are those same three products, so every order of derivative is defined.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..mask_bits.reference import unpack_mask


def masked(x: Tensor, bits: Tensor) -> Tensor:
    """where(mask, x, 0): [..., K] and int64 [..., ceil(K / 64)] -> [..., K]."""
    return torch.where(unpack_mask(bits, x.shape[-1]), x, 0)


def work_dtype(dtype: torch.dtype) -> torch.dtype:
    """Sums are taken in float32, or in float64 for float64 operands."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sparse_linear(x: Tensor, bits: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y [..., N]; differentiable by PyTorch itself."""
    wide = work_dtype(x.dtype)
    y = masked(x, bits).to(wide) @ weight.to(wide).t()
    if bias is not None:
        y = y + bias.to(wide)
    return y.to(x.dtype)


def grad_input(grad: Tensor, bits: Tensor, weight: Tensor) -> Tensor:
    """dX [..., K] from dY [..., N]."""
    wide = work_dtype(grad.dtype)
    return masked(grad.to(wide) @ weight.to(wide), bits).to(grad.dtype)


def grad_weight(grad: Tensor, x: Tensor, bits: Tensor) -> Tensor:
    """dW [N, K] from dY [..., N] and x [..., K]."""
    wide = work_dtype(grad.dtype)
    return (rows(grad).to(wide).t() @ rows(masked(x, bits)).to(wide)).to(grad.dtype)


def rows(t: Tensor) -> Tensor:
    """[..., D] -> [R, D]; the row count is spelled out, so that D may be 0."""
    return t if t.dim() == 2 else t.reshape(math.prod(t.shape[:-1]), t.shape[-1])
