"""Dynamic threshold and matrix product as one operator, which never stores the masked tensor."""

from .op import masked_linear

__all__ = ["masked_linear"]
