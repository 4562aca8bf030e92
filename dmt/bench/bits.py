"""`pack_mask` and `unpack_mask` against numpy's packbits and eager PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dmt_kernels import pack_mask, unpack_mask
from dmt_kernels.ops.mask_bits import reference

from .case import Candidate, Case, Work


def cases(rows: int, width: int, zeros: float, device: str = "cpu") -> Iterator[Case]:
    """Packing and unpacking a mask [rows, width]; width a multiple of 64, as numpy packs bytes and not words."""
    if width % 64:
        raise ValueError(f"width must be a multiple of 64, got {width}")
    mask = (torch.rand(rows, width, generator=torch.Generator().manual_seed(0)) >= zeros).to(device)
    bits, live = reference.pack_mask(mask), float(mask.double().mean())
    packing = [Candidate("ours", "ours", lambda: pack_mask(mask)), _eager(lambda: reference.pack_mask(mask))]
    unpacking = [
        Candidate("ours", "ours", lambda: unpack_mask(bits, width)),
        _eager(lambda: reference.unpack_mask(bits, width)),
    ]
    if device == "cpu":
        packing.append(Candidate("numpy", "dense", lambda: _numpy_pack(mask)))
        unpacking.append(Candidate("numpy", "dense", lambda: _numpy_unpack(bits)))
    target = torch.empty_like(mask)
    copy = Candidate("copy", "limit", lambda: target.copy_(mask), None)
    amount = Work(0, 0, rows * width + bits.numel() * 8, 2 * rows * width)
    for op, candidates, wanted in (("pack_mask", packing, bits), ("unpack_mask", unpacking, mask)):
        shape = (rows, width)
        yield Case(op, "forward", shape, zeros, live, "bool", amount, (*candidates, copy), (wanted,), 0, 0, device)


def _eager(run) -> Candidate:
    return Candidate("eager", "eager", run)


def _numpy_pack(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.numpy(), axis=-1, bitorder="little").view(np.int64))


def _numpy_unpack(bits: Tensor) -> Tensor:
    return torch.from_numpy(np.unpackbits(bits.numpy().view(np.uint8), axis=-1, bitorder="little").view(np.bool_))
