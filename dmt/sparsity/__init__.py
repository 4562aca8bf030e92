"""Room: dynamic thresholds (eq. 5-7) and the information constraint (eq. 8-10)."""

from .information import gaussian_information, information_loss
from .threshold import DynamicThreshold, ThresholdedFeedForward, kept_fractions, share_averages

__all__ = [
    "DynamicThreshold",
    "ThresholdedFeedForward",
    "gaussian_information",
    "information_loss",
    "kept_fractions",
    "share_averages",
]
