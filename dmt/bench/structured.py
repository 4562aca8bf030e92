"""`sparse_linear` under masks by column, row and tile, against the dense products that `products` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dmt_kernels import pack_mask
from dmt_kernels.ops.threshold_groups.reference import spread
from dmt_kernels.structure import STRUCTURES, cell, structure_of

from .case import Candidate, Case
from .products import AUTO, DTYPES, LEGS, SPARSE, Operands, dense, expected, ours, work

OPS = torch.ops.dmt_kernels


def operands(structure: int, rows: int, width: int, zeros: float, dtype: str, device: str) -> Operands:
    """Drawn at random; the share `zeros` of the groups, rounded, is masked."""
    g = torch.Generator().manual_seed(0)
    size = cell(structure, rows, width)
    down, across = size.grid(rows, width)
    alive = torch.randperm(down * across, generator=g) >= round(zeros * down * across)
    mask = spread(alive.reshape(down, across), size, rows, width).expand(rows, width).contiguous()
    x, weight = torch.randn(rows, width, generator=g), torch.randn(width, width, generator=g)
    bias, grad = torch.randn(width, generator=g), torch.randn(rows, width, generator=g)
    values = [t.to(DTYPES[dtype]).to(device) for t in (x, torch.where(mask, x, 0), weight, bias, grad)]
    x, masked, weight, bias, grad = values
    return Operands(x, masked, pack_mask(mask).to(device), weight, bias, grad, float(mask.double().mean()))


def gathered(p: Operands, leg: str, structure: int, route: int) -> Callable[[], Tensor]:
    """The product of what is live."""
    return {
        "y": lambda: OPS.structured_linear(p.x, p.bits, p.weight, p.bias, structure, route),
        "dX": lambda: OPS.structured_linear_grad_input(p.grad, p.bits, p.weight, structure, route),
        "dW": lambda: OPS.structured_linear_grad_weight(p.grad, p.x, p.bits, structure, route),
    }[leg]


def cases(
    name: str, rows: int, width: int, zeros: float, dtype: str = "float32", device: str = "cpu"
) -> Iterator[Case]:
    """y, dX and dW with a mask by `name`, a structure. "by element" is given the same mask without a word about it."""
    structure = structure_of(name)
    p = operands(structure, rows, width, zeros, dtype, device)
    for leg in LEGS:
        candidates = (
            Candidate("ours", "ours", gathered(p, leg, structure, SPARSE)),
            Candidate("auto", "auto", gathered(p, leg, structure, AUTO)),
            *dense(p, leg),
            Candidate("by element", "other", ours(p, leg, AUTO)),
        )
        amount = work(rows, width, p.live, leg, p.x.element_size())
        rtol, atol = (1e-4, 2e-3) if dtype == "float32" else (2e-2, 0.05 * max(rows, width) ** 0.5)
        op, shape = f"structured_linear, {STRUCTURES[structure]}", (rows, width)
        wanted = expected(p, leg)
        yield Case(op, leg, shape, zeros, p.live, dtype, amount, candidates, wanted, rtol, atol, device)
