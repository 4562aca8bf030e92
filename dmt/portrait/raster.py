"""Triangles and points into pixels."""

from __future__ import annotations

import numpy as np

from .frame import Frame

FAR = np.float32(1e3)


def draw_mesh(
    frame: Frame, vertices: np.ndarray, triangles: np.ndarray, attributes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth [H, W] (FAR where empty) and interpolated attributes [H, W, A] of the nearest surface.

    vertices: [V, 3] in units; attributes: [V, A]. Meant for triangles of a few pixels each.
    """
    xy = frame.pixels(vertices[:, :2].copy())
    corner = xy[triangles]  # [F, 3, 2]
    low = np.floor(corner.min(1) - 0.5).astype(np.int64)
    span = np.ceil(corner.max(1) - 0.5).astype(np.int64) - low + 1
    a, ab, ac = corner[:, 0], corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    usable = np.abs(area) > 1e-9
    found = []
    for dy in range(int(span[:, 1].max())):
        for dx in range(int(span[:, 0].max())):
            pick = np.flatnonzero(usable & (span[:, 0] > dx) & (span[:, 1] > dy))
            column, row = low[pick, 0] + dx, low[pick, 1] + dy
            px, py = column + 0.5 - a[pick, 0], row + 0.5 - a[pick, 1]
            u = (px * ac[pick, 1] - py * ac[pick, 0]) / area[pick]
            v = (ab[pick, 0] * py - ab[pick, 1] * px) / area[pick]
            inside = (u >= -1e-4) & (v >= -1e-4) & (u + v <= 1 + 1e-4)
            inside &= (column >= 0) & (row >= 0) & (column < frame.size) & (row < frame.size)
            found.append((row[inside] * frame.size + column[inside], pick[inside], u[inside], v[inside]))
    pixel, face, u, v = (np.concatenate(part) for part in zip(*found, strict=True))
    weights = np.stack([1 - u - v, u, v], 1)
    z = (vertices[:, 2][triangles[face]] * weights).sum(1)
    order = np.argsort(-z, kind="stable")
    winner = np.full(frame.size**2, -1)
    winner[pixel[order]] = order
    hit = winner >= 0
    chosen = winner[hit]
    depth = np.full(frame.size**2, FAR, np.float32)
    depth[hit] = z[chosen]
    values = np.zeros((frame.size**2, attributes.shape[1]), np.float32)
    values[hit] = np.einsum("fk,fka->fa", weights[chosen], attributes[triangles[face[chosen]]])
    shape = (frame.size, frame.size)
    return depth.reshape(shape), values.reshape(*shape, -1)


def splat(frame: Frame, points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Add values [N, C] at points [N, 2] (units) into [H, W, C], spread bilinearly."""
    at = frame.pixels(points[:, :2].astype(np.float64)) - 0.5
    base = np.floor(at).astype(np.int64)
    part = at - base
    out = np.zeros((frame.size**2, values.shape[1]), np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = base[:, 0] + dx, base[:, 1] + dy
            weight = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            ok = (column >= 0) & (row >= 0) & (column < frame.size) & (row < frame.size)
            index = (row * frame.size + column)[ok]
            for channel in range(values.shape[1]):
                total = np.bincount(index, (weight * values[:, channel])[ok], frame.size**2)
                out[:, channel] += total.astype(np.float32)
    return out.reshape(frame.size, frame.size, -1)


def nearest(frame: Frame, points: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Index [H, W] of the point [N, 2 or 3] with the least depth [N] in each pixel; -1 where there is none."""
    at = np.floor(frame.pixels(points[:, :2].astype(np.float64))).astype(np.int64)
    ok = np.flatnonzero(((at >= 0) & (at < frame.size)).all(1))
    order = ok[np.argsort(-depth[ok], kind="stable")]
    out = np.full(frame.size**2, -1)
    out[at[order, 1] * frame.size + at[order, 0]] = order
    return out.reshape(frame.size, frame.size)
