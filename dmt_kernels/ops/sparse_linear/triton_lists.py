"""Lists of what is live, made on the device from packed bits, and the copies that live columns need.

Nothing here is read back: lists have room for everything, and kernels read from the device how much of it is used.
`bits` are words as halves of 32 bits, lower half first, [R, 2 * words].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

SIDE = tl.constexpr(64)  # of a tile
HALVES = tl.constexpr(32)  # of a row, looked at together
BLOCK = 1024  # items that `order_kernel` sorts at a time


@triton.jit
def _existing(half, columns):
    """The bits of these halves that belong to columns."""
    left = columns - half * 32
    partial = (tl.full(half.shape, 1, tl.int32) << tl.minimum(tl.maximum(left, 0), 31)) - 1
    return tl.where(left >= 32, -1, partial)


@triton.jit
def flags_kernel(bits, flags, row_count, columns, words, BY_ROW: tl.constexpr):
    """flags [R] or [R / 64, words]: whether a row, or a tile, has a live element. A program takes 64 rows."""
    block = tl.program_id(0)
    m = block * SIDE + tl.arange(0, SIDE)
    found = tl.zeros((SIDE,), tl.int32)
    for first in range(0, 2 * words, HALVES):
        half = first + tl.arange(0, HALVES)
        there = (m < row_count)[:, None] & (half < 2 * words)[None, :]
        word = tl.load(bits + m.to(tl.int64)[:, None] * (2 * words) + half[None, :], mask=there, other=0)
        hit = ((word & _existing(half, columns)[None, :]) != 0).to(tl.int32)
        if BY_ROW:
            found = tl.maximum(found, tl.max(hit, axis=1))
        else:
            of_word = tl.max(tl.reshape(tl.max(hit, axis=0), (HALVES // 2, 2)), axis=1)
            w = first // 2 + tl.arange(0, HALVES // 2)
            tl.store(flags + block.to(tl.int64) * words + w, of_word, mask=w < words)
    if BY_ROW:
        tl.store(flags + m, found, mask=m < row_count)


@triton.jit
def union_kernel(bits, union, row_count, columns, words):
    """union [2 * words], zero before: the bits that are set in any row. A program takes 64 rows and 32 halves."""
    half = tl.program_id(1) * HALVES + tl.arange(0, HALVES)
    found = tl.zeros((HALVES,), tl.int32)
    first = tl.program_id(0) * SIDE
    for m in range(first, tl.minimum(row_count, first + SIDE)):
        found |= tl.load(bits + tl.cast(m, tl.int64) * (2 * words) + half, mask=half < 2 * words, other=0)
    tl.atomic_or(union + half, found & _existing(half, columns), mask=half < 2 * words)


@triton.jit
def order_kernel(
    flags, order, counts, rank, items, stride_list, stride_item,
    FROM_BITS: tl.constexpr, RANK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program sorts one list: order [lists, items], live items first and ascending, dead ones from the far end.
    counts [lists]: how many are live. rank [items]: each item's place, or -1 where it is dead."""
    number = tl.program_id(0).to(tl.int64)
    order += number * items
    before = tl.full((), 0, tl.int32)
    for first in range(0, items, BLOCK):
        i = first + tl.arange(0, BLOCK)
        there = i < items
        if FROM_BITS:
            flag = (tl.load(flags + i // 32, mask=there, other=0) >> (i % 32)) & 1
        else:
            place = flags + number * stride_list + i.to(tl.int64) * stride_item
            flag = (tl.load(place, mask=there, other=0) != 0).to(tl.int32)
        through = before + tl.cumsum(flag, 0)  # live items up to this one
        live_place = through - 1
        dead_place = items - 1 - (i - through)
        tl.store(order + tl.where(flag != 0, live_place, dead_place), i, mask=there)
        if RANK:
            tl.store(rank + i, tl.where(flag != 0, live_place, -1), mask=there)
        before += tl.sum(flag, 0)
    tl.store(counts + number, before)


@triton.jit
def compact_kernel(
    source, bits, order, counts, target, row_count, words, padded, stride_row, stride_column,
    MASKED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """target [R, padded]: the live columns of source side by side, zeros up to the next 64, nothing beyond."""
    first = tl.program_id(1) * SIDE
    count = tl.load(counts)
    if first < count:
        m = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        c = first + tl.arange(0, SIDE)
        there = (m < row_count)[:, None] & (c < count)[None, :]
        column = tl.load(order + c, mask=c < count, other=0)
        value = tl.load(
            source + m[:, None] * stride_row + column.to(tl.int64)[None, :] * stride_column, mask=there, other=0.0
        )
        if MASKED:
            half = tl.load(bits + m[:, None] * (2 * words) + (column // 32)[None, :], mask=there, other=0)
            value = tl.where(((half >> (column % 32)[None, :]) & 1) != 0, value, 0.0)
        tl.store(target + m[:, None] * padded + c[None, :], value, mask=(m < row_count)[:, None])


@triton.jit
def expand_kernel(
    source, bits, rank, target, row_count, columns, words, stride_row, stride_column,
    RANKED: tl.constexpr, MASKED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """target [R, K] = where(mask, source, 0), its columns being where `rank` says; dead ones are 0."""
    m = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    k = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    inside = (m < row_count)[:, None] & (k < columns)[None, :]
    keep = inside
    column = k
    if RANKED:
        column = tl.load(rank + k, mask=k < columns, other=-1)
        keep &= (column >= 0)[None, :]
    value = tl.load(
        source + m[:, None] * stride_row + column.to(tl.int64)[None, :] * stride_column, mask=keep, other=0.0
    )
    if MASKED:
        half = tl.load(bits + m[:, None] * (2 * words) + (k // 32)[None, :], mask=inside, other=0)
        value = tl.where(((half >> (k % 32)[None, :]) & 1) != 0, value, 0.0)
    tl.store(target + m[:, None] * columns + k[None, :], value, mask=inside)


KERNELS = (flags_kernel, union_kernel, order_kernel, compact_kernel, expand_kernel)
ROWS = 32  # of a program that copies


class Live(NamedTuple):
    """Lists of items, live ones first, and how many are live; rank is for columns only."""

    order: Tensor
    counts: Tensor
    rank: Tensor | None = None


def _ordered(flags: Tensor, lists: int, items: int, strides: tuple[int, int]) -> Live:
    order, counts = flags.new_empty(max(lists * items, 1)), flags.new_empty(lists)
    order_kernel[(lists,)](flags, order, counts, order, items, *strides, FROM_BITS=False, RANK=False, BLOCK=BLOCK)
    return Live(order, counts)


def live_rows(bits: Tensor, columns: int) -> Live:
    """One list of all rows; bits int32 [R, 2 * words], R > 0."""
    rows, words = bits.shape[0], bits.shape[1] // 2
    flags = bits.new_empty(rows)
    flags_kernel[(triton.cdiv(rows, SIDE.value),)](bits, flags, rows, columns, words, BY_ROW=True)
    return _ordered(flags, 1, rows, (0, 1))


def live_tiles(bits: Tensor, columns: int, by: str) -> Live:
    """Lists of tiles: a list "row" or "column" of tiles, or "all" of them as one."""
    rows, words = bits.shape[0], bits.shape[1] // 2
    down = triton.cdiv(rows, SIDE.value)
    flags = bits.new_empty(down * words)
    flags_kernel[(down,)](bits, flags, rows, columns, words, BY_ROW=False)
    if by == "all":
        return _ordered(flags, 1, down * words, (0, 1))
    return _ordered(flags, down, words, (words, 1)) if by == "row" else _ordered(flags, words, down, (1, words))


def live_columns(bits: Tensor, columns: int) -> Live:
    """One list of the columns that are live in any row."""
    rows, words = bits.shape[0], bits.shape[1] // 2
    union = torch.zeros(2 * words, dtype=torch.int32, device=bits.device)
    grid = (triton.cdiv(rows, SIDE.value), triton.cdiv(2 * words, HALVES.value))
    union_kernel[grid](bits, union, rows, columns, words)
    order, rank, counts = union.new_empty(columns), union.new_empty(columns), union.new_empty(1)
    order_kernel[(1,)](union, order, counts, rank, columns, 0, 1, FROM_BITS=True, RANK=True, BLOCK=BLOCK)
    return Live(order, counts, rank)


def compact(source: Tensor, bits: Tensor | None, live: Live) -> Tensor:
    """[R, K] -> [R, K rounded up to 64]: live columns first, masked where bits are given."""
    rows, columns = source.shape
    padded = triton.cdiv(columns, SIDE.value) * SIDE.value
    target = source.new_empty((rows, padded))
    grid = (triton.cdiv(rows, ROWS), padded // SIDE.value)
    compact_kernel[grid](
        source, live.order if bits is None else bits, live.order, live.counts, target,
        rows, 0 if bits is None else bits.shape[1] // 2, padded, *source.stride(), MASKED=bits is not None, ROWS=ROWS,
    )  # fmt: skip
    return target


def expand(source: Tensor, bits: Tensor | None, live: Live | None, columns: int) -> Tensor:
    """The way back: [R, >= live] -> [R, columns]; without a list, source masked by bits."""
    rows = source.shape[0]
    target = source.new_empty((rows, columns))
    if target.numel() == 0:
        return target
    rank = target if live is None else live.rank
    grid = (triton.cdiv(rows, ROWS), triton.cdiv(columns, SIDE.value))
    expand_kernel[grid](
        source, rank if bits is None else bits, rank, target, rows, columns, 0 if bits is None else bits.shape[1] // 2,
        *source.stride(), RANKED=live is not None, MASKED=bits is not None, ROWS=ROWS,
    )  # fmt: skip
    return target
