"""Eq. 10 over the batches of several ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.nn.functional import all_reduce

VARIANCE_FLOOR = 1e-6


def shared_information(masked: Tensor, values: Tensor, group: ProcessGroup) -> Tensor:
    """`gaussian_information` of the rows of all ranks together, the same number on each; differentiable.

    masked, values: [..., D] of this rank. Mean and variance are taken over the ranks' rows by two
    all-reduces. Each rank differentiates the same number, so the gradients that reach its values are those of
    the sum over ranks: with gradients averaged over ranks, as DDP does, the parameters receive exactly the
    gradient of one rank with all rows.
    """
    both = torch.stack([masked.flatten(0, -2), values.flatten(0, -2)]).float()  # [2, N, D]
    count = both.new_full((1,), both.shape[1])
    torch.distributed.all_reduce(count, group=group)
    mean = all_reduce(both.sum(1), group=group) / count  # [2, D]
    spread = all_reduce((both - mean[:, None]).square().sum(1), group=group) / count
    var_p, var_q = spread + VARIANCE_FLOOR
    shift = mean[0] - mean[1]
    return 0.5 * (torch.log(var_q / var_p) + (var_p + shift.square()) / var_q - 1).mean()
