"""What a masking operator hands over, and the state it keeps between steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MU, UPDATES, STEP, SEEN = range(4)
"""Places in the state vector of `threshold_ema`; see `ema_state`."""
STATE_SIZE = 4
_LAST_STEP = 2**24 - 1  # the largest count that float32 still advances by one


class Masked(NamedTuple):
    """A tensor after its hard mask, x [..., D] -> where(|x| > threshold, x, 0).

    A named tuple, so that it passes through `torch.compile` and pytrees as it is.
    """

    values: Tensor | None
    """[..., D], dtype of x: x where live, 0 elsewhere. None where the operator never stores it (`masked_linear`)."""
    bits: Tensor
    """int64 [..., ceil(D / 64)]: bit j of word w of a row says whether column 64 * w + j is live."""
    live: Tensor
    """float32, no dimensions, on the device of x: the share of elements that are live (0 for an empty x)."""
    information: Tensor | None
    """float32 (float64 for float64 x), no dimensions: eq. 10, if it was asked for."""


def ema_state(device: torch.device | str | None = None) -> Tensor:
    """A fresh state for `threshold_ema`: float32 [4], all zero; register it as a buffer.

    - `[0] mu`: the moving average of mean |x| (eq. 6), in the unit of x; 0 before the first update.
    - `[1] updates`: how many updates mu has absorbed; 0 makes the next one set mu to mean |x|.
    - `[2] step`: number of the current step, counted by `advance`; 0 as long as nobody counts.
    - `[3] seen`: the step whose update mu has already absorbed.

    While nobody counts, every call with `update=True` is a step of its own. Once `advance` has been called, mu
    absorbs the first call of each step and the other calls of that step use mu as it is: a forward pass that
    activation checkpointing runs again finds the same mu, makes the same mask and changes nothing.
    """
    return torch.zeros(STATE_SIZE, dtype=torch.float32, device=device)


@torch.no_grad()
def advance(state: Tensor) -> None:
    """Begin the next step of `state` ([4] or a stack [..., 4] of states), in place.

    Call it once per training step (or micro-batch), after the backward pass of the step before. It reads nothing
    back from the device, so a captured CUDA graph may contain it.
    """
    step = state[..., STEP]
    step.copy_(torch.remainder(step, _LAST_STEP) + 1)
