"""Loop subdivision of a triangle mesh, with control points moved so that the surface interpolates."""

from __future__ import annotations

import numpy as np


class Subdivision:
    """`levels` rounds of Loop subdivision of `triangles` [F, 3] over `count` vertices.

    Boundary edges follow the cubic B-spline rule. The connectivity is worked out once;
    positions then pass through as often as needed.
    """

    def __init__(self, triangles: np.ndarray, count: int, levels: int) -> None:
        self._rounds = []
        for _ in range(levels):
            triangles, count, rule = _refine(triangles, count)
            self._rounds.append(rule)
        self.triangles = triangles

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Control points [count, 3] to vertices [V, 3]; old vertices keep their indices."""
        for rule in self._rounds:
            points = _apply(points, rule)
        return points

    def interpolating(self, points: np.ndarray, fixed: int, rounds: int = 60) -> np.ndarray:
        """Vertices [V, 3] whose first `fixed` agree with `points` to 1e-4 units or better."""
        control = points.copy()
        for _ in range(rounds):
            vertices = self(control)
            error = points[:fixed] - vertices[:fixed]
            if np.abs(error).max() < 1e-4:
                break
            control[:fixed] += 0.9 * error
        return vertices

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals [V, 3] that face the viewer's side of the surface (negative z in front)."""
        a, b, c = (vertices[self.triangles[:, i]] for i in range(3))
        face = np.cross(b - a, c - a)
        normals = np.zeros_like(vertices)
        for i in range(3):
            for axis in range(3):
                normals[:, axis] += np.bincount(self.triangles[:, i], face[:, axis], len(vertices))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        return -normals if normals[1, 2] > 0 else normals


def _refine(triangles: np.ndarray, count: int) -> tuple[np.ndarray, int, tuple]:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    opposite = np.concatenate([triangles[:, 2], triangles[:, 0], triangles[:, 1]])
    key = edges.min(1) * count + edges.max(1)
    unique, first, inverse, times = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    ends = np.stack([unique // count, unique % count], 1)
    wings = np.zeros((len(unique), 2), np.int64)
    wings[:, 0] = opposite[first]
    last = np.zeros(len(unique), np.int64)
    last[inverse] = np.arange(len(key))
    wings[:, 1] = opposite[last]
    middle = (count + inverse).reshape(3, -1)
    ab, bc, ca = middle
    a, b, c = triangles.T
    finer = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return finer, count + len(unique), (ends, wings, times == 1, count)


def _apply(points: np.ndarray, rule: tuple) -> np.ndarray:
    ends, wings, border, count = rule
    pair = points[ends[:, 0]] + points[ends[:, 1]]
    middle = np.where(border[:, None], 0.5 * pair, 0.375 * pair + 0.125 * (points[wings[:, 0]] + points[wings[:, 1]]))
    ring, valence = _sums(points, ends, count)
    share = np.where(valence == 3, 3 / 16, 3 / (8 * np.maximum(valence, 1)))[:, None]
    smooth = (1 - share * valence[:, None]) * points + share * ring
    edge_ring, edge_valence = _sums(points, ends[border], count)
    on_border = (edge_valence == 2)[:, None]
    smooth = np.where(on_border, 0.75 * points + 0.125 * edge_ring, smooth)
    smooth = np.where((valence == 0)[:, None], points, smooth)
    return np.concatenate([smooth, middle])


def _sums(points: np.ndarray, ends: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the neighbours and their number, for each vertex."""
    here, there = np.concatenate([ends, ends[:, ::-1]]).T
    total = np.stack([np.bincount(here, points[there, axis], count) for axis in range(3)], 1)
    return total, np.bincount(here, minlength=count)
