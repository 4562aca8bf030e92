"""Operators for masks that change with the data: as fast as the hardware allows, differentiable, torch only."""

from .backends import backends, load
from .masked import Masked, advance, ema_state
from .ops.mask_bits import pack_mask, unpack_mask
from .ops.masked_linear import masked_linear
from .ops.sparse_bmm import sparse_bmm
from .ops.sparse_linear import sparse_linear
from .ops.threshold_ema import threshold_ema

load()
del load

__all__ = [
    "Masked",
    "advance",
    "backends",
    "ema_state",
    "masked_linear",
    "pack_mask",
    "sparse_bmm",
    "sparse_linear",
    "threshold_ema",
    "unpack_mask",
]
