"""Room: dynamic thresholds (eq. 5-7) and the information constraint (eq. 8-10)."""

from .crowding import crowding_loss, watch_crowding
from .guard import LevelGuard
from .information import gaussian_information, information_loss
from .threshold import (
    DynamicThreshold,
    ThresholdedFeedForward,
    abnormal_batches,
    begin_step,
    decoder_site,
    guard_averages,
    kept_fractions,
    product,
    share_averages,
    sites,
)

__all__ = [
    "DynamicThreshold",
    "LevelGuard",
    "ThresholdedFeedForward",
    "abnormal_batches",
    "begin_step",
    "crowding_loss",
    "decoder_site",
    "gaussian_information",
    "guard_averages",
    "information_loss",
    "kept_fractions",
    "product",
    "share_averages",
    "sites",
    "watch_crowding",
]
