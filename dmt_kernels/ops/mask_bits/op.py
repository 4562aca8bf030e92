"""Masks as bits: 64 columns in an int64 word, bit j of word w is column 64 * w + j."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import define
from ..batching import leading
from . import reference
from .reference import words


def pack_mask(mask: Tensor) -> Tensor:
    """Pack a mask into words.

    mask: bool [..., D], any strides, at least one dimension. Returns int64 [..., ceil(D / 64)]; bits past column D
    are 0. Raises TypeError for another dtype and ValueError for a tensor without dimensions.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"pack_mask expects a bool mask, got {mask.dtype}; compare first, for example mask != 0")
    if mask.dim() == 0:
        raise ValueError("pack_mask expects at least one dimension, got a mask without dimensions")
    return torch.ops.dmt_kernels.pack_mask(mask)


def unpack_mask(bits: Tensor, width: int) -> Tensor:
    """The mask that `pack_mask` packed.

    bits: int64 [..., ceil(width / 64)]. Returns bool [..., width]. Raises TypeError for another dtype and ValueError
    where the number of words does not fit `width`.
    """
    if bits.dtype != torch.int64:
        raise TypeError(f"unpack_mask expects int64 words, got {bits.dtype}")
    if bits.dim() == 0 or width < 0 or bits.shape[-1] != words(width):
        raise ValueError(f"unpack_mask expects {words(width)} words a row for width {width}, got {tuple(bits.shape)}")
    return torch.ops.dmt_kernels.unpack_mask(bits, width)


def _fake_pack(mask: Tensor) -> Tensor:
    return mask.new_empty((*mask.shape[:-1], words(mask.shape[-1])), dtype=torch.int64)


def _fake_unpack(bits: Tensor, width: int) -> Tensor:
    return bits.new_empty((*bits.shape[:-1], width), dtype=torch.bool)


define("pack_mask(Tensor mask) -> Tensor", reference.pack_mask, _fake_pack)
define("unpack_mask(Tensor bits, SymInt width) -> Tensor", reference.unpack_mask, _fake_unpack)
leading("pack_mask", 1)
leading("unpack_mask", 1)
