"""Training data of every layout as one record, `Clip`."""

from .clip import Clip

__all__ = ["Clip"]
