"""Choices for the GPU kernels: looked up by shape and type, never measured at run time, never read from the device.

The figures follow from tile arithmetic (registers, shared memory, programs per multiprocessor) and have not yet been
confirmed on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

AUTO, DENSE, SPARSE = range(3)
ELEMENT = 0
PROGRAMS = 128
"""Programs that keep a large GPU busy; fewer tiles than this are split along the sum."""


@dataclass(frozen=True)
class Tile:
    """One program's share: m rows, n outputs, k columns."""

    m: int
    n: int
    k: int
    warps: int
    stages: int

    def transposed(self) -> Tile:
        """For dX, whose tile is rows x columns: outputs and columns change places."""
        return replace(self, n=self.k, k=self.n)

    def inner_rows(self) -> Tile:
        """For dW, whose tile is outputs x columns: the sum runs over rows."""
        return replace(self, m=self.k, n=self.m, k=self.n)


def tile_for(x: Tensor, height: int, width: int, depth: int) -> Tile:
    """A tile for a product [height, depth] x [depth, width]."""
    if x.dtype == torch.float32:
        return Tile(32, 64, 16, 4, 2) if height <= 256 else Tile(64, 64, 16, 4, 3)
    if height <= 256:
        return Tile(32, 64, 32, 4, 3)
    return Tile(128, 64, 64, 8, 3) if height * width >= 1 << 20 else Tile(64, 64, 32, 4, 3)


def splits_of(rows: int, tiles: int) -> int:
    """Parts into which the sum over `rows` is cut, so that `tiles` programs become about PROGRAMS."""
    return max(1, min(PROGRAMS // max(tiles, 1), rows // 256))


def route_on_gpu(route: int, structure: int, rows: int, columns: int, outputs: int) -> int:
    """DENSE or SPARSE. Elementwise masks save no multiplications on tensor cores: there the fused kernel is worth its
    saved launches and bytes for narrow layers only, and the vendor's product wins for wide ones."""
    if route != AUTO:
        return route
    if structure != ELEMENT or max(columns, outputs) <= 512:
        return SPARSE
    return DENSE
