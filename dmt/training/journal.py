"""A run's folder: configuration, logs, states and plots; everything appears by atomic rename."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..atomic import atomic
from ..config import to_dict
from ..errors import InputError
from .config import RunConfig
from .plots import plot_losses, plot_measures, plot_sparsity
from .ranks import ALONE, Ranks
from .state import load_state, save_state

Progress = Callable[[str, int, int, float], None]
"""Called with stage, steps done, steps in all, and seconds left in the stage."""


class Journal:
    """Reads and writes the folder of one run; of several ranks only the first writes."""

    def __init__(self, config: RunConfig, progress: Progress | None = None, ranks: Ranks = ALONE) -> None:
        self.folder = Path(config.output)
        self._progress, self._first = progress, ranks.first
        self._boards: dict[str, Any] | None = {} if config.tensorboard and ranks.first else None
        if config.tensorboard:
            _check_tensorboard()
        text = json.dumps(to_dict(config), indent=1)
        path = self.folder / "training.json"
        if path.exists() and _essence(path.read_text()) != _essence(text):
            raise InputError(
                f"{self.folder} holds a run with other settings; choose another folder or the same settings"
            )
        ranks.wait()
        if self._first:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, text)
        ranks.wait()

    def log(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Append one line of JSON to the stage's log, and to tensorboard's where that is asked for."""
        if not self._first:
            return
        rounded = {k: round(v, 6) for k, v in values.items()}
        row = {"stage": stage, "step": step, "time": round(time.time(), 2), **rounded}
        with self._log_path(stage).open("a") as handle:
            handle.write(json.dumps(row) + "\n")
        if self._boards is not None:
            for name, value in values.items():
                self._board(stage, step).add_scalar(f"{stage}/{name}", value, step)

    def rewind(self, stage: str, step: int) -> None:
        """Forget log lines after `step`, which a resumed run writes again."""
        path = self._log_path(stage)
        if self._first and path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
            _write(path, "".join(line + "\n" for line in kept))

    def rows(self, stage: str) -> list[dict[str, Any]]:
        """The stage's log."""
        path = self._log_path(stage)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def save(self, stage: str, state: dict[str, Any]) -> None:
        """Keep the stage's whole state."""
        if self._first:
            save_state(self._state_path(stage), state)
        if self._boards and stage in self._boards:
            self._boards[stage].flush()

    def load(self, stage: str) -> dict[str, Any] | None:
        """The state last kept, or None."""
        path = self._state_path(stage)
        return load_state(path) if path.exists() else None

    def progress(self, stage: str, done: int, total: int, seconds_left: float) -> None:
        """Tell whoever watches."""
        if self._progress and self._first:
            self._progress(stage, done, total, seconds_left)

    def plot(self, stages: Sequence[str]) -> Path | None:
        """Loss, measures and sparsity of every stage as pictures; returns the first, None without matplotlib."""
        if not self._first:
            return None
        logs = {stage: self.rows(stage) for stage in stages}
        plot_sparsity(self.folder / "sparsity.png", logs)
        plot_measures(self.folder / "measures.png", logs)
        return plot_losses(self.folder / "losses.png", logs)

    def close(self) -> None:
        """Finish what tensorboard has open."""
        for board in (self._boards or {}).values():
            board.close()

    def _board(self, stage: str, step: int) -> Any:
        """tensorboard's log of a stage; what a run before wrote from `step` on is purged."""
        from torch.utils.tensorboard import SummaryWriter

        if stage not in self._boards:
            self._boards[stage] = SummaryWriter(str(self.folder / "tensorboard" / stage), purge_step=step)
        return self._boards[stage]

    def _log_path(self, stage: str) -> Path:
        return self.folder / f"{stage}.jsonl"

    def _state_path(self, stage: str) -> Path:
        return self.folder / f"{stage}.state.safetensors"


def _check_tensorboard() -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise InputError(
            "tensorboard is not installed: pip install 'dreamtalk-dmt[train]', or train without --tensorboard"
        ) from None


def _essence(text: str) -> dict[str, Any]:
    """Settings that change the result; where things lie and how often they are saved do not."""
    settings = json.loads(text)
    aside = {"corpus", "output", "parallel", "tensorboard", "device"}
    if not settings.get("schedule"):  # whose early stopping looks whenever a state is saved
        aside.add("save_every")
    return {k: v for k, v in settings.items() if k not in aside}


def _step_of(line: str) -> float:
    """The step of a log line; a line that a kill cut short comes after everything."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")


def _write(path: Path, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text)
