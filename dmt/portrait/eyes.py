"""Eyeballs: shape, sclera, iris, pupil, and the reflections that make them look alive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .curves import distance, smooth_curve
from .frame import Frame, mix, smoothstep
from .raster import FAR
from .skin import srgb
from .strokes import LOWER_LIDS, UPPER_LIDS

RADIUS = 0.205
IRIS = 0.081
PUPIL = 0.031


@dataclass(frozen=True)
class Eyes:
    """depth [H, W] (FAR outside), normals, albedo and added light (reflections) [H, W, 3], lid shade [H, W]."""

    depth: np.ndarray
    normals: np.ndarray
    albedo: np.ndarray
    glint: np.ndarray
    shade: np.ndarray


def look(frame: Frame, landmarks: np.ndarray, seed: int = 9) -> Eyes:
    """Both eyes, centred on the iris landmarks 468 and 473."""
    x, y = frame.grid()
    depth = np.full(x.shape, FAR, np.float32)
    normals, albedo, glint = (np.zeros((*x.shape, 3), np.float32) for _ in range(3))
    shade = np.ones_like(x)
    for side, centre in ((-1, 468), (1, 473)):
        upper, lower = landmarks[list(UPPER_LIDS[side])], landmarks[list(LOWER_LIDS[side])]
        front = min(upper[4, 2], lower[4, 2]) + 0.012
        cx, cy = landmarks[centre, :2]
        dx, dy = x - cx, y - cy
        r2 = dx**2 + dy**2
        ball = r2 < (0.98 * RADIUS) ** 2
        z = front + RADIUS - np.sqrt(np.maximum(RADIUS**2 - r2, 1e-6))
        depth = np.where(ball, z, depth)
        n = np.stack([dx / RADIUS, dy / RADIUS, -np.sqrt(np.maximum(1 - r2 / RADIUS**2, 1e-6))], -1)
        normals = np.where(ball[..., None], n, normals)
        colour, light = _colour(x, y, dx, dy, np.sqrt(r2), side, upper, lower, seed + side)
        albedo = np.where(ball[..., None], colour, albedo)
        glint = np.where(ball[..., None], light, glint)
        shade = np.where(ball, _lid_shade(x, y, upper, lower), shade)
    return Eyes(depth.astype(np.float32), normals.astype(np.float32), albedo, glint, shade.astype(np.float32))


def _lid_shade(x: np.ndarray, y: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """How the lids and lashes darken the eyeball beside them."""
    above = distance(x, y, smooth_curve(upper, False), False)
    below = distance(x, y, smooth_curve(lower, False), False)
    corner = np.exp(-(((x - upper[0, 0]) ** 2 + (y - upper[0, 1]) ** 2) / 0.05**2))
    return (1 - 0.62 * (1 - 0.6 * corner) * np.exp(-((above / 0.038) ** 1.5))) * (
        1 - 0.22 * np.exp(-((below / 0.018) ** 1.5))
    )


def _colour(
    x: np.ndarray,
    y: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
    r: np.ndarray,
    side: int,
    upper: np.ndarray,
    lower: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    white = np.broadcast_to(srgb(236, 228, 222), (*x.shape, 3))
    toward_corner = np.minimum(np.hypot(x - upper[0, 0], y - upper[0, 1]), np.hypot(x - upper[-1, 0], y - upper[-1, 1]))
    colour = mix(white, srgb(222, 160, 146), 0.55 * np.exp(-((toward_corner / 0.07) ** 1.4)))
    tear = np.exp(-(((x - upper[0, 0] - side * 0.020) / 0.028) ** 2) - ((y - upper[0, 1] - 0.002) / 0.024) ** 2)
    colour = mix(colour, srgb(214, 130, 120), 0.9 * tear)
    wet = np.exp(-((distance(x, y, smooth_curve(lower, False), False) / 0.007) ** 2))
    colour = mix(colour, srgb(226, 158, 144), 0.6 * wet)
    iris = smoothstep(IRIS + 0.0055, IRIS - 0.0055, r)
    colour = colour + (_iris(dx, dy, r, seed) - colour) * iris[..., None]
    light = 0.10 * wet[..., None] * np.ones(3, np.float32)
    for at, size, strength in (((-0.027, -0.031), (0.0165, 0.0175), 1.15), ((0.030, 0.030), (0.011, 0.009), 0.16)):
        u = np.maximum(np.abs(dx - at[0]) / size[0], np.abs(dy - at[1] + 0.15 * (dx - at[0])) / size[1])
        light = light + (strength * smoothstep(1.15, 0.75, u))[..., None] * np.array([1.0, 0.98, 0.95], np.float32)
    return colour.astype(np.float32), light.astype(np.float32)


def _iris(dx: np.ndarray, dy: np.ndarray, r: np.ndarray, seed: int) -> np.ndarray:
    """Radial fibres between pupil and limbal ring, lit from the side opposite the key light."""
    rng = np.random.default_rng(seed + 20)
    angle = np.arctan2(dy, dx)
    t = np.clip((r - PUPIL) / (IRIS - PUPIL), 0, 1)
    fibres = np.zeros_like(r)
    for _ in range(26):
        k = rng.integers(9, 70)
        fibres += np.cos(k * angle + rng.uniform(0, 6.28) + rng.normal() * 1.2 * t) * rng.normal() / 5
    outer, inner = srgb(58, 92, 84), srgb(150, 112, 56)
    ring = np.exp(-(((t - 0.18 - 0.05 * fibres) / 0.22) ** 2))
    colour = mix(np.broadcast_to(outer, (*r.shape, 3)), inner, np.clip(0.85 * ring, 0, 1))
    colour = colour * np.clip(1 + 0.38 * fibres, 0.3, 1.9)[..., None]
    caustic = np.clip((dx * 0.62 + dy * 0.62) / IRIS, -1, 1)
    colour = colour * (1.15 + 0.75 * caustic)[..., None]
    colour = colour * (1 - 0.86 * smoothstep(0.70, 1.03, t))[..., None]
    pupil = smoothstep(PUPIL + 0.0045, PUPIL - 0.003, r)
    return mix(colour, srgb(10, 8, 8), pupil).astype(np.float32)
