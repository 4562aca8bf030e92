"""A studio of soft lights, and how much of each every point of the scene sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frame import blur
from .raster import FAR


@dataclass(frozen=True)
class Lamp:
    """A round soft box: direction towards it (x, y, z), angular radius (radians), colour of its radiant power."""

    direction: tuple[float, float, float]
    spread: float
    colour: tuple[float, float, float]
    samples: int


KEY = Lamp((-0.76, -0.56, -0.66), 0.34, (2.75, 2.48, 2.16), 24)
FILL = Lamp((0.85, -0.05, -0.70), 0.5, (0.34, 0.38, 0.46), 14)
TOP = Lamp((0.15, -1.0, -0.30), 0.5, (0.42, 0.42, 0.44), 14)
LOW = Lamp((0.05, 0.75, -0.75), 0.5, (0.12, 0.10, 0.085), 10)
RIM = Lamp((0.92, -0.30, 0.30), 0.2, (1.3, 1.35, 1.5), 1)
LAMPS = (KEY, FILL, TOP, LOW)
SKY = np.array([0.22, 0.24, 0.28], np.float32)
DOME = 40


def unit(vector: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """The vector(s) [..., 3] at length one."""
    v = np.asarray(vector, np.float64)
    return v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-12)


def _directions(lamp: Lamp) -> np.ndarray:
    """Unit vectors [samples, 3] over the lamp's disc (a sunflower pattern)."""
    axis = unit(lamp.direction)
    side = unit(np.cross(axis, [0.0, 1.0, 0.2]))
    other = np.cross(axis, side)
    k = np.arange(lamp.samples)
    radius = np.tan(lamp.spread) * np.sqrt((k + 0.5) / lamp.samples)
    angle = k * 2.399963
    return unit(axis + radius[:, None] * (np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * other))


def _dome() -> np.ndarray:
    """Unit vectors [DOME, 3], cosine distributed about the line of sight, so that each weighs the same."""
    k = np.arange(DOME) + 0.5
    radius, angle = np.sqrt(k / DOME) * 0.98, k * 2.399963
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), -np.sqrt(1 - radius**2)], 1)


def _visible(depth: np.ndarray, scale: float, direction: np.ndarray, reach: float, steps: int) -> np.ndarray:
    """Share [H, W] of the light from `direction` that passes the height field `depth`."""
    height, width = depth.shape
    blocked = np.zeros_like(depth)
    for t in np.geomspace(1.5 / scale, reach, steps):
        dx, dy = round(float(direction[0] * t * scale)), round(float(direction[1] * t * scale))
        if (dx == 0 and dy == 0) or abs(dx) >= width or abs(dy) >= height:
            continue
        here = np.s_[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        there = np.s_[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
        over = depth[here] + direction[2] * t - depth[there]
        soft = 0.006 + 0.12 * t
        shade = np.clip((over - 0.006) / soft, 0, 1) * np.clip((1.0 - over) / 0.3, 0, 1)
        np.maximum(blocked[here], shade, out=blocked[here])
    return 1 - blocked


def illuminate(depth: np.ndarray, normals: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Irradiance [H, W, 3], openness to the sky [H, W] and visibility of the key light [H, W].

    depth: [H, W], FAR where empty; normals: [H, W, 3]; scale: pixels per unit of this raster.
    """
    solid = np.where(depth < FAR / 2, depth, 3.0).astype(np.float32)
    light = np.zeros((*depth.shape, 3), np.float32)
    key = np.zeros_like(solid)
    for lamp in LAMPS:
        for direction in _directions(lamp):
            seen = _visible(solid, scale, direction, 1.5, 30)
            facing = np.clip((normals @ direction.astype(np.float32) + 0.08) / 1.08, 0, None)
            light += (seen * facing)[..., None] * (np.array(lamp.colour, np.float32) / lamp.samples)
            if lamp is KEY:
                key += seen / lamp.samples
    openness = np.zeros_like(solid)
    weight = np.zeros_like(solid)
    for direction in _dome():
        facing = np.clip(normals @ direction.astype(np.float32), 0.02, None)
        openness += _visible(solid, scale, direction, 0.8, 18) * facing
        weight += facing
    openness /= weight
    hemisphere = 0.75 - 0.25 * normals[..., 1:2]
    return light + SKY * hemisphere * openness[..., None], openness, key


def rim(normals: np.ndarray) -> np.ndarray:
    """Light [H, W] that grazes the edges from behind, on both sides."""
    edge = np.clip(1.0 + normals[..., 2], 0, 1) ** 3
    a, b = unit(RIM.direction), unit(np.array(RIM.direction) * [-1, 1, 1])
    return edge * (np.clip(normals @ a, 0, 1) + 0.5 * np.clip(normals @ b, 0, 1)).astype(np.float32)


def gloss(normals: np.ndarray, roughness: np.ndarray, lamp: Lamp) -> np.ndarray:
    """Specular reflection [H, W] of a lamp (GGX, reflectance 0.028), its size added to the roughness."""
    toward = unit(lamp.direction)
    half = unit(toward + np.array([0.0, 0.0, -1.0]))
    n_h = np.clip(normals @ half, 0, 1)
    n_l = np.clip(normals @ toward, 0, 1)
    n_v = np.clip(-normals[..., 2], 0.05, 1)
    alpha = np.clip(roughness**2 + 0.25 * lamp.spread**2, 1e-3, 1)
    spread = alpha**2 / (np.pi * (n_h**2 * (alpha**2 - 1) + 1) ** 2)
    k = alpha / 2
    shadowing = 0.25 / ((n_l * (1 - k) + k) * (n_v * (1 - k) + k))
    fresnel = 0.028 + 0.972 * (1 - float(toward @ half)) ** 5
    return (spread * shadowing * fresnel * n_l).astype(np.float32)


def scatter(light: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
    """Light [H, W, 3] spread under the skin: widest for red, within `mask` [H, W] (subsurface scattering)."""
    profile = ((0.010, (0.38, 0.56, 0.68)), (0.026, (0.36, 0.32, 0.26)), (0.055, (0.26, 0.12, 0.06)))
    out = np.zeros_like(light)
    for radius, share in profile:
        sigma = radius * scale
        cover = blur(mask, sigma)
        out += blur(light * mask[..., None], sigma) / np.maximum(cover, 1e-3)[..., None] * np.array(share, np.float32)
    return np.where(mask[..., None] > 0, out, light)
