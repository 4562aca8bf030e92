"""Early stopping on a validation measure, and the best weights it saw."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .state import restore, snapshot


class Stopping:
    """Ends a stage when its measure has not risen by `least_gain` for `patience` validations; 0: never."""

    def __init__(self, patience: int, least_gain: float) -> None:
        self.patience, self.least_gain = patience, least_gain
        self.best = float("-inf")
        self.waited = 0
        self._weights: dict[str, Tensor] | None = None

    @property
    def stopped(self) -> bool:
        """Whether to go no further."""
        return 0 < self.patience <= self.waited

    def see(self, quality: float, module: nn.Module) -> None:
        """Judge one validation of `module`; a measure that is no number is no gain."""
        if not self.patience:
            return
        if quality > self.best + self.least_gain or self._weights is None:
            self.best, self.waited = quality, 0
            self._weights = {name: value.clone() for name, value in snapshot(module).items()}
        else:
            self.waited += 1

    def take_best(self, module: nn.Module) -> None:
        """Give `module` the best weights seen; as it is where none were kept."""
        if self._weights is not None:
            restore(module, self._weights)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs; infinity is no JSON, so no measure yet is None."""
        best = None if self._weights is None else self.best
        return {"best": best, "waited": self.waited, "weights": self._weights}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.best = float("-inf") if state["best"] is None else state["best"]
        self.waited, self._weights = state["waited"], state["weights"]
