"""Measures of a trained model, and of videos against their references."""

from .compare import Evaluation, evaluate_videos
from .config import EvaluationConfig
from .lips import evaluate_closures, evaluate_emotions, evaluate_lips, evaluate_silence
from .paper import evaluate_paper
from .report import write_report

__all__ = [
    "Evaluation",
    "EvaluationConfig",
    "evaluate_closures",
    "evaluate_emotions",
    "evaluate_lips",
    "evaluate_paper",
    "evaluate_silence",
    "evaluate_videos",
    "write_report",
]
