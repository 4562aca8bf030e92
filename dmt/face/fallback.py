"""Landmarks without a landmark model: a face box, then the pixels of pupils and mouth.

dlib's frontal detector gives the box; the mean face is laid on the pupils (circle voting) and
stretched so that its mouth line lies on the darkest path between reddish lips. Errors against
MediaPipe on four portraits: mouth line within about 2 % of the eye distance.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.ndimage as nd
from PIL import Image

from .basis import LandmarkBasis
from .mouthline import find_mouth_line

_DETECTION_SIZE = 800
"""Longest side on which faces are looked for, pixels."""
_WORK = 160
"""Width of the face box, pixels, while pupils are looked for."""

_PUPILS = 0.443
"""Distance of the pupils over the width of dlib's box; their height over its middle follows."""
_PUPIL_HEIGHT = -0.205
_CHIN = 0.94
"""Chins in pictures are a little nearer to the mouth than the mean face's."""
_IRIS = 0.040
"""Radius of an iris over the box's width."""


def face_boxes(image: np.ndarray) -> list[np.ndarray]:
    """Frontal faces in uint8 RGB [H, W, 3], largest first: each [left, top, right, bottom] in pixels."""
    import dlib

    detector = dlib.get_frontal_face_detector()
    height, width = image.shape[:2]
    scale = min(1.0, _DETECTION_SIZE / max(height, width))
    small = np.asarray(Image.fromarray(image).resize((max(1, round(width * scale)), max(1, round(height * scale)))))
    found = detector(np.ascontiguousarray(small), 1)
    boxes = [np.array([r.left(), r.top(), r.right(), r.bottom()], float) / scale for r in found]
    return sorted(boxes, key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))


def estimate_landmarks(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Landmarks [478, 3] float32 in pixels for the face in `box`."""
    right, left = _pupils(image, box)
    face = closed_face()
    eyes = face[[468, 473], :2]
    between = left - right
    rest = eyes[1] - eyes[0]
    scale = np.linalg.norm(between) / np.linalg.norm(rest)
    turn = np.arctan2(between[1], between[0]) - np.arctan2(rest[1], rest[0])
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    face = face - np.append(eyes.mean(0), 0)
    middle = (right + left) / 2
    line = find_mouth_line(image, middle, axes, scale)
    face = _stretch(face, line)
    flat = middle + scale * face[:, :2] @ axes.T
    return np.column_stack([flat, scale * face[:, 2]]).astype(np.float32)


@cache
def closed_face() -> np.ndarray:
    """The mean face with closed lips, [478, 3] in eye distances; treat as read-only."""
    import torch

    basis = LandmarkBasis.load()
    points = torch.tensor([13, 14, 82, 87, 312, 317, 61, 291])
    target = torch.zeros(len(points), 3)
    for upper, lower in ((0, 1), (2, 3), (4, 5)):
        gap = float(basis.neutral[points[lower], 1] - basis.neutral[points[upper], 1])
        target[upper, 1], target[lower, 1] = 0.15 * gap, -0.85 * gap
    weights = torch.tensor([[0.0, 1, 0]] * 6 + [[1.0, 1, 0]] * 2)
    face = basis.landmarks(basis.solve(target, points, weights, noise=0.003)).numpy()
    # Faces are not symmetric, the mean one need not be either; the middle of its eyes is its axis.
    return face.astype(np.float64)


def _stretch(face: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Move the mouth of `face` (origin between the pupils) onto `line` [n, 2] and the rest along with it."""
    mouth = (face[13, :2] + face[14, :2]) / 2
    middle = np.array([np.mean(line[[0, -1], 0]), np.interp(np.mean(line[[0, -1], 0]), line[:, 0], line[:, 1])])
    ratio = middle[1] / mouth[1]
    out = face.copy()
    below = np.clip(face[:, 1] / mouth[1], 0, None)
    share = np.clip(below, 0, 1)
    # From the eyes to the mouth lengths scale with it; below it by half, for chins vary on their own.
    extra = _CHIN * (face[:, 1] - mouth[1])
    out[:, 1] = np.where(below <= 1, face[:, 1] * (1 + (ratio - 1) * share), middle[1] + extra * (1 + (ratio - 1) / 2))
    out[:, 0] += (middle[0] - mouth[0]) * np.clip(share, 0, 1) ** 2
    width = (line[-1, 0] - line[0, 0]) / (face[291, 0] - face[61, 0])
    near = np.exp(-((np.abs(face[:, 1] - mouth[1]) / 0.25) ** 2)) * np.exp(-((face[:, 0] / 0.38) ** 4))
    out[:, 0] = middle[0] + (out[:, 0] - middle[0]) * (1 + (width - 1) * near)
    # The line's shape: what remains at each column moves the lips there.
    inner = face[[78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308], :2]
    wanted = np.interp(out[[78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308], 0], line[:, 0], line[:, 1])
    now = out[[78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308], 1]
    lower = out[[78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308], 1]
    rest = wanted - (now + lower) / 2
    shape = np.interp(face[:, 0], inner[:, 0], rest)
    out[:, 1] += shape * np.exp(-((np.abs(face[:, 1] - mouth[1]) / 0.13) ** 2)) * np.exp(-((face[:, 0] / 0.36) ** 8))
    return out


def _pupils(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the viewer's left and right pupil in pixels, the most plausible pair."""
    left, top, right, bottom = box
    width = right - left
    scale = _WORK / width
    reach = 0.75 * width
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    origin = middle - reach
    grey = _rectified(image, origin, 2 * reach, round(2 * reach * scale))
    centre = reach * scale
    blurred = nd.gaussian_filter(grey, 2.0)
    candidates = []
    for side in (-1, 1):
        at = centre + _WORK * np.array([side * _PUPILS / 2, _PUPIL_HEIGHT])
        candidates.append(_circle_votes(grey, at, 0.16 * _WORK, _IRIS * _WORK))
    best, pair = -np.inf, None
    for a, vote_a in candidates[0]:
        for b, vote_b in candidates[1]:
            d = (b - a) / _WORK
            height = ((a + b) / 2 - centre)[1] / _WORK
            unlikely = ((d[0] - _PUPILS) / 0.03) ** 2 + (d[1] / 0.06) ** 2 + ((height - _PUPIL_HEIGHT) / 0.06) ** 2
            score = vote_a + vote_b - 0.15 * unlikely + 0.8 * _mirrored_likeness(blurred, a, b)
            if score > best:
                best, pair = score, (a, b)
    a, b = (origin + p / scale for p in pair)
    return a, b


def _rectified(image: np.ndarray, origin: np.ndarray, side: float, pixels: int) -> np.ndarray:
    """A grey square of the picture, resized; beyond the picture its edge is repeated."""
    y, x = np.mgrid[0:pixels, 0:pixels] * (side / pixels)
    weights = np.array([0.30, 0.59, 0.11])
    grey = nd.gaussian_filter((image @ weights).astype(np.float32), max(0.0, 0.4 * side / pixels - 0.3))
    return nd.map_coordinates(grey, [origin[1] + y, origin[0] + x], order=1, mode="nearest")


def _circle_votes(grey: np.ndarray, at: np.ndarray, reach: float, radius: float) -> list[tuple[np.ndarray, float]]:
    """Up to 12 likely pupil centres near `at` with a score of about 0..1.

    Edges of a dark disc point away from its centre (Timm and Barth 2011); here each vote also
    counts how well its distance fits the iris and how dark the centre is.
    """
    border = round(2.5 * radius)
    x0, y0 = (round(v - reach) - border for v in at)
    n = 2 * (round(reach) + border)
    patch = grey[max(0, y0) : y0 + n, max(0, x0) : x0 + n]
    smooth = nd.gaussian_filter(patch, 0.8)
    gy, gx = np.gradient(smooth)
    size = np.hypot(gx, gy) + 1e-6
    ys, xs = np.nonzero(size > np.quantile(size, 0.75))
    direction = (np.stack([gx, gy]) / size)[:, ys, xs].astype(np.float32)
    strength = np.minimum(size[ys, xs] / np.quantile(size, 0.97), 1.0).astype(np.float32)
    cy, cx = (c.ravel() for c in np.mgrid[border : patch.shape[0] - border : 2, border : patch.shape[1] - border : 2])
    dx, dy = np.subtract.outer(-cx, -xs, dtype=np.float32), np.subtract.outer(-cy, -ys, dtype=np.float32)
    distance = np.hypot(dx, dy) + np.float32(1e-6)
    facing = np.clip((dx * direction[0] + dy * direction[1]) / distance, 0, 1) ** 2
    # Lids hide the iris above and below: edges at its sides count most.
    fits = np.exp(-(((distance - radius) / (0.35 * radius)) ** 2)) * (0.35 + 0.65 * np.abs(dx) / distance)
    votes = np.zeros(patch.shape)
    votes[cy, cx] = (facing * fits) @ strength
    votes = nd.gaussian_filter(votes, 1.2)
    low, high = np.quantile(smooth, [0.02, 0.8])
    dark = np.clip((high - nd.uniform_filter(smooth, max(1, round(radius)))) / (high - low + 1e-6), 0, 1)
    score = votes / (votes.max() + 1e-9) * (0.3 + 0.7 * dark)
    yy, xx = np.mgrid[0 : patch.shape[0], 0 : patch.shape[1]]
    away = (xx + x0 - at[0]) ** 2 + (yy + y0 - at[1]) ** 2
    score = score * np.exp(-away / (2 * (0.85 * reach) ** 2))
    peaks = np.argwhere((score == nd.maximum_filter(score, 5)) & (score > 0))
    peaks = sorted(peaks, key=lambda p: -score[tuple(p)])[:12]
    return [(_peak(score, p) + np.array([x0, y0]), float(score[tuple(p)])) for p in peaks]


def _mirrored_likeness(grey: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of the surroundings of `a` with the mirrored ones of `b`: eyes are alike, others seldom."""
    angle = np.arctan2(*(b - a)[::-1])
    v, u = np.mgrid[-0.10:0.08:18j, -0.15:0.15:30j] * _WORK
    patches = []
    for centre, sign in ((a, 1), (b, -1)):
        x = centre[0] + sign * u * np.cos(angle) - v * np.sin(angle)
        y = centre[1] + sign * u * np.sin(angle) + v * np.cos(angle)
        values = nd.map_coordinates(grey, [y, x], order=1, mode="nearest")
        patches.append((values - values.mean()) / (values.std() + 1e-6))
    return float((patches[0] * patches[1]).mean())


def _peak(score: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y) of a peak's neighbourhood: less than a pixel."""
    y0, x0 = np.maximum(at - 2, 0)
    part = score[y0 : y0 + 5, x0 : x0 + 5] ** 2
    y, x = np.mgrid[0 : part.shape[0], 0 : part.shape[1]]
    return np.array([x0 + (part * x).sum() / part.sum(), y0 + (part * y).sum() / part.sum()])
