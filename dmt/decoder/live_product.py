"""Products with a matrix of its own for every few rows, where rows have zeros to skip."""

from __future__ import annotations

import torch
from torch import Tensor

from dmt_kernels import sparse_bmm


def live_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [N, P, D] @ weight [N, D, out] -> [N, P, out]. Zeros of x are skipped where no gradient is asked for, on a CPU,
    and where that is the faster way.

    A matrix that serves many rows is a matter for `dmt_kernels.sparse_linear`; here each serves P of them.
    """
    return _sum_of_live_rows(x, weight) if _may_skip(x, weight) else torch.bmm(x, weight)


def _may_skip(x: Tensor, weight: Tensor) -> bool:
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return False
    supported = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return supported and not torch.compiler.is_compiling()


def _sum_of_live_rows(x: Tensor, weight: Tensor) -> Tensor:
    """For each element of x that is not zero, one row of its matrix is read."""
    return sparse_bmm(x, weight)
