"""Triton kernels under the dispatcher's CUDA key, for an installation without the compiled CUDA module."""

from __future__ import annotations

from ..registry import LIBRARY


def register() -> None:
    """Imports triton; called once, by `backends.load`, where it is wanted."""
    from .sparse_linear import triton_kernels as product
    from .threshold_ema import triton_kernels as threshold

    for name, implementation in (threshold.IMPLEMENTATIONS | product.IMPLEMENTATIONS).items():
        LIBRARY.impl(name, implementation, "CUDA")
