"""The line between the lips: the darkest path from corner to corner, between reddish lips."""

from __future__ import annotations

import numpy as np
import scipy.ndimage as nd

_RESOLUTION = 120
"""Samples per eye distance of the patch below the eyes."""
_TOP, _BOTTOM = 0.48, 1.12
"""Heights searched, in eye distances below the pupils."""
_EXPECTED, _SPREAD = 0.775, 0.085
_SHADOW = 0.008
"""The darkest row lies this much (eye distances) over the line's landmarks: the upper lip's shadow."""
_HALF = 0.40
"""Half width of the patch, eye distances."""
_CORNER, _CORNER_SPREAD = 0.262, 0.03
"""Expected distance of a mouth corner from the middle."""


def find_mouth_line(image: np.ndarray, middle: np.ndarray, axes: np.ndarray, scale: float) -> np.ndarray:
    """The mouth line of a face as [n, 2] points from its right corner to its left one.

    middle [2]: between the pupils, pixels; axes [2, 2]: columns across and down the face;
    scale: pixels per eye distance. The points are in eye distances from `middle` along the axes.
    """
    patch = _patch(image, middle, axes, scale)
    grey = patch @ np.array([0.30, 0.59, 0.11])
    valley, red = _valley(grey), _redness(patch)
    row = _best_row(valley, red)
    path = _path(valley, row)
    heights = _TOP + path / _RESOLUTION + _SHADOW
    across = (np.arange(patch.shape[1]) - patch.shape[1] // 2) / _RESOLUTION
    right, left = _corners(valley, red, path, across)
    inside = (across >= right) & (across <= left)
    return np.column_stack([across[inside], nd.gaussian_filter1d(heights, 2.0)[inside]])


def _patch(image: np.ndarray, middle: np.ndarray, axes: np.ndarray, scale: float) -> np.ndarray:
    """RGB [h, w, 3] of the lower face, upright, `_RESOLUTION` samples per eye distance."""
    half = round(_HALF * _RESOLUTION)
    v, u = np.mgrid[0 : round((_BOTTOM - _TOP) * _RESOLUTION) + 1, -half : half + 1] / _RESOLUTION
    v = v + _TOP
    x, y = (middle[i] + scale * (u * axes[i, 0] + v * axes[i, 1]) for i in (0, 1))
    blur = max(0.0, 0.4 * scale / _RESOLUTION - 0.3)
    channels = [nd.gaussian_filter(image[..., c].astype(np.float32), blur) for c in range(3)]
    return np.stack([nd.map_coordinates(c, [y, x], order=1, mode="nearest") for c in channels], -1)


def _valley(grey: np.ndarray) -> np.ndarray:
    """How much darker each sample is than what lies a little above and below, 0 where it is not; about 0..1."""
    smooth = nd.gaussian_filter(grey, (1.0, 2.0))
    best = np.zeros_like(smooth)
    for reach in (3, 5, 8):
        above = nd.shift(smooth, (reach, 0), order=0, mode="nearest")
        below = nd.shift(smooth, (-reach, 0), order=0, mode="nearest")
        best = np.maximum(best, np.minimum(above, below) - smooth)
    return np.clip(best, 0, None) / (np.quantile(best, 0.995) + 1e-6)


def _redness(patch: np.ndarray) -> np.ndarray:
    """Red against green, relative to the patch's typical skin, scaled to about 0..1."""
    smooth = nd.gaussian_filter(patch, (1.5, 1.5, 0))
    ratio = np.log((smooth[..., 0] + 8) / (smooth[..., 1] + 8))
    low, high = np.quantile(ratio, [0.3, 0.985])
    return np.clip((ratio - low) / (high - low + 1e-6), 0, 1)


def _best_row(valley: np.ndarray, red: np.ndarray) -> int:
    """The row on which the mouth line most likely lies."""
    rows, columns = valley.shape
    weight = np.exp(-(((np.arange(columns) - columns // 2) / (0.16 * _RESOLUTION)) ** 2))
    weight /= weight.sum()
    # A line may sag: take the strongest response within a few rows.
    line = nd.maximum_filter(valley, (5, 1)) @ weight
    redness = red @ weight
    reach = round(0.045 * _RESOLUTION)
    lips = np.array(
        [min(redness[max(0, r - 2 * reach) : r + 1].mean(), redness[r : r + 2 * reach + 1].mean()) for r in range(rows)]
    )
    height = _TOP + np.arange(rows) / _RESOLUTION
    prior = np.exp(-0.5 * ((height - _EXPECTED) / _SPREAD) ** 2)
    return int(np.argmax((line + 0.9 * lips) * prior))


def _path(valley: np.ndarray, row: int) -> np.ndarray:
    """The darkest smooth path near `row`, one height per column (dynamic programming)."""
    reach = round(0.06 * _RESOLUTION)
    low = max(0, row - reach)
    cost = -valley[low : row + reach + 1].T  # [columns, rows]
    cost = cost + 0.25 * (np.abs(np.arange(cost.shape[1]) + low - row) / reach) ** 2
    total, back = cost[0].copy(), np.zeros(cost.shape, int)
    for column in range(1, len(cost)):
        steps = [
            np.pad(total, (1, 1), constant_values=np.inf)[1 + s : 1 + s + len(total)] + 0.12 * abs(s)
            for s in (-1, 0, 1)
        ]
        back[column] = np.argmin(steps, axis=0) - 1
        total = np.min(steps, axis=0) + cost[column]
    path = [int(np.argmin(total))]
    for column in range(len(cost) - 1, 0, -1):
        path.append(path[-1] + back[column, path[-1]])
    return np.array(path[::-1], float) + low


def _corners(valley: np.ndarray, red: np.ndarray, path: np.ndarray, across: np.ndarray) -> tuple[float, float]:
    """Where the line ends on both sides: its response drops, and the usual width counts too."""
    rows = path.round().astype(int)
    columns = np.arange(len(path))
    response = nd.gaussian_filter1d(valley[rows, columns] + 0.5 * red[rows, columns], 2.0)
    ends = []
    for sign in (-1, 1):
        u = sign * across
        drop = np.array(
            [
                response[(u > p - 0.08) & (u <= p)].mean() - response[(u > p) & (u <= p + 0.04)].mean()
                if p + 0.04 <= u.max()
                else -1.0
                for p in u
            ]
        )
        score = drop - 0.5 * 0.15 * ((u - _CORNER) / _CORNER_SPREAD) ** 2
        score[u < 0.15] = -np.inf
        ends.append(sign * float(u[np.argmax(score)]))
    # One end may fade in shadow: half of what sets the two apart is taken for error.
    half = (ends[1] - ends[0]) / 2
    return (ends[0] - half) / 2, (ends[1] + half) / 2
