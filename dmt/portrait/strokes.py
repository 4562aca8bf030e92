"""Fine hairs drawn one by one: eyebrows, lashes, and the first short hairs of the hairline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .curves import resample, smooth_curve
from .frame import Frame
from .raster import splat


@dataclass(frozen=True)
class Strokes:
    """Tapered lines: points [N, P, 2] in units, root width [N] in units."""

    points: np.ndarray
    width: np.ndarray


def cover(frame: Frame, strokes: Strokes) -> np.ndarray:
    """Opacity [H, W] in 0..1 of the strokes together."""
    points, width = strokes.points, strokes.width
    longest = float(np.linalg.norm(np.diff(points, axis=1), axis=2).max())
    fine_per = max(1, int(np.ceil(longest * frame.scale / 0.6)))
    f = ((np.arange(fine_per) + 0.5) / fine_per)[None, None, :, None]
    a, b = points[:, :-1, None], points[:, 1:, None]
    fine = (a + (b - a) * f).reshape(len(points), -1, 2)
    step = np.repeat(np.linalg.norm(points[:, 1:] - points[:, :-1], axis=2), fine_per, axis=1) / fine_per
    along = np.linspace(0, 1, fine.shape[1])[None]
    taper = width[:, None] * (1 - along**1.4) * np.minimum(1, 0.5 + 4 * along)
    ink = (step * taper * frame.scale**2).reshape(-1, 1)
    return 1 - np.exp(-1.25 * splat(frame, fine.reshape(-1, 2), ink)[..., 0])


def _curl(root: np.ndarray, angle: np.ndarray, turn: np.ndarray, length: np.ndarray, steps: int = 9) -> np.ndarray:
    """Circular arcs [N, steps, 2]: start angle, total turn (radians), length (units)."""
    t = np.arange(steps) / (steps - 1)
    heading = angle[:, None] + turn[:, None] * t[None]
    move = np.stack([np.cos(heading), np.sin(heading)], -1) * (length / (steps - 1))[:, None, None]
    return root[:, None] + np.concatenate([np.zeros_like(move[:, :1]), np.cumsum(move[:, :-1], 1)], 1)


BROWS = {
    -1: ((107, 66, 105, 63, 70), (55, 65, 52, 53, 46)),
    1: ((336, 296, 334, 293, 300), (285, 295, 282, 283, 276)),
}
"""Upper and lower border of each brow, from the nose outwards."""


def brows(landmarks: np.ndarray, seed: int = 5, count: int = 460) -> Strokes:
    """Both eyebrows, between their landmarks' borders."""
    rng = np.random.default_rng(seed)
    points, widths = [], []
    for side, (upper, lower) in BROWS.items():
        top = resample(smooth_curve(landmarks[list(upper), :2], False), 64)
        low = resample(smooth_curve(landmarks[list(lower), :2], False), 64)
        u = rng.random(count) ** 0.9
        v = np.clip(0.5 + 0.24 * rng.standard_normal(count), 0.08, 0.92)
        # The brow is a band of even thickness that thins towards its tail.
        v = 0.58 + (v - 0.5) * (0.80 - 0.52 * np.clip((u - 0.45) / 0.55, 0, 1)) * np.clip(0.62 + 1.6 * u, 0, 1)
        index = np.clip((u * 62).astype(int), 0, 62)
        blend = (u * 62 - index)[:, None]
        upper_at, lower_at = (
            top[index] * (1 - blend) + top[index + 1] * blend,
            low[index] * (1 - blend) + low[index + 1] * blend,
        )
        root = lower_at * (1 - v[:, None]) + upper_at * v[:, None]
        along = (top[index + 1] + low[index + 1] - top[index] - low[index]) * [side, 1]
        base = np.arctan2(along[:, 1], along[:, 0])
        lift = (1.15 * np.exp(-((u / 0.16) ** 2)) + 0.42) * (1.15 - v) + 0.05
        angle = base - lift + 0.14 * rng.standard_normal(count)
        turn = 0.35 * lift + 0.25 * v
        length = (
            (0.060 + 0.030 * np.sin(np.pi * np.clip(u, 0, 1))) * (0.75 + 0.4 * rng.random(count)) * (1 - 0.35 * u**3)
        )
        arc = _curl(np.zeros((count, 2)), angle, turn, length) * [side, 1]
        points.append(root[:, None] + arc - arc[:, 2:3])
        widths.append(0.0056 * (0.6 + 0.6 * rng.random(count)) * np.clip(0.45 + 3 * u, 0, 1))
    return Strokes(np.concatenate(points), np.concatenate(widths))


UPPER_LIDS = {-1: (133, 173, 157, 158, 159, 160, 161, 246, 33), 1: (362, 398, 384, 385, 386, 387, 388, 466, 263)}
LOWER_LIDS = {-1: (133, 155, 154, 153, 145, 144, 163, 7, 33), 1: (362, 382, 381, 380, 374, 373, 390, 249, 263)}
"""Lid contours from the inner to the outer corner; -1 is the eye on the viewer's left."""


def lashes(landmarks: np.ndarray, seed: int = 6) -> Strokes:
    """Upper and lower lashes of both eyes."""
    rng = np.random.default_rng(seed)
    points, widths = [], []
    for lids, count, rise, size, ink in ((UPPER_LIDS, 150, -1, 0.064, 0.0070), (LOWER_LIDS, 64, 1, 0.028, 0.0015)):
        for side, lid in lids.items():
            curve = resample(smooth_curve(landmarks[list(lid), :2], False), 256)
            u = np.sort(0.14 + 0.86 * rng.random(count))
            root = curve[(u * 255).astype(int)]
            outward = -0.35 + 1.25 * u + 0.10 * rng.standard_normal(count)
            angle = rise * (np.pi / 2 - 0.95 * outward)
            turn = rise * (0.55 + 0.25 * outward)
            length = size * (0.45 + 0.75 * u**0.8 - 0.25 * u**6) * (0.75 + 0.35 * rng.random(count))
            points.append(root[:, None] + _curl(np.zeros((count, 2)), angle, turn, length) * [side, 1])
            widths.append(np.full(count, ink))
    return Strokes(np.concatenate(points), np.concatenate(widths))


def baby_hairs(line: Callable[[np.ndarray], np.ndarray], seed: int = 8, count: int = 900) -> Strokes:
    """Short soft hairs along the hairline `line(x) -> y`, combed away from the face."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.68, 0.68, count)
    root = np.stack([x, line(x) - 0.05 + 0.055 * rng.random(count)], 1)
    away = np.where(x > 0.2, 1.0, -1.0)
    angle = -np.pi / 2 + away * (0.55 + 0.5 * np.abs(x)) + 0.22 * rng.standard_normal(count)
    turn = away * (0.5 + 0.4 * rng.random(count))
    return Strokes(_curl(root, angle, turn, 0.07 + 0.07 * rng.random(count)), np.full(count, 0.0032))
