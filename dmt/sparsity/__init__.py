"""Room: dynamic thresholds (eq. 5-7) and the information constraint (eq. 8-10)."""

from .guard import LevelGuard
from .information import gaussian_information, information_loss
from .threshold import (
    DynamicThreshold,
    ThresholdedFeedForward,
    abnormal_batches,
    begin_step,
    guard_averages,
    kept_fractions,
    share_averages,
    sites,
)

__all__ = [
    "DynamicThreshold",
    "LevelGuard",
    "ThresholdedFeedForward",
    "abnormal_batches",
    "begin_step",
    "gaussian_information",
    "guard_averages",
    "information_loss",
    "kept_fractions",
    "share_averages",
    "sites",
]
