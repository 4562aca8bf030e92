"""The matrix product that skips what a mask zeroes, in both directions."""

from .op import sparse_linear

__all__ = ["sparse_linear"]
