"""Products with a matrix of its own for every few rows, where rows have zeros to skip."""

from .op import sparse_bmm

__all__ = ["sparse_bmm"]
