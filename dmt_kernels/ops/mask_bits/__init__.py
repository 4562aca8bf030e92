"""Packed masks: 64 columns in an int64 word."""

from .op import pack_mask, unpack_mask
from .reference import WORD, words

__all__ = ["WORD", "pack_mask", "unpack_mask", "words"]
