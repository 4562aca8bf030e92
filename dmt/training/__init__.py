"""Training: the paper's schedule, the bundled model's stages, and the learned renderer."""

from .config import LossConfig, PaperSchedule, StageConfig, TrainingConfig
from .train import TrainingReport, train

__all__ = ["LossConfig", "PaperSchedule", "StageConfig", "TrainingConfig", "TrainingReport", "train"]
