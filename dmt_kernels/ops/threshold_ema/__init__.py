"""The dynamic threshold of eq. 5-7, with eq. 10 on request, as one operator."""

from .op import threshold_ema

__all__ = ["threshold_ema"]
