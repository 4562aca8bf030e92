"""Scale, shift and leaky ReLU of pixels, and sums and means of them."""

from .op import modulate

__all__ = ["modulate"]
