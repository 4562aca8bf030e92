"""`sparse_linear` in Triton: the mask is applied on the way into the product and, for dX, on the way out.

All three kernels read packed bits, never store a masked tensor, and sum in an order that depends on shapes and on the
mask alone. Operands are loaded whole, in wide and asynchronous reads, and masked in registers: a mask on the load
itself would break it up into single elements. KIND says what is passed over:

    ELEMENT   nothing
    ROW       `order` lists the rows, the `counts[0]` live ones first; dead ones are written without a product
    TILE      lists of live tiles, 64 rows x 64 columns, and `counts` of each list: for y a list for each row of tiles
              (`order` [R / 64, words]), for dX one of all tiles, live ones first, for dW one for each column of tiles
              ([words, R / 64])
    COUNTED   x is compact: `counts[0]` columns hold something, zeros follow up to the next 64; no bits are needed

A program takes tiles of the result in turn (persistent where there are more tiles than places for programs), and
reads from `counts` on the device how far its sums run.
"""

from __future__ import annotations

import triton
import triton.language as tl

ELEMENT, ROW, TILE, COUNTED = (tl.constexpr(i) for i in range(4))
WORD = tl.constexpr(64)  # columns of a word, rows and columns of a tile


@triton.jit
def _keep(bits, rows, there, k, words, BLOCK_K: tl.constexpr):
    """bool [rows, BLOCK_K]: the mask from column k on, a multiple of BLOCK_K; 32 or 64 columns. `bits` are the words as
    halves of 32 bits, lower half first: registers of a GPU are that wide."""
    place = bits + rows.to(tl.int64) * (2 * words) + k // 32
    lane = tl.arange(0, BLOCK_K)
    inside = there & (k < words * WORD)
    half = tl.load(place, mask=inside, other=0)[:, None]
    if BLOCK_K == 64:
        half = tl.where((lane < 32)[None, :], half, tl.load(place + 1, mask=inside, other=0)[:, None])
    return ((half >> (lane % 32)[None, :]) & 1) != 0


@triton.jit
def _place(tile, down, across, GROUP: tl.constexpr):
    """Row and column of a tile; GROUP rows of tiles are walked down before the next column, to meet in the cache."""
    group = tile // (GROUP * across)
    first = group * GROUP
    height = tl.minimum(down - first, GROUP)
    inside = tile % (GROUP * across)
    return first + inside % height, inside // height


@triton.jit
def forward_kernel(
    x, bits, weight, bias, y, order, counts,
    row_count, columns, outputs, words,
    stride_x, stride_wn, stride_wk,
    KIND: tl.constexpr, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """y [M, N] = where(mask, x, 0) W^T + b."""
    down, across = tl.cdiv(row_count, BLOCK_M), tl.cdiv(outputs, BLOCK_N)
    for tile in range(tl.program_id(0), down * across, tl.num_programs(0)):
        i, j = _place(tile, down, across, GROUP)
        m = i * BLOCK_M + tl.arange(0, BLOCK_M)
        there = m < row_count
        steps = tl.cdiv(columns, BLOCK_K)
        live = order
        if KIND == ROW:
            m = tl.load(order + m, mask=there, other=0)
            steps = tl.where(i * BLOCK_M < tl.load(counts), steps, 0)
        if KIND == TILE:
            block = i * BLOCK_M // WORD
            live = order + tl.cast(block, tl.int64) * words
            steps = tl.load(counts + block) * (WORD // BLOCK_K)
        if KIND == COUNTED:
            steps = tl.cdiv(tl.load(counts), BLOCK_K)
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        lane = tl.arange(0, BLOCK_K)
        left_place = x + m.to(tl.int64)[:, None] * stride_x + lane[None, :]
        right_place = weight + n.to(tl.int64)[None, :] * stride_wn + lane.to(tl.int64)[:, None] * stride_wk
        total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for step in range(0, steps):
            k = step * BLOCK_K
            if KIND == TILE:
                k = tl.multiple_of(tl.load(live + k // WORD) * WORD + k % WORD, BLOCK_K)
            inside = k + lane < columns
            left = tl.load(left_place + k, mask=there[:, None] & inside[None, :], other=0.0)
            if KIND != COUNTED:
                left = tl.where(_keep(bits, m, there, k, words, BLOCK_K), left, 0.0)
            right = tl.load(
                right_place + tl.cast(k, tl.int64) * stride_wk, mask=inside[:, None] & (n < outputs)[None, :], other=0.0
            )
            total = tl.dot(left, right, total, input_precision=PRECISION)
        if HAS_BIAS:
            total += tl.load(bias + n, mask=n < outputs, other=0.0).to(tl.float32)[None, :]
        place = y + m.to(tl.int64)[:, None] * outputs + n[None, :]
        tl.store(place, total.to(y.dtype.element_ty), mask=there[:, None] & (n < outputs)[None, :])


@triton.jit
def grad_input_kernel(
    grad, bits, weight, grad_x, order, counts,
    row_count, columns, outputs, words,
    stride_g, stride_wn, stride_wk,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """dX [M, K] = where(mask, dY W, 0); the sum runs over outputs in steps of BLOCK_N."""
    down, across = tl.cdiv(row_count, BLOCK_M), tl.cdiv(columns, BLOCK_K)
    for tile in range(tl.program_id(0), down * across, tl.num_programs(0)):
        steps = tl.cdiv(outputs, BLOCK_N)
        if KIND == TILE:
            item = tl.load(order + tile)
            i, j = item // across, item % across
            steps = tl.where(tile < tl.load(counts), steps, 0)
        else:
            i, j = _place(tile, down, across, GROUP)
        m = i * BLOCK_M + tl.arange(0, BLOCK_M)
        there = m < row_count
        if KIND == ROW:
            m = tl.load(order + m, mask=there, other=0)
            steps = tl.where(i * BLOCK_M < tl.load(counts), steps, 0)
        if KIND == COUNTED:
            steps = tl.where(j * BLOCK_K < tl.load(counts), steps, 0)
        k = j * BLOCK_K + tl.arange(0, BLOCK_K)
        lane = tl.arange(0, BLOCK_N)
        left_place = grad + m.to(tl.int64)[:, None] * stride_g + lane[None, :]
        right_place = weight + lane.to(tl.int64)[:, None] * stride_wn + k.to(tl.int64)[None, :] * stride_wk
        total = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
        for step in range(0, steps):
            n = step * BLOCK_N
            inside = n + lane < outputs
            left = tl.load(left_place + n, mask=there[:, None] & inside[None, :], other=0.0)
            right = tl.load(
                right_place + tl.cast(n, tl.int64) * stride_wn, mask=inside[:, None] & (k < columns)[None, :], other=0.0
            )
            total = tl.dot(left, right, total, input_precision=PRECISION)
        if KIND != COUNTED:
            total = tl.where(_keep(bits, m, there, j * BLOCK_K, words, BLOCK_K), total, 0.0)
        place = grad_x + m.to(tl.int64)[:, None] * columns + k[None, :]
        tl.store(place, total.to(grad_x.dtype.element_ty), mask=there[:, None] & (k < columns)[None, :])


@triton.jit
def grad_weight_kernel(
    grad, x, bits, parts, order, counts,
    row_count, columns, outputs, words, part_count,
    stride_g, stride_x,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """parts [S, N, K]: dW = dY^T where(mask, x, 0), its sum over live rows cut into S equal parts.

    Tiles are summed as [K, N], so that the masked operand is the left one, which tensor cores take from registers.
    """
    down, across = tl.cdiv(columns, BLOCK_K), tl.cdiv(outputs, BLOCK_N)
    for tile in range(tl.program_id(0), down * across * part_count, tl.num_programs(0)):
        part = tile // (down * across)
        i, j = _place(tile % (down * across), down, across, GROUP)
        steps = tl.cdiv(row_count, BLOCK_M)
        last, live = row_count, order
        if KIND == ROW:
            last = tl.load(counts)
            steps = tl.cdiv(last, BLOCK_M)
        if KIND == TILE:
            block = i * BLOCK_K // WORD
            live = order + tl.cast(block, tl.int64) * tl.cdiv(row_count, WORD)
            steps = tl.load(counts + block) * (WORD // BLOCK_M)
        if KIND == COUNTED:
            steps = tl.where(i * BLOCK_K < tl.load(counts), steps, 0)
        k = i * BLOCK_K + tl.arange(0, BLOCK_K)
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        lane = tl.arange(0, BLOCK_M)
        total = tl.zeros((BLOCK_K, BLOCK_N), dtype=tl.float32)
        begin = (tl.cast(steps, tl.int64) * part // part_count).to(tl.int32)
        end = (tl.cast(steps, tl.int64) * (part + 1) // part_count).to(tl.int32)
        for step in range(begin, end):
            top = step * BLOCK_M
            if KIND == TILE:
                top = tl.multiple_of(tl.load(live + top // WORD) * WORD + top % WORD, BLOCK_M)
            m = top + lane
            there = m < last
            if KIND == ROW:
                m = tl.load(order + m, mask=there, other=0)
            left = tl.load(
                x + m.to(tl.int64)[:, None] * stride_x + k[None, :],
                mask=there[:, None] & (k < columns)[None, :],
                other=0.0,
            )
            if KIND != COUNTED:
                left = tl.where(_keep(bits, m, there, i * BLOCK_K, words, BLOCK_K), left, 0.0)
            right = tl.load(
                grad + m.to(tl.int64)[:, None] * stride_g + n[None, :],
                mask=there[:, None] & (n < outputs)[None, :],
                other=0.0,
            )
            total = tl.dot(tl.trans(left), right, total, input_precision=PRECISION)
        place = parts + (part * outputs + n.to(tl.int64)[:, None]) * columns + k[None, :]
        inside = (n < outputs)[:, None] & (k < columns)[None, :]
        tl.store(place, tl.trans(total).to(parts.dtype.element_ty), mask=inside)


KERNELS = (forward_kernel, grad_input_kernel, grad_weight_kernel)
