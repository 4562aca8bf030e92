"""Classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .schedule import Denoise

Pair = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(x_t, t) -> (prediction with the condition, prediction with the null condition)."""


def guided(conditional: Denoise, pair: Pair, scale: float) -> Denoise:
    """null + scale * (condition - null) as one denoiser.

    At scale 1 the null prediction cancels, so only `conditional` is called. Holds for
    predictions of x0 and of noise alike: one is an affine function of the other.
    """
    if scale == 1:
        return conditional

    def denoise(x: Tensor, t: int) -> Tensor:
        condition, null = pair(x, t)
        return null + scale * (condition - null)

    return denoise
