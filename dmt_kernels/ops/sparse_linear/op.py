"""The sparse-gradient matrix product: public function."""

from __future__ import annotations

from torch import Tensor

from . import reference


def sparse_linear(x: Tensor, bits: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = where(mask, x, 0) @ weight.T + bias; see `reference` for its meaning."""
    return reference.sparse_linear(x, bits, weight, bias)
