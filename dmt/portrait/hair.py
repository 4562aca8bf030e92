"""Long hair: strands that grow from the scalp, fall around the head and gather into locks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frame import Frame, smoothstep
from .raster import FAR, nearest

CENTRE = np.array([0.0, -0.10, 0.74])
RADII = np.array([0.78, 0.86, 0.77])
PART = 0.20
STEP, STEPS = 0.03, 112


@dataclass(frozen=True)
class Strands:
    """points [N, P, 3] in units; tone [N] in -1..1, a colour offset per strand; reach [N] the used share of P."""

    points: np.ndarray
    tone: np.ndarray
    reach: np.ndarray


@dataclass(frozen=True)
class HairView:
    """What is seen of the hair: depth [H, W] (FAR where none), tangent and normal [H, W, 3], tone and along [H, W]."""

    depth: np.ndarray
    tangent: np.ndarray
    normal: np.ndarray
    tone: np.ndarray
    along: np.ndarray


def hairline(x: np.ndarray) -> np.ndarray:
    """Height y of the hairline on the forehead above x, in units."""
    u = np.abs(x)
    return -0.585 + 0.10 * u**2 + 0.75 * np.clip(u - 0.45, 0, None) ** 1.6 + 0.015 * np.cos(9 * u)


def grows(points: np.ndarray) -> np.ndarray:
    """Whether hair grows at the scalp points [N, 3]."""
    front = points[:, 2] < 0.72
    return np.where(front, points[:, 1] < hairline(points[:, 0]), points[:, 1] < 0.55)


def _roots(count: int, rng: np.random.Generator) -> np.ndarray:
    found = np.zeros((0, 3))
    while len(found) < count:
        d = rng.standard_normal((4 * count, 3))
        d /= np.linalg.norm(d, axis=1, keepdims=True)
        p = CENTRE + RADII * d
        found = np.concatenate([found, p[grows(p)]])
    return found[:count]


def _face_width(y: np.ndarray) -> np.ndarray:
    """Half width that the hair leaves free around the face and neck at height y."""
    cheek = 0.70 - 0.10 * smoothstep(0.3, 1.4, y) + 0.05 * smoothstep(1.3, 2.0, y)
    return np.where(y < -0.25, 0.735 * np.sqrt(np.clip((y + 0.63) / 0.38, 0, 1)), cheek)


def _grow(roots: np.ndarray, layer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Walk every strand from its root: away from the part, over the head, down."""
    count = len(roots)
    points = np.empty((count, STEPS, 3))
    p = roots.copy()
    side = np.where(roots[:, 0] > PART + 0.02 * np.sin(9 * roots[:, 2]), 1.0, -1.0)
    front = smoothstep(0.75, 0.25, roots[:, 2])
    velocity = np.stack([side * 0.9, -0.35 * np.ones(count), 0.25 + 0.3 * rng.random(count)], 1)
    rest_x = side * (0.80 + 0.16 * rng.random(count) + 0.9 * layer)
    behind = roots[:, 2] > 0.80
    rest_x = np.where(behind, 1.15 * roots[:, 0] + side * 0.9 * layer, rest_x)
    rest_z = np.where(front > 0.3, 0.40 + 0.25 * rng.random(count), 0.62 + 0.45 * rng.random(count))
    rest_z = np.where(behind, 1.0 + 0.3 * rng.random(count), rest_z)
    for step in range(STEPS):
        points[:, step] = p
        s = step * STEP
        out = (p - CENTRE) / RADII
        normal = out / RADII
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        hanging = smoothstep(-0.25, 0.35, p[:, 1])[:, None]
        want = np.stack([side * 1.0, 0.55 * np.ones(count), 0.30 * front], 1) * (1 - hanging)
        pull = np.stack([(rest_x - p[:, 0]) * 1.6, np.ones(count), (rest_z - p[:, 2]) * 1.2], 1)
        pull[:, 0] += side * 0.10 * np.sin((p[:, 1] - 0.6) * 2.2)
        want = want + pull * hanging + np.array([0, 0.25, 0]) * (1 - hanging)
        velocity = 0.80 * velocity + 0.20 * want
        velocity -= (velocity * normal).sum(1, keepdims=True) * normal * (1 - hanging)
        velocity /= np.linalg.norm(velocity, axis=1, keepdims=True) + 1e-9
        p = p + STEP * velocity
        p = _outside(p, layer * smoothstep(0.0, 0.45, np.float64(s)), side, front, 1 - hanging)
    return points


def _outside(
    p: np.ndarray, thickness: np.ndarray, side: np.ndarray, front: np.ndarray, cling: np.ndarray
) -> np.ndarray:
    """Push points out of the head and away from the face; where they cling, also back onto the head."""
    out = (p - CENTRE) / (RADII + thickness[:, None])
    radius = np.linalg.norm(out, axis=1, keepdims=True)
    factor = np.where(radius < 1, 1.0, cling) * (1 / np.maximum(radius, 1e-6) - 1) + 1
    p = CENTRE + (p - CENTRE) * factor
    free = _face_width(p[:, 1]) + 0.6 * thickness
    inside = (np.abs(p[:, 0]) < free) & (p[:, 1] > -0.25) & (front > 0.05)
    p[:, 0] = np.where(inside, p[:, 0] + 0.35 * (side * free - p[:, 0]), p[:, 0])
    return p


def grow(count: int, seed: int = 11) -> Strands:
    """`count` strands, the same for the same seed."""
    rng = np.random.default_rng(seed)
    guides = max(60, count // 90)
    guide_roots = _roots(guides, rng)
    guide_layer = 0.03 + 0.11 * rng.random(guides)
    guide = _grow(guide_roots, guide_layer, rng)
    guide += _wave(guide, rng, 0.055)
    roots = _roots(count, rng)
    layer = 0.015 + 0.14 * rng.random(count) ** 1.2
    owner = _nearest_guide(roots, layer, guide_roots, guide_layer)
    points = _grow(roots, layer, rng)
    s = np.arange(STEPS) * STEP
    spread = rng.standard_normal((count, 1, 3)) * [0.045, 0.03, 0.05]
    amount = (smoothstep(0.30, 1.5, s) * 0.86)[None, :, None]
    points += (guide[owner] + spread * (1 - 0.35 * smoothstep(1.2, 3.0, s))[None, :, None] - points) * amount
    frizz = _wave(points, rng, 0.006)
    tone = np.clip(0.6 * rng.standard_normal(guides)[owner] + 0.5 * rng.standard_normal(count), -1.6, 1.6)
    reach = np.clip(0.93 + 0.05 * rng.standard_normal(count) - 0.12 * rng.random(guides)[owner], 0.6, 1.0)
    points = points + frizz
    clear = _clear_of_face(points)
    return Strands(*(part[clear].astype(np.float32) for part in (points, tone, reach)))


def _clear_of_face(points: np.ndarray) -> np.ndarray:
    """Which strands [N] leave the forehead and the cheeks free."""
    x, y, z = np.moveaxis(points, -1, 0)
    low = (np.abs(x) < 0.56) & (y > hairline(x) + 0.03) & (y < 1.3) & (z < 0.6)
    return ~low.any(1)


def _wave(points: np.ndarray, rng: np.random.Generator, height: float) -> np.ndarray:
    """Sideways waves that grow with the distance from the root."""
    count = len(points)
    s = np.arange(STEPS) * STEP
    length = 0.85 + 0.25 * rng.random((count, 1))
    phase = rng.random((count, 1)) * 1.6 + np.where(points[:, :1, 0] > PART, 0.0, 1.2)
    angle = 2 * np.pi * s / length + phase
    grow_in = smoothstep(0.7, 2.2, s) * height * (0.6 + 0.8 * rng.random((count, 1)))
    return np.stack([np.sin(angle) * grow_in, np.zeros_like(angle), 0.8 * np.cos(angle) * grow_in], -1)


def _nearest_guide(roots: np.ndarray, layer: np.ndarray, guides: np.ndarray, guide_layer: np.ndarray) -> np.ndarray:
    a = np.concatenate([roots, 2.0 * layer[:, None]], 1)
    b = np.concatenate([guides, 2.0 * guide_layer[:, None]], 1)
    same = (roots[:, :1] > PART) == (guides[None, :, 0] > PART)
    owner = np.empty(len(a), np.int64)
    for start in range(0, len(a), 2000):
        part = np.s_[start : start + 2000]
        d = ((a[part, None] - b[None]) ** 2).sum(-1) + np.where(same[part], 0.0, 9.0)
        owner[part] = d.argmin(1)
    return owner


def view(frame: Frame, strands: Strands, chunk: int = 1500) -> HairView:
    """Draw the strands into the frame, one pixel wide, the nearest on top."""
    per_step = max(1, int(np.ceil(STEP * frame.scale / 0.9)))
    best = np.full((frame.size, frame.size), FAR, np.float32)
    strand = np.zeros((frame.size, frame.size), np.int32)
    place = np.zeros((frame.size, frame.size), np.float32)
    fraction = ((np.arange(per_step) + 0.5) / per_step).astype(np.float32)
    for start in range(0, len(strands.points), chunk):
        part = strands.points[start : start + chunk]
        a, b = part[:, :-1, None], part[:, 1:, None]
        fine = (a + (b - a) * fraction[None, None, :, None]).reshape(len(part), -1, 3)
        keep = np.arange(fine.shape[1]) < strands.reach[start : start + chunk, None] * fine.shape[1]
        which, where = np.nonzero(keep)
        fine = fine[which, where]
        winner = nearest(frame, fine, fine[:, 2])
        depth = np.where(winner >= 0, fine[winner, 2], FAR)
        closer = depth < best
        best[closer] = depth[closer]
        strand[closer] = start + which[winner[closer]]
        place[closer] = where[winner[closer]] / per_step
    return _attributes(strands, best, strand, place)


def _attributes(strands: Strands, depth: np.ndarray, strand: np.ndarray, place: np.ndarray) -> HairView:
    hit = depth < FAR / 2
    step = np.clip(place[hit].astype(np.int64), 0, STEPS - 2)
    owner = strand[hit]
    here, after = strands.points[owner, step], strands.points[owner, step + 1]
    tangent, normal = np.zeros((*depth.shape, 3), np.float32), np.zeros((*depth.shape, 3), np.float32)
    t = after - here
    tangent[hit] = t / (np.linalg.norm(t, axis=1, keepdims=True) + 1e-9)
    normal[hit] = _envelope_normal(here)
    tone, along = np.zeros_like(depth), np.zeros_like(depth)
    tone[hit] = strands.tone[owner]
    along[hit] = place[hit] * STEP
    return HairView(depth, tangent, normal, tone, along)


def _envelope_normal(p: np.ndarray) -> np.ndarray:
    """The outward direction of the hair as a mass: the head's above, a tress's below."""
    head = (p - CENTRE) / RADII**2
    head /= np.linalg.norm(head, axis=1, keepdims=True) + 1e-9
    tress = np.stack([(p[:, 0] - np.sign(p[:, 0]) * 0.88) * 2.2, np.zeros(len(p)), np.full(len(p), -0.8)], 1)
    tress /= np.linalg.norm(tress, axis=1, keepdims=True) + 1e-9
    amount = smoothstep(0.0, 0.9, p[:, 1])[:, None]
    n = head + (tress - head) * amount
    return n / (np.linalg.norm(n, axis=1, keepdims=True) + 1e-9)


def shine(tangent: np.ndarray, toward: np.ndarray, shift: np.ndarray, power: float) -> np.ndarray:
    """Kajiya-Kay highlight [H, W] for a light direction; `shift` [H, W] tilts the tangent along the normal."""
    half = toward + np.array([0.0, 0.0, -1.0])
    half = half / np.linalg.norm(half)
    t_h = tangent @ half.astype(np.float32) + shift
    return np.sqrt(np.clip(1 - t_h**2, 0, 1)) ** power
