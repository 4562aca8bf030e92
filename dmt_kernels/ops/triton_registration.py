"""Triton kernels under the dispatcher's CUDA key, for an installation without the compiled CUDA module."""

from __future__ import annotations

from ..registry import LIBRARY


def register() -> None:
    """Imports triton; called once, by `backends.load`, where it is wanted."""
    from .threshold_ema import triton_kernels

    for name, implementation in triton_kernels.IMPLEMENTATIONS.items():
        LIBRARY.impl(name, implementation, "CUDA")
