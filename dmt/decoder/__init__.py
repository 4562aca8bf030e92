"""Room: two region decoders whose weights follow the condition."""

from .attention import Attention, PositionTable, sinusoids
from .decoupled import LOWER, UPPER, DecoupledDecoder
from .dynamic_linear import DynamicLinear, Mixed
from .live_product import live_product
from .region import DecoderLayer, RegionDecoder

__all__ = [
    "LOWER",
    "UPPER",
    "Attention",
    "DecoderLayer",
    "DecoupledDecoder",
    "DynamicLinear",
    "Mixed",
    "PositionTable",
    "RegionDecoder",
    "live_product",
    "sinusoids",
]
