"""Pressure towards few large elements: an extra of ours, which the paper does not have.

Eq. 5 bounds a threshold by the mean of |x|, so theta alone cannot mask more than what lies under that mean: 58 % of
normally distributed elements. More becomes maskable only where x itself is concentrated in fewer elements, which is
what this term asks of the layers before a threshold. With several ranks each takes its own batch.
"""

from __future__ import annotations

from torch import Tensor, nn

from .threshold import sites, taken


def watch_crowding(model: nn.Module, on: bool) -> None:
    """Let every threshold note in training, as `crowding`, mean |x| / root mean square of x.

    1 where all elements are equally large, 0.80 for normal ones, sqrt(share) where only a share of them, all equally
    large, is not zero.
    """
    for site in sites(model).values():
        site.watched, site.crowding = on, None


def crowding_loss(model: nn.Module) -> Tensor:
    """Mean crowding of the watched thresholds in the last training pass; 0 if there are none.

    Call it once per pass, before the backward pass: it takes the values from the sites.
    """
    return taken(model, "crowding")
