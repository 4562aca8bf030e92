"""A run's folder: configuration, log, checkpoints and plot; everything appears by atomic rename."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..config import to_dict
from ..errors import InputError
from .config import TrainingConfig

Progress = Callable[[str, int, int, float], None]
"""Called with stage, steps done, steps in all, and seconds left in the stage."""


class Journal:
    """Reads and writes the folder of one run."""

    def __init__(self, config: TrainingConfig, progress: Progress | None = None) -> None:
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._progress = progress
        text = json.dumps(to_dict(config), indent=1)
        path = self.folder / "training.json"
        if path.exists() and _essence(path.read_text()) != _essence(text):
            raise InputError(
                f"{self.folder} holds a run with other settings; choose another folder or the same settings"
            )
        _replace(path, lambda part: part.write_text(text))

    def log(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Append one line of JSON to the stage's log."""
        row = {
            "stage": stage,
            "step": step,
            "time": round(time.time(), 2),
            **{k: round(v, 6) for k, v in values.items()},
        }
        with self._log_path(stage).open("a") as handle:
            handle.write(json.dumps(row) + "\n")

    def rewind(self, stage: str, step: int) -> None:
        """Forget log lines after `step`, which a resumed run writes again."""
        path = self._log_path(stage)
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
            _replace(path, lambda part: part.write_text("".join(line + "\n" for line in kept)))

    def rows(self, stage: str) -> list[dict[str, Any]]:
        """The stage's log."""
        path = self._log_path(stage)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def save(self, stage: str, state: dict[str, Any]) -> None:
        """Keep the stage's whole state."""
        _replace(self.folder / f"{stage}.pt", lambda part: torch.save(state, part))

    def load(self, stage: str) -> dict[str, Any] | None:
        """The state last kept, or None."""
        path = self.folder / f"{stage}.pt"
        return torch.load(path, weights_only=True, map_location="cpu") if path.exists() else None

    def progress(self, stage: str, done: int, total: int, seconds_left: float) -> None:
        """Tell whoever watches."""
        if self._progress:
            self._progress(stage, done, total, seconds_left)

    def plot(self, stages: tuple[str, ...]) -> Path | None:
        """Loss of every stage as `losses.png`; None where matplotlib is not installed."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            return None
        figure = Figure(figsize=(4.2 * len(stages), 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        for axis, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
            rows = [row for row in self.rows(stage) if "loss" in row]
            for name in sorted({key for row in rows for key in row} - {"stage", "step", "time"}):
                points = [(row["step"], row[name]) for row in rows if name in row]
                axis.plot(*zip(*points, strict=True), label=name, linewidth=1)
            axis.set(title=stage, xlabel="step", yscale="log")
            if rows:
                axis.legend(fontsize=6)
        target = self.folder / "losses.png"
        _replace(target, lambda part: figure.savefig(part, dpi=100, format="png"))
        return target

    def _log_path(self, stage: str) -> Path:
        return self.folder / f"{stage}.jsonl"


def _essence(text: str) -> dict[str, Any]:
    """Settings that change the result; where things lie and how often they are saved do not."""
    settings = json.loads(text)
    return {k: v for k, v in settings.items() if k not in ("corpus", "output", "save_every", "parallel")}


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
