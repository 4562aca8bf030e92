"""Measures of landmarks that were found in both videos: distances, the lips' opening, blinks and jitter.

Landmarks are [T, 478, 3] in pixels in the order of MediaPipe's face mesh; a frame without a face is NaN throughout.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..face.basis import EYE_LEFT, EYE_RIGHT, LOWER_LIP, UPPER_LIP, LandmarkBasis
from ..face.landmarks import why_no_mesh
from ..rates import FRAME_RATE
from ..tracking.mesh import MeshTracker
from ..tracking.pixels import PixelTracker
from .lips import lag_correlations

SKIN = 468
"""Landmarks that F-LMD counts: all but the irises."""

EYES = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380))
"""Corner, two of the upper lid, corner, two of the lower lid: the six points of the eye aspect ratio."""

CLOSED_EYE = 0.6
"""Eyes whose aspect ratio is under this share of the video's own median are shut."""
BLINK_FRAMES = (2, 15)
"""Shortest and longest run of shut frames that counts as a blink: 80 to 600 ms."""

FEWEST = 25
"""Frames with a face in both videos that measures over time need."""

Look = Callable[[NDArray[np.uint8]], NDArray[np.float32] | None]


def tracker_class(kind: str = "auto") -> type[MeshTracker] | type[PixelTracker]:
    """What finds landmarks in picture after picture; an instance is a context manager and follows one video.

    kind: "mediapipe", "pixels" (no model; sees lips move, not how far they are apart, and no lids), or "auto":
    MediaPipe where it is installed. Raises InputError: MediaPipe was asked for and is missing; unknown kind.
    """
    missing = why_no_mesh()
    if kind not in ("auto", "mediapipe", "pixels"):
        raise InputError(f"unknown landmarks {kind!r}: expected auto, mediapipe, pixels or none")
    if kind == "mediapipe" and missing:
        raise InputError(f"MediaPipe {missing}; use --landmarks auto or pixels")
    return PixelTracker if kind == "pixels" or missing else MeshTracker


def landmark_distance(made: NDArray, reference: NDArray, points: NDArray | slice) -> NDArray[np.float64]:
    """LMD of each frame in pixels, [T]: mean distance of the points after each frame's mean point is taken off both."""
    a, b = (x[:, points, :2].astype(np.float64) for x in (made, reference))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    return np.linalg.norm(a - b, axis=-1).mean(1)


def mouth_points() -> NDArray[np.int64]:
    """Landmarks that M-LMD counts: both contours of the lips."""
    contours = LandmarkBasis.load().contours
    return np.unique(np.concatenate([contours["lips_outer"].numpy(), contours["lips_inner"].numpy()]))


def aperture(landmarks: NDArray) -> NDArray[np.float64]:
    """Gap of the inner lips over the distance of the outer eye corners, [T]."""
    gap = np.linalg.norm(landmarks[:, LOWER_LIP, :2] - landmarks[:, UPPER_LIP, :2], axis=-1)
    return gap / eye_distance(landmarks)


def eye_distance(landmarks: NDArray) -> NDArray[np.float64]:
    """Pixels between the outer eye corners, [T]."""
    return np.linalg.norm(landmarks[:, EYE_RIGHT, :2] - landmarks[:, EYE_LEFT, :2], axis=-1).astype(np.float64)


def eye_aspect_ratio(landmarks: NDArray) -> NDArray[np.float64]:
    """Height of the eyes over their width, mean of both, [T] (Soukupova and Cech 2016)."""
    ratios = []
    for points in EYES:
        a, b, c, d, e, f = (landmarks[:, i, :2].astype(np.float64) for i in points)
        height = np.linalg.norm(b - f, axis=-1) + np.linalg.norm(c - e, axis=-1)
        ratios.append(height / (2 * np.linalg.norm(a - d, axis=-1)))
    return np.mean(ratios, axis=0)


def blinks_per_minute(ratio: NDArray[np.float64]) -> float:
    """Blinks in an eye aspect ratio [T] at 25 frames a second; NaN frames count as open."""
    seen = ratio[np.isfinite(ratio)]
    shut = np.nan_to_num(ratio, nan=np.inf) < CLOSED_EYE * np.median(seen)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shut, [False]]).astype(int)))
    lengths = edges[1::2] - edges[::2]
    blinks = int(((lengths >= BLINK_FRAMES[0]) & (lengths <= BLINK_FRAMES[1])).sum())
    return 60.0 * blinks * FRAME_RATE / len(ratio)


def jitter(landmarks: NDArray) -> float:
    """Mean size of the second difference in time over all points, in thousandths of an eye distance.

    Head movement counts, for shaking heads are what it is for; frames without a face and their neighbours do not.
    """
    scaled = landmarks[:, :SKIN, :2].astype(np.float64) / np.nanmedian(eye_distance(landmarks))
    change = scaled[2:] - 2 * scaled[1:-1] + scaled[:-2]
    return 1000 * float(np.nanmean(np.linalg.norm(change, axis=-1)))


def face_curves(made: NDArray, reference: NDArray) -> dict[str, NDArray[np.float64]]:
    """Everything per frame, name -> [T]: m_lmd, f_lmd, aperture, aperture_reference."""
    return {
        "m_lmd": landmark_distance(made, reference, mouth_points()),
        "f_lmd": landmark_distance(made, reference, slice(0, SKIN)),
        "aperture": aperture(made),
        "aperture_reference": aperture(reference),
    }


def face_measures(made: NDArray, reference: NDArray, sees_lids: bool) -> dict[str, float]:
    """Measures over time, for landmarks with at least `FEWEST` frames with a face in both.

    aperture_correlation (Pearson, zero lag), aperture_best_lag (frames; positive: the made mouth is late), jitter,
    jitter_reference; with `sees_lids` also blink_rate and blink_rate_reference (per minute).
    """
    both = np.isfinite(made[:, 0, 0]) & np.isfinite(reference[:, 0, 0])
    if both.sum() < FEWEST:
        return {}
    scores = lag_correlations(aperture(made[both]), aperture(reference[both]))
    measures = {
        "aperture_correlation": scores[0],
        "aperture_best_lag": float(max(scores, key=lambda lag: scores[lag])),
        "jitter": jitter(made),
        "jitter_reference": jitter(reference),
    }
    if sees_lids:
        measures["blink_rate"] = blinks_per_minute(eye_aspect_ratio(made))
        measures["blink_rate_reference"] = blinks_per_minute(eye_aspect_ratio(reference))
    return measures
