"""Operators for masks that change with the data: as fast as the hardware allows, differentiable, torch only."""

from .backends import backends, load
from .masked import Masked, advance, ema_state
from .ops.mask_bits import pack_mask, unpack_mask
from .ops.threshold_ema import threshold_ema

load()
del load

__all__ = ["Masked", "advance", "backends", "ema_state", "pack_mask", "threshold_ema", "unpack_mask"]
