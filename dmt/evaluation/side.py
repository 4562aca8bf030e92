"""One video of a pair while it is read."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .config import EvaluationConfig
from .faces import Look, tracker_class
from .footage import Square, face_square, frame_rate, frames_at_25, scaled


class Side:
    """Frames brought to the size of the comparison, and the landmarks of those that are compared."""

    def __init__(self, path: Path, config: EvaluationConfig) -> None:
        self.path, self.rate = path, frame_rate(path)
        self._config, self._frames = config, frames_at_25(path)
        self._look: Look | None = None
        self._square: Square | None = None
        self._pending: list[NDArray | None] = []
        self.landmarks: list[NDArray | None] = []
        self.count, self.shape, self.sees_opening = 0, (0, 0), True

    def open(self, stack: ExitStack) -> None:
        if self._config.landmarks != "none":
            tracker = stack.enter_context(tracker_class(self._config.landmarks)())
            self._look, self.sees_opening = tracker, not tracker.blind_to_opening

    def take(self, count: int) -> NDArray[np.uint8]:
        """The next frames at the size of the comparison, at most `count`: [n, size, size, 3]."""
        size, pictures = self._config.size, []
        self._pending = []
        for picture in islice(self._frames, count):
            self.count, self.shape = self.count + 1, picture.shape[:2]
            if self._config.crop == "face" and self._square is None:
                self._square = self._first_face(picture)
            pictures.append(scaled(picture, size, self._square))
            if self._look is not None:
                self._pending.append(self._look(pictures[-1]))
        return np.stack(pictures) if pictures else np.zeros((0, size, size, 3), np.uint8)

    def keep(self, count: int) -> None:
        """Remember the landmarks of the first `count` frames taken last."""
        self.landmarks += self._pending[:count]

    def drain(self) -> None:
        """Count what is left, so that lengths can be told."""
        self.count += sum(1 for _ in self._frames)

    def points(self) -> NDArray[np.float32]:
        """[T, 478, 3] of the compared frames, NaN where there is no face."""
        empty = np.full((478, 3), np.nan, np.float32)
        return np.stack([empty if found is None else found for found in self.landmarks])

    def _first_face(self, picture: NDArray[np.uint8]) -> Square:
        with tracker_class(self._config.landmarks)() as look:
            found = look(picture)
        if found is None:
            raise InputError(f"no face in the first frame of {self.path}, which --crop face needs")
        return face_square(found)

    def sync_square(self) -> Square:
        """Where SyncNet looks, in pixels of the video itself: a square that begins half a face's height above its
        middle, reaches 0.9 below it and is 1.4 wide (the published cropping), still over the whole video."""
        size, (height, width) = self._config.size, self.shape
        points = np.stack([found for found in self.landmarks if found is not None])[:, :468, :2].astype(np.float64)
        if self._square is not None:
            points = points * (self._square.side / size) + (self._square.left, self._square.top)
        else:
            points = points * (width / size, height / size)
        low, high = np.median(points.min(1), 0), np.median(points.max(1), 0)
        half, (x, y) = float((high - low).max()) / 2, (low + high) / 2
        return Square(round(x - 1.4 * half), round(y - half), max(2, round(2.8 * half)))
