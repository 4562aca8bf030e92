"""The face: the basis's neutral mesh made symmetric, sculpted, extended to the skull and subdivided."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from importlib import resources

import numpy as np

from .subdivision import Subdivision

LANDMARKS = 478
SURFACE = 468
CORNERS = (33, 133, 263, 362, 78, 308)
"""Corners of the eyes and of the mouth, where the contours keep a sharp angle."""


@dataclass(frozen=True)
class Face:
    """landmarks [478, 3]; vertices [V, 3], normals [V, 3] and triangles [F, 3] of the smooth surface, in units.

    The first 468 vertices are the landmarks. contours: name -> landmark indices, closed loops in order.
    """

    landmarks: np.ndarray
    vertices: np.ndarray
    normals: np.ndarray
    triangles: np.ndarray
    contours: dict[str, np.ndarray]


def oriented(triangles: np.ndarray) -> np.ndarray:
    """The triangles [F, 3] turned so that neighbours agree on the side they face (in place of any order)."""
    faces = triangles.tolist()
    owners: dict[frozenset, list[int]] = {}
    for index, face in enumerate(faces):
        for k in range(3):
            owners.setdefault(frozenset((face[k], face[k - 1])), []).append(index)
    queue, seen = deque([0]), {0}
    while queue:
        a, b, c = faces[queue.popleft()]
        for first, second in ((a, b), (b, c), (c, a)):
            for other in owners[frozenset((first, second))]:
                if other not in seen:
                    seen.add(other)
                    face = faces[other]
                    if face[(face.index(first) + 1) % 3] == second:
                        face.reverse()
                    queue.append(other)
    return np.array(faces)


def mirror_map(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Index [468] of every mesh vertex's mirror image, found by walking both halves of the mesh at once.

    A few quads are split along different diagonals left and right; the vertices that the walk
    confuses there are paired by their distance after mirroring instead.
    """
    opposite = {}
    for a, b, c in triangles.tolist():
        opposite.update({(a, b): c, (b, c): a, (c, a): b})
    mirror = {10: 10, 151: 151}
    queue, seen = deque([(10, 151), (151, 10)]), set()
    while queue:
        a, b = queue.popleft()
        image = (mirror[b], mirror[a])
        if (a, b) in seen or (a, b) not in opposite or image not in opposite:
            continue
        seen.add((a, b))
        c = opposite[a, b]
        mirror.setdefault(c, opposite[image])
        queue.extend(((b, a), (c, b), (a, c)))
    walked = np.array([mirror.get(i, -1) for i in range(SURFACE)])
    sure = (walked >= 0) & (walked[walked] == np.arange(SURFACE))
    rest = np.flatnonzero(~sure)
    distance = np.linalg.norm(points[rest, None] * [-1, 1, 1] - points[None, rest], axis=-1)
    while np.isfinite(distance).any():
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        walked[rest[i]], walked[rest[j]] = rest[j], rest[i]
        distance[[i, j]] = distance[:, [i, j]] = np.inf
    return walked


def _falloff(points: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """A smooth bump [N] of height 1 around `centre` in the picture plane."""
    r = ((points[:, :2] - centre) / radii) ** 2
    return np.exp(-r.sum(1))


def symmetric(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Average the landmarks [478, 3] with their mirror image."""
    mirror = np.concatenate(
        [mirror_map(points[:SURFACE], triangles), [473, 476, 475, 474, 477, 468, 471, 470, 469, 472]]
    )
    return 0.5 * (points + points[mirror] * [-1.0, 1.0, 1.0])


def close_lips(points: np.ndarray, inner: np.ndarray) -> None:
    """Bring the inner contours of both lips onto one line, in place.

    `inner` is the closed contour of 20 points, 13 first: 13 to 78 to 14 to 308 and back.
    """
    ring = inner.tolist()
    upper = [ring[i] for i in (0, 1, 2, 3, 4, 16, 17, 18, 19)]
    lower = [ring[i] for i in (10, 9, 8, 7, 6, 14, 13, 12, 11)]
    for a, b in zip(upper, lower, strict=True):
        points[a] = points[b] = 0.5 * (points[a] + points[b])
    # The meeting line: a soft bow, lowest beside the middle, its ends turned up into a faint smile.
    line = [*upper, *lower, ring[5], ring[15]]
    half = abs(points[ring[5], 0])
    for i in sorted(set(line)):
        u = abs(points[i, 0]) / half
        points[i, 1] = 0.826 + 0.010 * np.exp(-((u / 0.22) ** 2)) + 0.012 * np.sin(np.pi * u) - 0.060 * u**2.3
        points[i, 2] = -0.105 + 0.138 * u**2.2


def sculpt(points: np.ndarray, contours: dict[str, np.ndarray]) -> np.ndarray:
    """Gentle changes of proportion: larger eyes, a narrower jaw and nose, fuller lips."""
    p = points.copy()
    y = p[:, 1].copy()
    down = np.clip((y - 0.15) / 1.25, 0, 1)
    outer = np.clip((np.abs(p[:, 0]) - 0.05) / 0.50, 0, 1)
    p[:, 0] *= 1.0 - 0.045 - 0.06 * down - 0.25 * outer * down
    p[:, 1] -= 0.10 * np.clip((y - 0.92) / 0.45, 0, 1) ** 1.5
    nose = _falloff(points, (0.0, 0.45), (0.26, 0.28))
    p[:, 0] *= 1.0 - 0.22 * nose
    p[:, 1] -= 0.040 * _falloff(points, (0.0, 0.52), (0.3, 0.18))
    p[:, 2] -= 0.035 * _falloff(points, (0.0, 0.38), (0.12, 0.26)) - 0.02 * _falloff(points, (0.0, -0.02), (0.1, 0.1))
    p[:, 0] *= 1.0 + 0.13 * _falloff(points, (0.0, 0.84), (0.40, 0.14))
    for side in (-1, 1):
        centre = np.array([side * 0.336, 0.068])
        grow = _falloff(p, tuple(centre), (0.27, 0.2))[:, None]
        grow[SURFACE:] = 0.0
        p[:, :2] += (p[:, :2] - centre) * grow * [0.17, 0.24]
        tilt = _falloff(p, (side * 0.5, 0.07), (0.12, 0.15))
        tilt[SURFACE:] = 0.0
        p[:, 1] -= 0.012 * tilt
        p[:, 1] -= 0.026 * _falloff(points, (side * 0.28, 0.85), (0.16, 0.13))
        p[:, 2] -= 0.012 * _falloff(points, (side * 0.42, 0.50), (0.2, 0.2))
        brow = _falloff(points, (side * 0.42, -0.2), (0.34, 0.13))
        p[:, 1] += 0.012 * brow
    _place_irises(p)
    close_lips(p, contours["lips_inner"])
    _shape_lips(p, contours)
    return p


def _place_irises(p: np.ndarray, radius: float = 0.081) -> None:
    """Round irises, level, a little under the upper lid: eyes that look at the viewer."""
    for centre, ring, side in ((468, (469, 470, 471, 472), -1), (473, (474, 475, 476, 477), 1)):
        upper, lower = (159, 145) if side < 0 else (386, 374)
        middle = 0.5 * (p[upper, 1] + p[lower, 1])
        p[centre, :2] = [side * 0.333, middle - 0.018]
        offsets = np.array([[1, 0], [0, -1], [-1, 0], [0, 1]]) * radius
        for index, offset in zip(ring, offsets, strict=True):
            p[index] = p[centre]
            p[index, :2] += offset


def _shape_lips(p: np.ndarray, contours: dict[str, np.ndarray]) -> None:
    """Round the lips between their outer contour and the meeting line."""
    outer = contours["lips_outer"]
    p[outer, 0] *= 1.0
    full = {0: -0.004, 37: -0.014, 267: -0.014, 39: -0.006, 269: -0.006, 17: 0.02, 84: 0.016, 314: 0.016}
    for index, dy in full.items():
        p[index, 1] += dy
    inner = contours["lips_inner"]
    # Rings between the contours: outer -> 1/3 -> 2/3 -> inner, as the topology runs.
    rows = (
        ((0, 11, 12, 13), (37, 72, 38, 82), (39, 73, 41, 81), (40, 74, 42, 80), (185, 184, 183, 191)),
        ((17, 16, 15, 14), (84, 85, 86, 87), (181, 180, 179, 178), (91, 90, 89, 88), (146, 77, 96, 95)),
        ((61, 76, 62, 78),),
    )
    right = {61: 291, 76: 306, 62: 292, 78: 308, 37: 267, 72: 302, 38: 268, 82: 312, 39: 269, 73: 303, 41: 271, 81: 311}
    right |= {40: 270, 74: 304, 42: 272, 80: 310, 185: 409, 184: 408, 183: 407, 191: 415, 84: 314, 85: 315, 86: 316}
    right |= {87: 317, 181: 405, 180: 404, 179: 403, 178: 402, 91: 321, 90: 320, 89: 319, 88: 318, 146: 375, 77: 307}
    right |= {96: 325, 95: 324, 0: 0, 11: 11, 12: 12, 13: 13, 17: 17, 16: 16, 15: 15, 14: 14}
    half = abs(p[inner, 0]).max()
    for block, bulge in zip(rows, (0.030, 0.046, 0.0), strict=True):
        for chain in block:
            for a, b, c, d in (chain, tuple(right[i] for i in chain)):
                fullness = bulge * np.clip(1.0 - (abs(p[d, 0]) / half) ** 2, 0, 1) ** 0.7
                p[b] = p[a] + (p[d] - p[a]) * 0.34
                p[c] = p[a] + (p[d] - p[a]) * 0.72
                p[b, 2] -= fullness
                p[c, 2] -= fullness * 0.95


def _extrude(
    points: np.ndarray, triangles: np.ndarray, loop: np.ndarray, rings: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Sew rings of new vertices [n, 3] onto a boundary loop; returns all points and all triangles."""
    edges = {(t[k], t[(k + 1) % 3]) for t in triangles.tolist() for k in range(3)}
    turn = (int(loop[0]), int(loop[1])) not in edges
    if turn:
        loop, rings = loop[::-1], [ring[::-1] for ring in rings]
    triangles, previous = [triangles], loop
    for ring in rings:
        new = len(points) + np.arange(len(loop))
        points = np.concatenate([points, ring])
        a, b, c, d = previous, np.roll(previous, -1), new, np.roll(new, -1)
        triangles += [np.stack([a, c, b], 1), np.stack([b, c, d], 1)]
        previous = new
    return points, np.concatenate(triangles)


def _skull_rings(p: np.ndarray, oval: np.ndarray) -> list[np.ndarray]:
    """Continue the face behind its oval: up over the forehead to the crown, back under jaw and cheeks."""
    edge = p[oval]
    out = edge[:, :2] - [0.0, 0.42]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    top = np.clip(-out[:, 1:] - 0.1, 0, 1) ** 0.6
    rings = []
    for up, side, back_up, back_side in (
        (0.16, 0.018, 0.10, 0.08),
        (0.30, 0.012, 0.26, 0.24),
        (0.40, -0.10, 0.62, 0.6),
    ):
        ring = edge.copy()
        ring[:, :2] += out * (side + (up - side) * top)
        ring[:, 2:] += back_side + (back_up - back_side) * top
        rings.append(ring)
    return rings


def _inward_rings(p: np.ndarray, loop: np.ndarray, steps: tuple[tuple[float, float], ...]) -> list[np.ndarray]:
    """Rings inside a hole: (fraction towards the hole's middle, distance back)."""
    edge = p[loop]
    middle = edge.mean(0)
    rings = []
    for inward, back in steps:
        ring = edge.copy()
        ring[:, :2] += (middle[:2] - edge[:, :2]) * inward
        ring[:, 2] += back
        rings.append(ring)
    return rings


def build(levels: int = 4) -> Face:
    """The face of the portrait; `levels` of subdivision quarter every triangle each."""
    with resources.files("dmt").joinpath("assets/landmark_basis.npz").open("rb") as file, np.load(file) as basis:
        triangles = oriented(basis["triangles"].astype(np.int64))
        neutral = basis["neutral"].astype(np.float64)
        names = ("lips_outer", "lips_inner", "left_eye", "right_eye", "oval")
        contours = {name: basis[name].astype(np.int64) for name in names}
    landmarks = sculpt(symmetric(neutral, triangles), contours)
    points = landmarks[:SURFACE]
    sharp_loops = (
        ("oval", _skull_rings(points, contours["oval"])),
        ("left_eye", _inward_rings(points, contours["left_eye"], ((0.035, 0.025), (0.10, 0.09)))),
        ("right_eye", _inward_rings(points, contours["right_eye"], ((0.035, 0.025), (0.10, 0.09)))),
        ("lips_inner", _inward_rings(points, contours["lips_inner"], ((0.0, 0.05), (0.0, 0.14)))),
    )
    for name, rings in sharp_loops:
        points, triangles = _extrude(points, triangles, contours[name], rings)
    surface = Subdivision(triangles, len(points), levels)
    vertices = surface.interpolating(points, fixed=SURFACE)
    normals = surface.normals(vertices)
    return Face(landmarks, vertices, normals, surface.triangles, contours)
