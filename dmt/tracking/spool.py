"""Landmarks of a whole film on disk: what has been tracked does not stay in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..face.basis import POINTS

_BYTES = POINTS * 3 * 4


class Spool:
    """Landmarks [478, 3] float32, appended one by one to a temporary file that vanishes with the object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._count = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def append(self, landmarks: NDArray) -> None:
        self._file.write(np.ascontiguousarray(landmarks, np.float32).reshape(POINTS, 3).data)
        self._count += 1

    def blocks(self, size: int) -> Iterator[NDArray[np.float32]]:
        """All of them in order, [n, 478, 3] with n at most `size`."""
        for first in range(0, self._count, size):
            yield self._read(first, min(size, self._count - first))

    def sample(self, count: int) -> NDArray[np.float32]:
        """At most `count` of them, evenly spread, [n, 478, 3]."""
        chosen = np.unique(np.linspace(0, self._count - 1, min(count, self._count)).round().astype(int))
        return np.concatenate([self._read(int(index), 1) for index in chosen])

    def _read(self, first: int, count: int) -> NDArray[np.float32]:
        self._file.seek(first * _BYTES)
        data = self._file.read(count * _BYTES)
        return np.frombuffer(data, np.float32).reshape(count, POINTS, 3)
