"""`sparse_bmm`, a matrix for every few rows, against torch.bmm and PyTorch's own way to sum chosen rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dmt_kernels import sparse_bmm

from .case import Candidate, Case, Work

MATRICES = 64
ROWS = (1, 11)
"""To each matrix: tokens of a frame in the step form of the decoders, and in their plain one."""
SIZES = ((96, 256), (256, 1024))
"""Width and outputs: the small network of the ablation, and the paper's."""


def cases(zeros: float, device: str = "cpu") -> Iterator[Case]:
    """x [64, 1 or 11, D] @ weight [64, D, out]."""
    for rows in ROWS:
        for width, outputs in SIZES:
            yield case(rows, width, outputs, zeros, device)


def case(rows: int, width: int, outputs: int, zeros: float, device: str = "cpu", matrices: int = MATRICES) -> Case:
    """`rows` to each of the matrices; each element is zero by itself with probability `zeros`."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(matrices, rows, width, generator=g)
    x = torch.where(torch.rand(x.shape, generator=g) < zeros, 0, x).to(device)
    weight = torch.randn(matrices, width, outputs, generator=g).to(device)
    live = float((x != 0).double().mean())
    nominal = 2 * x.numel() * outputs
    moved = 4 * (x.numel() + weight.numel() + matrices * rows * outputs)
    candidates = [
        Candidate("ours", "ours", lambda: sparse_bmm(x, weight, impl="sparse")),
        Candidate("auto", "auto", lambda: sparse_bmm(x, weight)),
        Candidate("torch.bmm", "dense", lambda: torch.bmm(x, weight)),
        Candidate("embedding_bag", "eager", lambda: by_embedding_bag(x, weight)),
    ]
    return Case(
        "sparse_bmm",
        f"{width} to {outputs}, {rows} row{'s' if rows > 1 else ''} a matrix",
        (matrices * rows, width),
        zeros,
        live,
        "float32",
        Work(nominal, round(nominal * live), moved),
        tuple(candidates),
        (torch.bmm(x.double(), weight.double()).float(),),
        device=device,
    )


def by_embedding_bag(x: Tensor, weight: Tensor) -> Tensor:
    """The same in operations that PyTorch has: what is not zero looked up, then summed."""
    items, rows, width = x.shape
    flat = x.reshape(items * rows, width)
    live = flat != 0
    row, column = live.nonzero(as_tuple=True)
    starts = live.sum(1).cumsum(0) - live.sum(1)
    index = row.div(rows, rounding_mode="floor") * width + column
    table = weight.reshape(items * width, -1)
    return F.embedding_bag(index, table, starts, mode="sum", per_sample_weights=flat[live]).unflatten(0, (items, rows))
