"""The meaning of packed masks, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

WORD = 64
"""Columns in one int64 word."""


def words(width: int) -> int:
    """Words that hold `width` columns."""
    return (width + WORD - 1) // WORD


def pack_mask(mask: Tensor) -> Tensor:
    """bool [..., D] -> int64 [..., ceil(D / 64)]."""
    count = words(mask.shape[-1])
    padded = torch.nn.functional.pad(mask, (0, count * WORD - mask.shape[-1]))
    lanes = padded.reshape(*mask.shape[:-1], count, WORD).to(torch.int64)
    # Each bit is set once, so the sum carries nothing; bit 63 is the sign.
    return (lanes << torch.arange(WORD, device=mask.device)).sum(-1)


def unpack_mask(bits: Tensor, width: int) -> Tensor:
    """int64 [..., ceil(width / 64)] -> bool [..., width]."""
    lanes = (bits.unsqueeze(-1) >> torch.arange(WORD, device=bits.device)) & 1
    return lanes.reshape(*bits.shape[:-1], bits.shape[-1] * WORD)[..., :width].to(torch.bool)
