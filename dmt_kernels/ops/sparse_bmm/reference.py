"""What `sparse_bmm` means."""

from __future__ import annotations

import torch
from torch import Tensor


def sparse_bmm(x: Tensor, weight: Tensor) -> Tensor:
    """x [N, P, D] @ weight [N, D, out] -> [N, P, out]."""
    return torch.bmm(x, weight)
