"""Convolutions of float32 on matrix tiles, with packed weights."""

from .op import Measured, measured_conv2d, packed_conv2d
from .packing import PackedConv2d, pack_conv2d

__all__ = ["Measured", "PackedConv2d", "measured_conv2d", "pack_conv2d", "packed_conv2d"]
