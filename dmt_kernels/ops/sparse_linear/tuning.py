"""Choices for the GPU kernels: looked up by architecture, shape and type, never measured at run time, never read from
the data.

Tiles follow from arithmetic (registers, shared memory, programs per multiprocessor; see the resource report in
benchmarks/results/gpu_resources.md). Ways on sm_90 follow from measurements (benchmarks/results/h200/goals.md), those
on sm_80 and sm_89 are estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ...backends import on_cuda
from ...structure import COLUMN, ELEMENT, ROW, TILE, TILE_SIDE

AUTO, DENSE_ROUTE, SPARSE = range(3)
DENSE = -1
"""A way: mask, and multiply with the vendor's product. The other ways are the structures."""
NARROW = 512
"""Up to this width the fused product by element is worth its saved launches and bytes. Elementwise masks save no
multiplications on tensor cores, so wider layers go to the vendor's product."""
WORTHWHILE = {80: 1 << 31, 89: 1 << 28, 90: None}
"""Multiplications from which lists of what is live pay, by architecture; None: `auto` masks and takes the vendor's
product. On an H200 tiles at M = 16384, K = N = 1024 take 120 and 71 us for y at 50 and 80 % zeros, in a graph, where
these take 72. The other two are estimates: M = 4096, K = N = 1024 and M = 1024, K = N = 512."""
PART_ROWS = 256
"""Of the sum of dW, at least, in one part."""


@dataclass(frozen=True)
class Tile:
    """One program's share: m rows, n outputs, k columns; the sum runs over k for y, n for dX, m for dW."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


# Of 16-bit types, then of float32 (no tensor cores but for TF32: smaller tiles, whose sums fit the registers).
# "few": up to 256 rows; "many": a result of at least 2^20; "some": between them; "live": sums along a list, where the
# compiler keeps half of the stages for reading it.
_HALF = {
    80: {
        "y": {"few": Tile(32, 64, 64, 4, 4), "some": Tile(64, 64, 64, 4, 4), "many": Tile(128, 128, 64, 8, 3)},
        "dX": {"few": Tile(32, 64, 64, 4, 4), "some": Tile(64, 64, 64, 4, 4), "many": Tile(128, 64, 64, 4, 3)},
        "dW": {"few": Tile(64, 64, 64, 4, 3), "some": Tile(64, 64, 64, 4, 3), "many": Tile(64, 128, 64, 4, 3)},
        "live": {"y": Tile(64, 128, 64, 4, 5), "dX": Tile(64, 64, 64, 4, 4), "dW": Tile(64, 128, 64, 4, 5)},
    },
    89: {
        "y": {"few": Tile(32, 64, 64, 4, 3), "some": Tile(64, 64, 64, 4, 3), "many": Tile(128, 64, 64, 4, 3)},
        "dX": {"few": Tile(32, 64, 64, 4, 3), "some": Tile(64, 64, 64, 4, 3), "many": Tile(128, 64, 64, 4, 3)},
        "dW": {"few": Tile(64, 64, 64, 4, 3), "some": Tile(64, 64, 64, 4, 3), "many": Tile(64, 64, 64, 4, 3)},
        "live": {"y": Tile(64, 64, 64, 4, 5), "dX": Tile(64, 64, 64, 4, 3), "dW": Tile(64, 64, 64, 4, 5)},
    },
    90: {
        "y": {"few": Tile(64, 64, 64, 4, 4), "some": Tile(64, 128, 64, 4, 4), "many": Tile(128, 128, 64, 8, 4)},
        "dX": {"few": Tile(64, 64, 64, 4, 4), "some": Tile(64, 64, 64, 4, 4), "many": Tile(128, 64, 64, 4, 4)},
        "dW": {"few": Tile(64, 64, 64, 4, 4), "some": Tile(64, 64, 64, 4, 4), "many": Tile(64, 128, 64, 4, 4)},
        "live": {"y": Tile(64, 128, 64, 4, 6), "dX": Tile(64, 64, 64, 4, 4), "dW": Tile(64, 128, 64, 4, 6)},
    },
}
_SINGLE = {
    "y": {"few": Tile(32, 64, 32, 4, 3), "some": Tile(64, 64, 32, 4, 3), "many": Tile(64, 64, 32, 4, 3)},
    "dX": {"few": Tile(32, 32, 32, 4, 3), "some": Tile(64, 32, 64, 4, 3), "many": Tile(64, 32, 64, 4, 3)},
    "dW": {"few": Tile(32, 64, 32, 4, 3), "some": Tile(32, 64, 32, 4, 3), "many": Tile(32, 64, 32, 4, 3)},
    "live": {"y": Tile(64, 64, 32, 4, 3), "dX": Tile(64, 32, 64, 4, 3), "dW": Tile(32, 64, 64, 4, 3)},
}


def tile_for(product: str, how: int, x: Tensor, height: int, width: int) -> Tile:
    """A tile for a result [height, width] of `product`: y, dX or dW."""
    return tile_on(_architecture(x.device), product, how, x.dtype, height, width)


def tile_on(architecture: int, product: str, how: int, dtype: torch.dtype, height: int, width: int) -> Tile:
    """The same, for a named architecture."""
    table = _SINGLE if dtype == torch.float32 else _HALF[architecture]
    if how == TILE or (how == ROW and product == "dW"):
        return table["live"][product]
    return table[product]["few" if height <= 256 else "many" if height * width >= 1 << 20 else "some"]


def way(route: int, structure: int, rows: int, columns: int, outputs: int, x: Tensor) -> int:
    """DENSE, or the structure whose kernels run; where lists do not pay, any mask goes as one by element."""
    if route == DENSE_ROUTE:
        return DENSE
    least = WORTHWHILE[_architecture(x.device)]
    lists = structure != ELEMENT and 0 not in (rows, columns, outputs)
    if lists and (route == SPARSE or (least is not None and rows * columns * outputs >= least)):
        return structure
    return DENSE if route == AUTO and (lists or max(columns, outputs) > NARROW) else ELEMENT


def has_own_product(route: int, x: Tensor, columns: int, outputs: int) -> bool:
    """Whether y and dX are better left to the compiled product of this architecture, whatever the structure."""
    if route == DENSE_ROUTE or x.dtype not in (torch.bfloat16, torch.float16) or columns % 8 or outputs % 8:
        return False
    return _is_hopper(x.device) and on_cuda() == "compiled"


def programs_for(x: Tensor, tiles: int, how: int) -> int:
    """Tiles of unequal work are dealt out to as many programs as run at once; equal ones get a program each."""
    return min(tiles, 2 * _multiprocessors(x.device)) if how in (COLUMN, ROW, TILE) else tiles


def parts_of(x: Tensor, rows: int, tiles: int) -> int:
    """Parts into which the sum over `rows` is cut, so that a product of few tiles fills the device."""
    return max(1, min(_multiprocessors(x.device) // max(tiles, 1), rows // PART_ROWS))


@cache
def _architecture(device: torch.device) -> int:
    """80, 89 or 90: the nearest that the tables know, from below."""
    if device.type != "cuda":
        return 80
    major, minor = torch.cuda.get_device_capability(device)
    number = 10 * major + minor
    return 90 if number >= 90 else 89 if number == 89 else 80


@cache
def _is_hopper(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


assert TILE_SIDE == 64, "tiles of lists are cut to 64 x 64 here and in the kernels"
