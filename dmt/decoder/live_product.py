"""Products with a matrix of its own for every few rows, where rows have zeros to skip."""

from __future__ import annotations

import torch
from torch import Tensor

from dmt_kernels import sparse_bmm


def live_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [N, P, D] @ weight [N, D, out] -> [N, P, out]. Zeros of x are skipped where no gradient is asked for, on a CPU,
    and where that is the faster way.

    A matrix that serves many rows is a matter for `dmt_kernels.sparse_linear`; here each serves P of them. Compilers
    see the dense product, and so does automatic mixed precision, which hands over operands of two dtypes.
    """
    fits = x.is_cpu and x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)
    return sparse_bmm(x, weight) if fits and not torch.compiler.is_compiling() else torch.bmm(x, weight)
