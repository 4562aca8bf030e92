"""Room: two region decoders whose weights follow the condition."""

from .attention import Attention, PositionTable, sinusoids
from .decoupled import LOWER, UPPER, DecoupledDecoder
from .dynamic_linear import DynamicLinear
from .region import DecoderLayer, RegionDecoder

__all__ = [
    "LOWER",
    "UPPER",
    "Attention",
    "DecoderLayer",
    "DecoupledDecoder",
    "DynamicLinear",
    "PositionTable",
    "RegionDecoder",
    "sinusoids",
]
