from .op import threshold_ema

__all__ = ["threshold_ema"]
