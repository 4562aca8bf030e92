"""The sums of groups in Triton: one pass over x.

A program takes 64 columns and a run of rows, tile by tile. Rows are summed over their strips of 64 columns, and columns
over their runs, by a second kernel in order: results do not depend on scheduling.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...structure import COLUMN, ROW, cell

SIDE = tl.constexpr(64)
RUN = 8  # tiles of one program, one below the other, for columns
KEEP_ROWS, KEEP_COLUMNS, KEEP_TILES = (tl.constexpr(i) for i in range(3))


@triton.jit
def group_sums_kernel(x, parts, row_count, width, stride_x, groups, RUN: tl.constexpr, KEEP: tl.constexpr):
    """parts [3, groups]: sums over finite |x|, their number, and sums over all; a group for each row and strip
    ([R, strips]), each run and column ([runs, K]), or each tile ([R / 64, strips])."""
    strip, run = tl.program_id(0), tl.program_id(1)
    k = strip * SIDE + tl.arange(0, SIDE)
    finite_sum = tl.zeros((SIDE,), tl.float64)
    count = tl.zeros((SIDE,), tl.float64)
    total = tl.zeros((SIDE,), tl.float64)
    m = run * (RUN * SIDE) + tl.arange(0, SIDE)
    for _ in range(RUN):
        there = (m < row_count)[:, None] & (k < width)[None, :]
        size = tl.abs(tl.load(x + m.to(tl.int64)[:, None] * stride_x + k[None, :], mask=there, other=0.0))
        size = size.to(tl.float64)
        finite = there & (size < float("inf"))
        axis: tl.constexpr = 1 if KEEP == KEEP_ROWS else 0
        finite_sum += tl.sum(tl.where(finite, size, 0.0), axis)
        count += tl.sum(finite.to(tl.float64), axis)
        total += tl.sum(size, axis)
        m += SIDE
    if KEEP == KEEP_TILES:
        place = parts + (run * tl.num_programs(0) + strip)
        tl.store(place, tl.sum(finite_sum))
        tl.store(place + groups, tl.sum(count))
        tl.store(place + 2 * groups, tl.sum(total))
    else:
        if KEEP == KEEP_ROWS:
            row = run * SIDE + tl.arange(0, SIDE)
            place, inside = row.to(tl.int64) * tl.num_programs(0) + strip, row < row_count
        else:
            place, inside = tl.cast(run, tl.int64) * width + k, k < width
        tl.store(parts + place, finite_sum, mask=inside)
        tl.store(parts + groups + place, count, mask=inside)
        tl.store(parts + 2 * groups + place, total, mask=inside)


@triton.jit
def add_parts_kernel(parts, out, groups, count, stride_group, stride_part, BLOCK: tl.constexpr):
    """out [3, groups] from parts [3, ...]: `count` of them a group, added in order."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    kind = tl.program_id(1).to(tl.int64)
    place = parts + kind * groups * count + i.to(tl.int64) * stride_group
    total = tl.zeros((BLOCK,), tl.float64)
    for part in range(count):
        total += tl.load(place + tl.cast(part, tl.int64) * stride_part, mask=i < groups, other=0.0)
    tl.store(out + kind * groups + i, total, mask=i < groups)


def group_sums(x: Tensor, structure: int) -> Tensor:
    """See reference.group_sums."""
    flat = x.reshape(x.shape[:-1].numel(), x.shape[-1])
    flat = flat if flat.stride(1) == 1 else flat.contiguous()
    rows, width = flat.shape
    down, across = cell(structure, rows, width).grid(rows, width)
    out = x.new_empty((3, down, across), dtype=torch.float64)
    if out.numel() == 0:
        return out
    strips, tall = triton.cdiv(width, SIDE.value), triton.cdiv(rows, SIDE.value)
    run = RUN if structure == COLUMN else 1
    runs = triton.cdiv(tall, run)
    if structure == COLUMN:
        keep, groups, parts = KEEP_COLUMNS, width, runs
    elif structure == ROW:
        keep, groups, parts = KEEP_ROWS, rows, strips
    else:
        keep, groups, parts = KEEP_TILES, tall * strips, 1
    partial = out if parts == 1 else out.new_empty((3, groups * parts))
    group_sums_kernel[(strips, runs)](flat, partial, rows, width, flat.stride(0), groups * parts, RUN=run, KEEP=keep)
    if parts > 1:
        strides = (1, groups) if structure == COLUMN else (parts, 1)
        add_parts_kernel[(triton.cdiv(groups, 128), 3)](partial, out, groups, parts, *strides, BLOCK=128)
    return out


KERNELS = (group_sums_kernel, add_parts_kernel)
IMPLEMENTATIONS = {"group_sums": group_sums}
