"""Measures of a trained model."""

from .lips import evaluate_closures, evaluate_emotions, evaluate_lips, evaluate_silence

__all__ = ["evaluate_closures", "evaluate_emotions", "evaluate_lips", "evaluate_silence"]
