"""Curves through landmarks and distances to them."""

from __future__ import annotations

import numpy as np


def smooth_curve(points: np.ndarray, closed: bool, per_segment: int = 8) -> np.ndarray:
    """Catmull-Rom curve [M, D] through points [N, D]."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    p0, p1, p2, p3 = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(per_segment) / per_segment)[None, :, None]
    a, b, c, d = (p[:, None] for p in (p0, p1, p2, p3))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.reshape(-1, points.shape[1])
    return curve if closed else np.concatenate([curve, points[-1:]])


def resample(curve: np.ndarray, count: int) -> np.ndarray:
    """`count` points evenly spaced along a polyline [M, D]."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.linspace(0.0, length[-1], count)
    return np.stack([np.interp(at, length, curve[:, axis]) for axis in range(curve.shape[1])], 1)


def distance(x: np.ndarray, y: np.ndarray, curve: np.ndarray, closed: bool, reach: float = 0.3) -> np.ndarray:
    """Distance [H, W] of points to a polyline [M, 2+]; negative inside a closed one; `reach` where farther."""
    out = np.full(x.shape, reach, np.float32)
    low, high = curve[:, :2].min(0) - reach, curve[:, :2].max(0) + reach
    rows = np.flatnonzero((y[:, 0] > low[1]) & (y[:, 0] < high[1]))
    columns = np.flatnonzero((x[0] > low[0]) & (x[0] < high[0]))
    if not len(rows) or not len(columns):
        return out
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    px, py = x[window], y[window]
    best = np.full(px.shape, reach**2, np.float32)
    inside = np.zeros(px.shape, bool)
    ends = np.roll(curve, -1, 0) if closed else curve[1:]
    for (ax, ay), (bx, by) in zip(curve[: len(ends), :2].tolist(), ends[:, :2].tolist(), strict=True):
        ex, ey = bx - ax, by - ay
        t = np.clip(((px - ax) * ex + (py - ay) * ey) / (ex * ex + ey * ey + 1e-12), 0, 1)
        best = np.minimum(best, (px - ax - t * ex) ** 2 + (py - ay - t * ey) ** 2)
        if closed and ay != by:
            inside ^= ((ay > py) != (by > py)) & (px < ex * (py - ay) / (by - ay) + ax)
    out[window] = np.sqrt(best) * np.where(inside, -1.0, 1.0)
    return out
