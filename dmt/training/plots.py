"""Curves of a run as pictures: losses and measures, and the share of elements that every threshold keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import atomic

Rows = Sequence[Mapping[str, Any]]
"""Lines of a stage's log."""


def plot_losses(path: Path, logs: Mapping[str, Rows]) -> Path | None:
    """Terms of the loss of every stage; None where matplotlib is not installed."""

    def wanted(row: Mapping[str, Any]) -> list[str]:
        return [key for key in row if "/" not in key] if "loss" in row else []

    return _plot(path, logs, wanted, "log")


def plot_measures(path: Path, logs: Mapping[str, Rows]) -> Path | None:
    """Measures on held-out clips of every stage; None where matplotlib is not installed."""
    return _plot(path, logs, lambda row: [key for key in row if key.startswith("validation")], "linear")


def plot_sparsity(path: Path, logs: Mapping[str, Rows]) -> Path | None:
    """Share of live elements at every threshold; None without thresholds or matplotlib."""
    logs = {stage: rows for stage, rows in logs.items() if any(key.startswith("kept/") for row in rows for key in row)}
    if not logs:
        return None
    return _plot(path, logs, lambda row: [key for key in row if key.startswith("kept/")], "linear")


def _plot(
    path: Path, logs: Mapping[str, Rows], wanted: Callable[[Mapping[str, Any]], list[str]], scale: str
) -> Path | None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    width = 4.8 * max(1, len(logs))
    figure = Figure(figsize=(width, 3.6))
    FigureCanvasAgg(figure)
    # Inches around and between the pictures; a layout engine takes seconds to find as much.
    figure.subplots_adjust(left=0.8 / width, right=1 - 0.2 / width, bottom=0.14, top=0.92, wspace=0.24)
    for axis, (stage, rows) in zip(figure.subplots(1, max(1, len(logs)), squeeze=False)[0], logs.items(), strict=False):
        curves = sorted({key for row in rows for key in wanted(row)} - {"stage", "step", "time", "skipped_steps"})
        for name in curves:
            points = [(row["step"], row[name]) for row in rows if name in row]
            axis.plot(*zip(*points, strict=True), label=name.removeprefix("kept/"), linewidth=1)
        axis.set(title=stage, xlabel="step", yscale=scale)
        if curves:
            axis.legend(fontsize=4 if len(curves) > 8 else 6)
    with atomic(path) as part:
        figure.savefig(part, dpi=110, format="png")
    return path
