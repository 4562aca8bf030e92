"""Tracked moments -> 25 rows a second: gaps bridged, other rates resampled, jitter removed, closures kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.signal import savgol_filter

from ..errors import InputError
from ..rates import FRAME_RATE

LONGEST_GAP = 0.4
"""Seconds without a face that are interpolated; longer ones are refused."""
SHORTEST = 0.5
"""Seconds that a clip must have."""
FACE_WINDOW, HEAD_WINDOW = 5, 11
"""Frames (25 a second) of the smoothing filters, of 2nd order: see `smoothed`."""
CLOSED = 0.03
"""Gaps of the lips under this, eye distances, are never made wider."""

Array = NDArray[np.float64]


def stretch_with_face(times: Array, found: NDArray[np.bool_]) -> slice:
    """From the first moment with a face to the last; InputError: none, too short, or lost in between for too long."""
    seen = np.flatnonzero(found)
    if not len(seen):
        raise InputError(
            "no face found in the video; use one that shows a face from the front, upright and well lit, for at "
            f"least {SHORTEST} s"
        )
    first, last = seen[0], seen[-1]
    if times[last] - times[first] < SHORTEST - 1.5 / FRAME_RATE:
        raise InputError(
            f"a face is seen for {times[last] - times[first]:.2f} s only; at least {SHORTEST} s are needed"
        )
    gaps = [(a, b) for a, b in pairwise_times(times[seen]) if b - a > LONGEST_GAP]
    if gaps:
        a, b = max(gaps, key=lambda gap: gap[1] - gap[0])
        raise InputError(
            f"the face is lost from {a:.1f} s to {b:.1f} s, and at most {LONGEST_GAP} s are bridged; extract the "
            "stretch before or after it (--start, --seconds)"
        )
    return slice(first, last + 1)


def pairwise_times(times: Array) -> NDArray[np.float64]:
    """Neighbouring moments, [n] -> [n - 1, 2]."""
    return np.column_stack([times[:-1], times[1:]])


def resampled(times: Array, rows: NDArray) -> Array:
    """Rows [n, D] seen at increasing `times` [n] -> rows [T, D] at 25 a second from times[0] on.

    Monotone cubic interpolation (Fritsch and Carlson 1980): it passes through every tracked moment and overshoots
    none, so a closure is not invented. Rows already at 25 a second come back as they are.
    """
    start = times[0]
    count = int(np.floor((times[-1] - start) * FRAME_RATE + 1e-3)) + 1
    at = np.clip(start + np.arange(count) / FRAME_RATE, start, times[-1])
    if len(times) == 1:
        return np.repeat(rows.astype(np.float64), count, 0)
    return np.stack([PchipInterpolator(times, column)(at) for column in np.asarray(rows, np.float64).T], 1)


def smoothed(rows: Array, window: int) -> Array:
    """Savitzky-Golay, 2nd order: the value of the parabola that fits `window` frames best, [T, D] -> [T, D].

    At 25 frames a second half the power is left at 5.9 Hz with 5 frames and at 2.5 Hz with 11; peaks of a few
    frames keep their height far better than under a moving average. Clips shorter than the window get the longest
    odd window that fits.
    """
    window = min(window, len(rows) - (len(rows) + 1) % 2)
    return savgol_filter(rows, window, 2, axis=0, mode="interp") if window >= 3 else rows


def smoothed_gaps(gaps: Array) -> Array:
    """The same of the gaps of the lips [T, 3], but a gap under `CLOSED` is never widened: closures stay closed."""
    smooth = smoothed(gaps, FACE_WINDOW)
    # 0 where the lips touch .. 1 from CLOSED on: how much of a widening is allowed
    allowed = np.clip(gaps / CLOSED, 0, 1)
    return np.where(smooth > gaps, gaps + allowed * (smooth - gaps), smooth)
