"""`sparse_linear` on a CUDA device: what is launched for each product, structure and shape.

Every choice here is taken from shapes, types and the structure. How much is live only the kernels know, which read it
on the device: nothing waits, and every call can be captured in a CUDA graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from ...structure import COLUMN, ELEMENT, ROW, TILE
from ..mask_bits import words
from . import triton_kernels as kernels
from .operators import check
from .triton_lists import Live, compact, expand, live_columns, live_rows, live_tiles
from .tuning import DENSE, DENSE_ROUTE, Tile, has_own_product, parts_of, programs_for, tile_for, way

_OPS = torch.ops.dmt_kernels
"""Where compiled kernels for masks by element are loaded, they also mask for the vendor's product."""

_KINDS = {ROW: kernels.ROW, TILE: kernels.TILE, COLUMN: kernels.COUNTED}


def forward(x: Tensor, bits: Tensor, weight: Tensor, bias: Tensor | None, structure: int, route: int) -> Tensor:
    """y [..., N]; the operators `sparse_linear` and `structured_linear`."""
    check(x, bits, weight, bias)
    _refuse_float64(x)
    rows, columns, outputs = x.shape[:-1].numel(), x.shape[-1], weight.shape[0]
    y = x.new_empty((*x.shape[:-1], outputs))
    if y.numel() == 0:
        return y
    if structure != ELEMENT and has_own_product(route, x, columns, outputs):
        return _OPS.sparse_linear(x, bits, weight, bias, structure, route)
    how = way(route, structure, rows, columns, outputs, x)
    if how == DENSE and structure != ELEMENT:
        return _OPS.sparse_linear(x, bits, weight, bias, ELEMENT, DENSE_ROUTE)
    left, halves = _rows(x), _halves(bits)
    if how == DENSE:
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(expand(left, halves, None, columns), weight, bias).reshape(y.shape)
    live = _lists(how, halves, columns, "row")
    if how == COLUMN:
        left, weight, columns = compact(left, halves, live), compact(weight, None, live), -(-columns // 64) * 64
    tile = tile_for("y", how, x, rows, outputs)
    tiles = triton.cdiv(rows, tile.m) * triton.cdiv(outputs, tile.n)
    kernels.forward_kernel[(programs_for(x, tiles, how),)](
        left, halves, weight, y if bias is None else bias.contiguous(), y, *live[:2],
        rows, columns, outputs, words(columns), left.stride(0), *weight.stride(),
        HAS_BIAS=bias is not None, **_options(how, x, tile),
    )  # fmt: skip
    return y


def grad_input(grad: Tensor, bits: Tensor, weight: Tensor, structure: int, route: int) -> Tensor:
    """dX [..., K]; the operators `sparse_linear_grad_input` and `structured_linear_grad_input`."""
    _refuse_float64(grad)
    outputs, columns = weight.shape
    rows = grad.shape[:-1].numel()
    shape = (*grad.shape[:-1], columns)
    if rows == 0 or columns == 0:
        return grad.new_empty(shape)
    if structure != ELEMENT and has_own_product(route, grad, columns, outputs):
        return _OPS.sparse_linear_grad_input(grad, bits, weight, structure, route)
    how = way(route, structure, rows, columns, outputs, grad)
    if how == DENSE and structure != ELEMENT:
        return _OPS.sparse_linear_grad_input(grad, bits, weight, ELEMENT, DENSE_ROUTE)
    left, halves = _rows(grad), _halves(bits)
    if how == DENSE:
        with torch.autocast(grad.device.type, enabled=False):
            return expand(left @ weight, halves, None, columns).reshape(shape)
    live = _lists(how, halves, columns, "all")
    width = columns
    if how == COLUMN:
        weight, width = compact(weight, None, live), -(-columns // 64) * 64
    grad_x = grad.new_empty((rows, width))
    tile = tile_for("dX", how, grad, rows, width)
    tiles = triton.cdiv(rows, tile.m) * triton.cdiv(width, tile.k)
    kernels.grad_input_kernel[(programs_for(grad, tiles, how),)](
        left, halves, weight, grad_x, *live[:2],
        rows, width, outputs, words(width), left.stride(0), *weight.stride(), **_options(how, grad, tile),
    )  # fmt: skip
    return (expand(grad_x, halves, live, columns) if how == COLUMN else grad_x).reshape(shape)


def grad_weight(grad: Tensor, x: Tensor, bits: Tensor, structure: int, route: int) -> Tensor:
    """dW [N, K]; the operators `sparse_linear_grad_weight` and `structured_linear_grad_weight`."""
    _refuse_float64(x)
    outputs, columns, rows = grad.shape[-1], x.shape[-1], x.shape[:-1].numel()
    if rows == 0 or outputs == 0 or columns == 0:
        return x.new_zeros((outputs, columns))
    how = way(route, structure, rows, columns, outputs, x)
    if how == DENSE and structure != ELEMENT:
        return _OPS.sparse_linear_grad_weight(grad, x, bits, ELEMENT, DENSE_ROUTE)
    right, left, halves = _rows(grad), _rows(x), _halves(bits)
    if how == DENSE:
        with torch.autocast(x.device.type, enabled=False):
            return right.t() @ expand(left, halves, None, columns)
    live = _lists(how, halves, columns, "column")
    width = columns
    if how == COLUMN:
        left, width = compact(left, halves, live), -(-columns // 64) * 64
    tile = tile_for("dW", how, x, outputs, width)
    tiles = triton.cdiv(width, tile.k) * triton.cdiv(outputs, tile.n)
    count = parts_of(x, rows, tiles)
    parts = x.new_empty((count, outputs, width), dtype=x.dtype if count == 1 else torch.float32)
    kernels.grad_weight_kernel[(programs_for(x, tiles * count, how),)](
        right, left, halves, parts, *live[:2],
        rows, width, outputs, words(width), count, right.stride(0), left.stride(0), **_options(how, x, tile),
    )  # fmt: skip
    grad_w = parts[0] if count == 1 else parts.sum(0).to(x.dtype)
    return expand(grad_w, None, live, columns) if how == COLUMN else grad_w


def _lists(how: int, halves: Tensor, columns: int, tiles_by: str) -> Live:
    if how == ROW:
        return live_rows(halves, columns)
    if how == TILE:
        return live_tiles(halves, columns, tiles_by)
    return live_columns(halves, columns) if how == COLUMN else Live(halves, halves)


def _options(how: int, x: Tensor, tile: Tile) -> dict[str, object]:
    # float32 is multiplied as float32, unless PyTorch has been told that TF32 will do.
    tf32 = x.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    return dict(
        KIND=_KINDS.get(how, kernels.ELEMENT), PRECISION="tf32" if tf32 else "ieee", GROUP=8,
        BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def _rows(t: Tensor) -> Tensor:
    """[..., D] -> [R, D] with unit stride along D."""
    flat = t.reshape(t.shape[:-1].numel(), t.shape[-1])
    return flat if flat.stride(1) == 1 else flat.contiguous()


def _halves(bits: Tensor) -> Tensor:
    """int64 [..., W] -> int32 [R, 2 W]; the same memory on every platform that CUDA runs on (little-endian)."""
    return _rows(bits).contiguous().view(torch.int32)


def _refuse_float64(t: Tensor) -> None:
    if t.dtype == torch.float64:
        raise TypeError("sparse_linear takes float64 on the CPU only; on a GPU use float32, bfloat16 or float16")


_PRODUCTS = {"": forward, "_grad_input": grad_input, "_grad_weight": grad_weight}
IMPLEMENTATIONS = {
    f"{family}{name}": run for family in ("sparse_linear", "structured_linear") for name, run in _PRODUCTS.items()
}
