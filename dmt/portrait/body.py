"""Neck, shoulders and sweater: signed distances, marched along the line of sight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frame import Frame
from .raster import FAR

FRONT = -0.3
SKIN, CLOTH, COLLAR = 0, 1, 2


@dataclass(frozen=True)
class Body:
    """depth [H, W] (FAR where empty), normals [H, W, 3], material [H, W] (SKIN, CLOTH or COLLAR)."""

    depth: np.ndarray
    normals: np.ndarray
    material: np.ndarray


def _smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    h = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b + (a - b) * h - width * h * (1 - h)


def _capsule(p: tuple, a: tuple, b: tuple, radius_a: float, radius_b: float) -> np.ndarray:
    x, y, z = p
    e = [b[i] - a[i] for i in range(3)]
    t = np.clip(((x - a[0]) * e[0] + (y - a[1]) * e[1] + (z - a[2]) * e[2]) / sum(v * v for v in e), 0, 1)
    d = np.sqrt((x - a[0] - t * e[0]) ** 2 + (y - a[1] - t * e[1]) ** 2 + (z - a[2] - t * e[2]) ** 2)
    return d - (radius_a + (radius_b - radius_a) * t)


def _ellipsoid(p: tuple, centre: tuple, radii: tuple) -> np.ndarray:
    k0 = np.sqrt(sum(((p[i] - centre[i]) / radii[i]) ** 2 for i in range(3)))
    k1 = np.sqrt(sum(((p[i] - centre[i]) / radii[i] ** 2) ** 2 for i in range(3)))
    return k0 * (k0 - 1) / (k1 + 1e-9)


def _skin(p: tuple) -> np.ndarray:
    x, y, z = p
    half = (np.abs(x), y, z)
    neck = _capsule(p, (0, 0.6, 0.82), (0, 2.0, 0.94), 0.37, 0.40)
    shoulders = _capsule(half, (0.2, 2.16, 1.0), (1.25, 2.42, 1.0), 0.36, 0.38)
    trapezius = _capsule(half, (0.18, 1.6, 1.0), (0.95, 2.08, 1.05), 0.24, 0.20)
    chest = _ellipsoid(p, (0, 3.0, 0.92), (1.45, 1.15, 0.66))
    bones = _capsule(half, (0.12, 2.02, 0.50), (0.9, 1.93, 0.66), 0.05, 0.05)
    muscle = _capsule(half, (0.12, 2.0, 0.52), (0.33, 1.0, 0.86), 0.07, 0.07)
    trunk = _smooth_min(_smooth_min(shoulders, chest, 0.3), trapezius, 0.25)
    d = _smooth_min(neck, trunk, 0.22)
    return _smooth_min(_smooth_min(d, muscle, 0.10), bones, 0.14)


def _neckline(p: tuple) -> np.ndarray:
    """Positive below the plane that cuts the sweater's neck."""
    return p[1] - (1.96 - (p[2] - 0.85) * 0.42)


def _cloth(p: tuple, skin: np.ndarray) -> np.ndarray:
    folds = 0.012 * np.sin(5.0 * p[0] + 3.0 * np.sin(2.2 * p[1] + 1.0)) * np.sin(3.1 * p[1] + 1.3 * p[0])
    return np.maximum(skin - 0.055 + folds, -_neckline(p) - 0.02)


def _collar(p: tuple, skin: np.ndarray) -> np.ndarray:
    across = np.abs(_neckline(p) - 0.05) - 0.045
    out = np.abs(skin - 0.035) - 0.02
    return np.hypot(np.maximum(across, 0), np.maximum(out, 0)) + np.minimum(np.maximum(across, out), 0) - 0.025


def march(frame: Frame, top: float = 0.7, steps: int = 56) -> Body:
    """See the body from the front; nothing is looked for above `top` (units)."""
    x, y = frame.grid()
    rows = np.flatnonzero(y[:, 0] > top)
    x, y = x[rows], y[rows]
    z = np.full(x.shape, FRONT, np.float32)
    alive = np.ones(x.shape, bool)
    for _ in range(steps):
        p = (x[alive], y[alive], z[alive])
        skin = _skin(p)
        z[alive] += 0.8 * np.minimum(np.minimum(skin, _cloth(p, skin)), _collar(p, skin))
        alive &= z < 1.6
    hit = alive
    normals = np.stack([_gradient(axis, x, y, z) for axis in range(3)], -1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
    p = (x, y, z)
    skin = _skin(p)
    material = np.argmin(np.stack([skin, _cloth(p, skin), _collar(p, skin)]), 0)
    depth = np.full((frame.size, frame.size), FAR, np.float32)
    depth[rows] = np.where(hit, z, FAR)
    all_normals = np.zeros((frame.size, frame.size, 3), np.float32)
    all_normals[rows] = normals
    all_material = np.zeros((frame.size, frame.size), np.int64)
    all_material[rows] = material
    return Body(depth, all_normals, all_material)


def _gradient(axis: int, x: np.ndarray, y: np.ndarray, z: np.ndarray, step: float = 0.004) -> np.ndarray:
    values = []
    for sign in (1, -1):
        p = [x, y, z]
        p[axis] = p[axis] + sign * step
        skin = _skin(tuple(p))
        values.append(np.minimum(np.minimum(skin, _cloth(tuple(p), skin)), _collar(tuple(p), skin)))
    return values[0] - values[1]
