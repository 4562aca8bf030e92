"""Training: the paper's stages on the synthetic corpus."""

from .config import LossConfig, StageConfig, TrainingConfig
from .train import TrainingReport, train

__all__ = ["LossConfig", "StageConfig", "TrainingConfig", "TrainingReport", "train"]
