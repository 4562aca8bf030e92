"""What is known of an inspected file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Finding:
    """kind: what it is, in words; facts: (name, value) to show; takes: commands that accept it.

    What can be drawn, where there is any: expression [T, 64], pose [T, 9] (face.pose), picture uint8 RGB [H, W, 3],
    landmarks [478, 3], loudness [n] (peak of each of n equal pieces of a sound of so many seconds), faces (name ->
    [64]), table [T, n], parts (name of a part of a network -> its numbers).
    """

    kind: str
    facts: tuple[tuple[str, str], ...]
    takes: tuple[str, ...] = ()
    expression: NDArray[np.float32] | None = None
    pose: NDArray[np.float32] | None = None
    picture: NDArray[np.uint8] | None = None
    landmarks: NDArray[np.float32] | None = None
    loudness: NDArray[np.float32] | None = None
    seconds: float = 0.0
    faces: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    table: NDArray[np.float32] | None = None
    parts: Mapping[str, int] = field(default_factory=dict)


Reader = Callable[[Path], Finding]
