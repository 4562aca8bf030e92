"""`sparse_linear` in Triton: the mask is applied on the way into the product and, for dX, on the way out.

All three kernels read packed bits and never store a masked tensor. With SKIP they also pass over tiles without a live
element, which pays for structured masks; elementwise masks leave no empty tiles.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..mask_bits import WORD, words
from .op import check
from .tuning import DENSE, Tile, route_on_gpu, splits_of, tile_for

ELEMENT = 0


@triton.jit
def _keep(bits, rows, row_count, k, words, BLOCK_K: tl.constexpr):
    """bool [rows, BLOCK_K]: the mask from column k on; rows past the end are dead. `bits` are the words as halves of
    32 bits, lower half first: registers of a GPU are that wide."""
    column = k + tl.arange(0, BLOCK_K)
    inside = (rows < row_count)[:, None] & (column < words * 64)[None, :]
    half = tl.load(bits + rows.to(tl.int64)[:, None] * (2 * words) + (column // 32)[None, :], mask=inside, other=0)
    return ((half >> (column % 32)[None, :]) & 1) != 0


@triton.jit
def forward_kernel(
    x, bits, weight, bias, y,
    row_count, columns, outputs, words,
    stride_x, stride_wn, stride_wk,
    HAS_BIAS: tl.constexpr, SKIP: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """y [M, N] = where(mask, x, 0) W^T + b; one program per tile of y."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, columns, BLOCK_K):
        keep = _keep(bits, m, row_count, k, words, BLOCK_K)
        if not SKIP or tl.max(tl.max(keep.to(tl.int32), 1), 0) > 0:
            column = k + tl.arange(0, BLOCK_K)
            inside = column < columns
            left = tl.load(
                x + m.to(tl.int64)[:, None] * stride_x + column[None, :], mask=keep & inside[None, :], other=0.0
            )
            right = tl.load(
                weight + n[None, :] * stride_wn + column[:, None] * stride_wk,
                mask=inside[:, None] & (n < outputs)[None, :],
                other=0.0,
            )
            total = tl.dot(left, right, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + n, mask=n < outputs, other=0.0).to(tl.float32)[None, :]
    place = y + m.to(tl.int64)[:, None] * outputs + n[None, :]
    tl.store(place, total.to(y.dtype.element_ty), mask=(m < row_count)[:, None] & (n < outputs)[None, :])


@triton.jit
def grad_input_kernel(
    grad, bits, weight, grad_x,
    row_count, columns, outputs, words,
    stride_g, stride_wn, stride_wk,
    SKIP: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dX [M, K] = where(mask, dY W, 0); one program per tile of dX, the sum runs over outputs in steps of BLOCK_N."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    start = tl.program_id(1) * BLOCK_K
    k = start + tl.arange(0, BLOCK_K)
    keep = _keep(bits, m, row_count, start, words, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    if not SKIP or tl.max(tl.max(keep.to(tl.int32), 1), 0) > 0:
        for first in range(0, outputs, BLOCK_N):
            n = first + tl.arange(0, BLOCK_N)
            left = tl.load(
                grad + m.to(tl.int64)[:, None] * stride_g + n[None, :],
                mask=(m < row_count)[:, None] & (n < outputs)[None, :],
                other=0.0,
            )
            right = tl.load(
                weight + n[:, None] * stride_wn + k[None, :] * stride_wk,
                mask=(n < outputs)[:, None] & (k < columns)[None, :],
                other=0.0,
            )
            total = tl.dot(left, right, total, input_precision=PRECISION)
    total = tl.where(keep, total, 0.0)
    place = grad_x + m.to(tl.int64)[:, None] * columns + k[None, :]
    tl.store(place, total.to(grad_x.dtype.element_ty), mask=(m < row_count)[:, None] & (k < columns)[None, :])


@triton.jit
def grad_weight_kernel(
    grad, x, bits, parts,
    row_count, columns, outputs, words, rows_each,
    stride_g, stride_x,
    SKIP: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """parts [S, N, K] = dY^T where(mask, x, 0) over the rows [s rows_each, (s + 1) rows_each) of each part s."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    start = tl.program_id(1) * BLOCK_K
    k = start + tl.arange(0, BLOCK_K)
    part = tl.program_id(2)
    total = tl.zeros((BLOCK_N, BLOCK_K), dtype=tl.float32)
    last = tl.minimum(row_count, (part + 1) * rows_each)
    for first in range(part * rows_each, last, BLOCK_M):
        m = first + tl.arange(0, BLOCK_M)
        keep = _keep(bits, m, last, start, words, BLOCK_K)
        if not SKIP or tl.max(tl.max(keep.to(tl.int32), 1), 0) > 0:
            left = tl.load(
                grad + m.to(tl.int64)[None, :] * stride_g + n[:, None],
                mask=(m < last)[None, :] & (n < outputs)[:, None],
                other=0.0,
            )
            right = tl.load(
                x + m.to(tl.int64)[:, None] * stride_x + k[None, :], mask=keep & (k < columns)[None, :], other=0.0
            )
            total = tl.dot(left, right, total, input_precision=PRECISION)
    place = parts + (part * outputs + n.to(tl.int64)[:, None]) * columns + k[None, :]
    tl.store(place, total.to(parts.dtype.element_ty), mask=(n < outputs)[:, None] & (k < columns)[None, :])


def forward(x: Tensor, bits: Tensor, weight: Tensor, bias: Tensor | None, structure: int, route: int) -> Tensor:
    """y [..., N]; the operator `sparse_linear` on a CUDA device."""
    check(x, bits, weight, bias)
    rows, columns, outputs = x.shape[:-1].numel(), x.shape[-1], weight.shape[0]
    _refuse_float64(x)
    if route_on_gpu(route, structure, rows, columns, outputs) == DENSE:
        return torch.nn.functional.linear(_masked(x, bits), weight, bias)
    y = x.new_empty((*x.shape[:-1], outputs))
    if y.numel() == 0:
        return y
    left, bits = _rows(x), _halves(bits)
    tile = tile_for(x, rows, outputs, columns)
    grid = (triton.cdiv(rows, tile.m), triton.cdiv(outputs, tile.n))
    forward_kernel[grid](
        left, bits, weight, y if bias is None else bias.contiguous(), y,
        rows, columns, outputs, words(columns), left.stride(0), *weight.stride(),
        HAS_BIAS=bias is not None, **_options(structure, x, tile),
    )  # fmt: skip
    return y


def grad_input(grad: Tensor, bits: Tensor, weight: Tensor, structure: int, route: int) -> Tensor:
    """dX [..., K]; the operator `sparse_linear_grad_input` on a CUDA device."""
    outputs, columns = weight.shape
    rows = grad.shape[:-1].numel()
    _refuse_float64(grad)
    if route_on_gpu(route, structure, rows, columns, outputs) == DENSE:
        return _masked(grad @ weight, bits)
    grad_x = grad.new_empty((*grad.shape[:-1], columns))
    if grad_x.numel() == 0:
        return grad_x
    left, bits = _rows(grad), _halves(bits)
    tile = tile_for(grad, rows, columns, outputs).transposed()
    grid = (triton.cdiv(rows, tile.m), triton.cdiv(columns, tile.k))
    grad_input_kernel[grid](
        left, bits, weight, grad_x, rows, columns, outputs, words(columns), left.stride(0), *weight.stride(),
        **_options(structure, grad, tile),
    )  # fmt: skip
    return grad_x


def grad_weight(grad: Tensor, x: Tensor, bits: Tensor, structure: int, route: int) -> Tensor:
    """dW [N, K]; the operator `sparse_linear_grad_weight` on a CUDA device."""
    outputs, columns, rows = grad.shape[-1], x.shape[-1], x.shape[:-1].numel()
    _refuse_float64(x)
    left, right, bits = _rows(grad), _rows(x), _halves(bits)
    if route_on_gpu(route, structure, rows, columns, outputs) == DENSE:
        return left.t() @ _masked(right, bits)
    if rows == 0 or outputs == 0 or columns == 0:
        return x.new_zeros((outputs, columns))
    tile = tile_for(x, outputs, columns, rows).inner_rows()
    splits = splits_of(rows, triton.cdiv(outputs, tile.n) * triton.cdiv(columns, tile.k))
    rows_each = triton.cdiv(triton.cdiv(rows, splits), tile.m) * tile.m
    splits = triton.cdiv(rows, rows_each)
    parts = x.new_empty((splits, outputs, columns), dtype=x.dtype if splits == 1 else torch.float32)
    grid = (triton.cdiv(outputs, tile.n), triton.cdiv(columns, tile.k), splits)
    grad_weight_kernel[grid](
        left, right, bits, parts, rows, columns, outputs, words(columns), rows_each, left.stride(0), right.stride(0),
        **_options(structure, x, tile),
    )  # fmt: skip
    return parts[0] if splits == 1 else parts.sum(0).to(x.dtype)


def _options(structure: int, x: Tensor, tile: Tile) -> dict[str, object]:
    # float32 is multiplied as float32, unless PyTorch has been told that TF32 will do.
    tf32 = x.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    return dict(
        SKIP=structure != ELEMENT, PRECISION="tf32" if tf32 else "ieee",
        BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def _rows(t: Tensor) -> Tensor:
    """[..., D] -> [R, D] with unit stride along D."""
    flat = t.reshape(t.shape[:-1].numel(), t.shape[-1])
    return flat if flat.stride(1) == 1 else flat.contiguous()


def _halves(bits: Tensor) -> Tensor:
    """int64 [..., W] -> int32 [R, 2 W]; the same memory on every platform that CUDA runs on (little-endian)."""
    return _rows(bits).contiguous().view(torch.int32)


def _masked(t: Tensor, bits: Tensor) -> Tensor:
    lanes = torch.arange(WORD, device=t.device)
    mask = ((bits.unsqueeze(-1) >> lanes) & 1).flatten(-2)[..., : t.shape[-1]]
    return torch.where(mask != 0, t, 0)


def _refuse_float64(t: Tensor) -> None:
    if t.dtype == torch.float64:
        raise TypeError("sparse_linear takes float64 on the CPU only; on a GPU use float32, bfloat16 or float16")


IMPLEMENTATIONS = {
    "sparse_linear": forward,
    "sparse_linear_grad_input": grad_input,
    "sparse_linear_grad_weight": grad_weight,
}
