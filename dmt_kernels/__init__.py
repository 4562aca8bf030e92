"""Operators for masks that change with the data: as fast as the hardware allows, differentiable, torch only."""

from .backends import backends, load, tiles
from .masked import Masked, advance, ema_state
from .ops.mask_bits import pack_mask, unpack_mask
from .ops.masked_linear import masked_linear
from .ops.modulate import modulate
from .ops.sparse_bmm import sparse_bmm
from .ops.sparse_linear import sparse_linear
from .ops.threshold_ema import threshold_ema
from .ops.tile_conv2d import Measured, PackedConv2d, measured_conv2d, pack_conv2d, packed_conv2d

load()
del load

__all__ = [
    "Masked",
    "Measured",
    "PackedConv2d",
    "advance",
    "backends",
    "ema_state",
    "masked_linear",
    "measured_conv2d",
    "modulate",
    "pack_conv2d",
    "pack_mask",
    "packed_conv2d",
    "sparse_bmm",
    "sparse_linear",
    "threshold_ema",
    "tiles",
    "unpack_mask",
]
