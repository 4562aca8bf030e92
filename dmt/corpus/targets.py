"""From timed phonemes to the motion of the lips: segments, dominance, closures.

Cohen and Massaro (1993): at every moment the target is the mean of all sounds'
targets, weighted by dominance functions that rise before a sound and fall after it,
so that lips anticipate and carry over. Closures are then enforced: whatever the
neighbours want, the lips meet and leave at a bounded speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..rates import FRAME_RATE
from .phonemes import PAUSE, VISEMES, Sound, Viseme, is_stop, letters, stress
from .spoken import Spoken

GRID = 100
"""Steps per second at which lip curves are computed before they are sampled at 25 Hz."""

CLOSED = -0.02
"""Opening of pressed lips in eye distances (the landmark basis: neutral -0.022, filmed closures down to -0.04)."""

REST = 0.012
"""Opening of the mouth at rest."""

AJAR = 0.05
"""How much wider it stays open in a short break, when more is about to be said."""

BREATH = 0.05
"""How far the lips part for the breath before speech that follows a pause."""


@dataclass(frozen=True)
class Segment:
    """One letter's stretch of time in seconds, with how strongly it is spoken (1 = plain stress)."""

    letter: str
    start: float
    end: float
    strength: float = 1.0

    @property
    def viseme(self) -> Viseme:
        return VISEMES.get(self.letter, PAUSE)


@dataclass(frozen=True)
class LipCurves:
    """At 25 frames a second: opening, width offset (eye distances) [T]; sound classes at 50 Hz [R] int8;
    closures: [N, 2] first and last frame of each /p b m/."""

    opening: np.ndarray
    width: np.ndarray
    sounds: np.ndarray
    closures: np.ndarray


def segments(spoken: Spoken) -> list[Segment]:
    """Letters with start and end; the silence of a stop's closure is moved to the stop it belongs to."""
    quiet = _quiet_before(spoken.wave, spoken.rate)
    duration = len(spoken.wave) / spoken.rate
    phonemes = spoken.phonemes
    result: list[Segment] = []
    for index, phoneme in enumerate(phonemes):
        end = phonemes[index + 1].start if index + 1 < len(phonemes) else duration
        found = letters(phoneme.symbol)
        start = phoneme.start
        if found and is_stop(found[0]) and result and not spoken.closures_timed:
            start = max(start - min(quiet(start), 0.09), result[-1].start)
            result[-1] = Segment(result[-1].letter, result[-1].start, start, result[-1].strength)
        step = (end - start) / max(1, len(found))
        if step <= 0:
            continue
        for k, letter in enumerate(found or [""]):
            result.append(Segment(letter, start + k * step, start + (k + 1) * step, stress(phoneme.symbol)))
    return result


def _quiet_before(wave: np.ndarray, rate: int) -> Callable[[float], float]:
    """A function from a time to the length of the silence just before it (seconds)."""
    hop = rate // 200
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop)
    loud = np.sqrt((frames**2).mean(1)) > 0.04 * (np.abs(wave).max() + 1e-9)

    def before(time: float) -> float:
        index = last = min(int(time * 200), len(loud))
        while index > 0 and not loud[index - 1]:
            index -= 1
        return (last - index) / 200

    return before


def closure_interval(segment: Segment) -> tuple[float, float]:
    """When the lips of a /p b m/ must be together (seconds)."""
    length = segment.end - segment.start
    if segment.letter == "m":
        return segment.start + 0.15 * length, segment.end - 0.15 * length
    return segment.start, segment.start + min(0.6 * length, 0.07)


def lip_curves(parts: list[Segment], frames: int, *, vigour: float = 1.0, lead: float = 0.0) -> LipCurves:
    """Lip motion for `frames` frames (25 Hz) from segments in seconds.

    vigour scales how far vowels open; lead moves the motion earlier (seconds).
    Time outside every segment is silence.
    """
    time = np.arange(int(frames * GRID / FRAME_RATE) + GRID) / GRID - 0.5
    opening, width = _dominate(parts, time, vigour)
    opening = gaussian_filter1d(opening, 0.018 * GRID) + _breaths(parts, time)
    width = gaussian_filter1d(width, 0.03 * GRID)
    at = np.arange(frames) / FRAME_RATE + lead
    closures = []
    for part in parts:
        if part.letter and part.viseme.opening <= CLOSED:
            start, end = closure_interval(part)
            centre, hold = (start + end) / 2, max(end - start, 0.044) / 2
            opening = _close(opening, time, centre, hold, CLOSED, speed=3.2)
            # The frames that fall inside the closure as the model will see it, sampled with the same lead.
            first, last = (centre - hold - lead) * FRAME_RATE, (centre + hold - lead) * FRAME_RATE
            closures.append((int(np.ceil(first)), int(np.floor(last))))
        elif part.letter and part.viseme.sound == Sound.LABIODENTAL:
            centre = (part.start + part.end) / 2
            opening = _close(opening, time, centre, 0.02, 0.022, speed=2.4)
    inside = [(a, b) for a, b in closures if a >= 0 and b < frames and b >= a]
    return LipCurves(
        np.interp(at, time, opening).astype(np.float32),
        np.interp(at, time, width).astype(np.float32),
        sound_rows(parts, frames * 2),
        np.array(inside, np.int32).reshape(-1, 2),
    )


def _dominate(parts: list[Segment], time: np.ndarray, vigour: float) -> tuple[np.ndarray, np.ndarray]:
    """Dominance-weighted means of opening and width over the time grid."""
    sums = np.zeros((2, len(time)))
    weights = np.full((2, len(time)), 1e-3)
    sums[0] += 1e-3 * REST
    for part in _with_silences(parts, time):
        viseme = part.viseme
        length = part.end - part.start
        centre, core = (part.start + part.end) / 2, 0.25 * length
        distance = np.maximum(np.abs(time - centre) - core, 0.0)
        vowel = viseme.sound >= Sound.VOWEL_CLOSE_SPREAD
        if viseme is PAUSE:
            # A short break keeps the mouth ajar, a long one lets it come to rest.
            rest = REST + AJAR * np.exp(-max(0.0, length - 0.3) / 0.6)
            targets, reach = (rest, 0.0), (0.11, 0.14)
        else:
            scale = part.strength * vigour if vowel else 0.5 + 0.5 * vigour
            targets = (viseme.opening * scale if viseme.opening > 0.03 else viseme.opening, 1.3 * viseme.width)
            reach = (0.075 if vowel else 0.05, 0.09)
        for row, (alpha, far) in enumerate(zip((viseme.opening_weight, viseme.width_weight), reach, strict=True)):
            # Short sounds are weaker: fast speech undershoots.
            alpha = alpha * min(1.0, 0.35 + length / 0.12)
            span = distance if row == 0 else np.where(time < centre, distance * 0.8, distance)
            dominance = alpha * np.exp(-((span / far) ** 1.4))
            sums[row] += dominance * targets[row]
            weights[row] += dominance
    return sums[0] / weights[0], sums[1] / weights[1]


def _breaths(parts: list[Segment], time: np.ndarray) -> np.ndarray:
    """The mouth opens a little in the quarter of a second before speech, where there was a pause to do it in."""
    result = np.zeros(len(time))
    silences = _with_silences(parts, time)
    for pause, sound in pairwise(silences):
        room = pause.end - pause.start
        if pause.viseme is PAUSE and sound.viseme is not PAUSE and room > 0.25:
            shape = np.exp(-0.5 * ((time - pause.end + 0.16) / 0.13) ** 2)
            result = np.maximum(result, BREATH * min(1.0, room / 0.6) * shape)
    return result


def _with_silences(parts: list[Segment], time: np.ndarray) -> list[Segment]:
    """Pauses joined, and the gaps before, between and after the speech made pauses too."""
    result: list[Segment] = []
    position = float(time[0])
    for part in sorted((p for p in parts if p.letter), key=lambda p: p.start):
        if part.start > position + 0.03:
            result.append(Segment("", position, part.start))
        result.append(part)
        position = max(position, part.end)
    if position < time[-1]:
        result.append(Segment("", position, float(time[-1]) + 0.5))
    return result


def _close(opening: np.ndarray, time: np.ndarray, centre: float, hold: float, level: float, speed: float) -> np.ndarray:
    """Bound the opening by a smooth valley: `level` for +-hold seconds around `centre`, then `speed` a second."""
    away = np.maximum(np.abs(time - centre) - hold, 0.0)
    ceiling = level + speed * away**2 / (away + 0.03)
    return np.minimum(opening, ceiling)


def sound_rows(parts: list[Segment], rows: int) -> np.ndarray:
    """Sound class of each 50 Hz row (0: silence); a row is centred 12.5 ms after its start."""
    result = np.zeros(rows, np.int8)
    centres = np.arange(rows) / 50 + 0.0125
    for part in parts:
        if part.letter:
            result[(centres >= part.start) & (centres < part.end)] = part.viseme.sound
    return result
