"""What every synthesizer gives: a sentence as an array, with the time of every phoneme."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Phoneme:
    """One phoneme: IPA symbol ("" for a pause) and its start in seconds from the first sample."""

    symbol: str
    start: float


@dataclass(frozen=True)
class Spoken:
    """What was said: wave [S] float32 in -1..1 at `rate` Hz, and its phonemes in order of time.

    closures_timed: a stop starts where its closure does. Otherwise it starts with its burst, and the silence of the
    closure is counted to the phoneme before, as espeak-ng does.
    """

    wave: np.ndarray
    rate: int
    phonemes: tuple[Phoneme, ...]
    closures_timed: bool = False
