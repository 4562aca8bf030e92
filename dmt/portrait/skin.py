"""Colour, gloss and fine relief of the skin and lips, placed by the landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .curves import distance, smooth_curve
from .frame import Frame, mix, noise, smoothstep
from .raster import splat
from .strokes import UPPER_LIDS

UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
CREASES = {-1: (190, 56, 28, 27, 29, 30, 247), 1: (414, 286, 258, 257, 259, 260, 467)}
"""The fold above each upper lid, from the nose outwards."""


def srgb(red: int, green: int, blue: int) -> np.ndarray:
    """A display colour (0..255) as linear light [3]."""
    v = np.array([red, green, blue], np.float32) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


SKIN = srgb(226, 174, 144)
BLUSH = srgb(226, 138, 118)
LIP = srgb(197, 112, 104)
DEEP = srgb(120, 52, 44)
SHADE = srgb(176, 122, 100)


@dataclass(frozen=True)
class Skin:
    """albedo [H, W, 3] linear, roughness [H, W], relief [H, W] (height towards the viewer, units), lips [H, W] mask."""

    albedo: np.ndarray
    roughness: np.ndarray
    relief: np.ndarray
    lips: np.ndarray


def _spot(x: np.ndarray, y: np.ndarray, at: np.ndarray, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    c, s = np.cos(turn), np.sin(turn)
    dx, dy = x - at[0], y - at[1]
    return np.exp(-(((c * dx + s * dy) / rx) ** 2) - ((-s * dx + c * dy) / ry) ** 2)


def _both(x: np.ndarray, y: np.ndarray, at: np.ndarray, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    """A soft spot [H, W] at a landmark on the viewer's right and its mirror image."""
    mirrored = at * np.array([-1, 1, 1])[: len(at)]
    return _spot(x, y, at, rx, ry, turn) + _spot(x, y, mirrored, rx, ry, -turn)


def paint(frame: Frame, landmarks: np.ndarray, contours: dict[str, np.ndarray], seed: int = 3) -> Skin:
    """The skin of the whole picture; the caller cuts it out."""
    x, y = frame.grid()
    p = landmarks
    albedo = np.broadcast_to(SKIN, (*x.shape, 3)).copy()
    mottle = noise(frame, 0.10, seed) * 0.5 + noise(frame, 0.035, seed + 1) * 0.5
    albedo *= (1 + 0.022 * mottle)[..., None] ** np.array([0.5, 1.0, 1.1], np.float32)
    albedo = mix(albedo, BLUSH, 0.36 * _both(x, y, p[280] + [-0.02, 0.02, 0], 0.30, 0.20, -0.35))
    albedo = mix(albedo, BLUSH, 0.26 * _spot(x, y, p[4], 0.15, 0.12) + 0.10 * _spot(x, y, p[152], 0.25, 0.16))
    albedo = mix(albedo, srgb(238, 205, 178), 0.25 * _spot(x, y, p[151], 0.5, 0.25))
    albedo = mix(albedo, SHADE, 0.20 * _both(x, y, p[450], 0.20, 0.06, -0.1) + 0.10 * _both(x, y, p[463], 0.06, 0.10))
    albedo *= _lid_shadow(x, y, p)[..., None] ** np.array([0.75, 1.0, 0.95], np.float32)
    albedo = _freckles(frame, x, y, p, albedo, seed + 2)
    albedo = mix(
        albedo,
        SHADE,
        0.30 * _both(x, y, p[291] + [0.02, 0.004, 0], 0.035, 0.030) + 0.22 * _spot(x, y, p[18], 0.14, 0.035),
    )
    nostrils, wing = _nose(x, y, p)
    albedo = mix(albedo, srgb(60, 20, 16), 0.93 * nostrils)
    albedo = mix(albedo, srgb(150, 84, 68), 0.30 * wing)
    lips, lip_relief, lip_albedo = _lips(frame, x, y, p, contours, seed + 5)
    albedo += (lip_albedo - albedo) * lips[..., None]
    pores = noise(frame, 0.011, seed + 7) * 0.5 + noise(frame, 0.02, seed + 8) * 0.5
    relief = (
        0.00042 * pores * (1 - lips)
        + lip_relief
        - 0.020 * nostrils
        - 0.006 * wing
        - 0.010 * _creases(x, y, p)
        + _folds(x, y, p)
    )
    oily = _spot(x, y, p[4], 0.12, 0.2) + _spot(x, y, p[9], 0.3, 0.25)
    roughness = 0.42 - 0.06 * np.clip(oily, 0, 1) + 0.02 * pores
    roughness += (0.33 - roughness) * lips
    return Skin(albedo.astype(np.float32), roughness.astype(np.float32), relief.astype(np.float32), lips)


def _lid_shadow(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """A soft, darker tone [H, W] around the lashes and in the fold of the lid."""
    tone = np.ones_like(x)
    for side, lid in UPPER_LIDS.items():
        d = distance(x, y, smooth_curve(p[list(lid)], False), False)
        above = smoothstep(0.03, -0.03, y - p[lid[4], 1] - 0.04)
        tone *= 1 - 0.32 * np.exp(-((d / 0.045) ** 2)) * above
        fold = distance(x, y, smooth_curve(p[list(CREASES[side])], False), False)
        tone *= 1 - 0.42 * np.exp(-((fold / 0.009) ** 2)) - 0.10 * np.exp(-((fold / 0.05) ** 2))
    return tone


def _creases(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    folds = np.zeros_like(x)
    for crease in CREASES.values():
        d = distance(x, y, smooth_curve(p[list(crease)], False), False)
        folds += np.exp(-((d / 0.016) ** 2))
    return folds


def _folds(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Relief [H, W] of the philtrum, the folds beside nose and mouth and the hollows under the eyes."""
    middle = 0.5 * (p[2, 1] + p[0, 1])
    along = np.exp(-(((y - middle) / 0.075) ** 2))
    relief = along * (0.0035 * np.exp(-(((np.abs(x) - 0.045) / 0.02) ** 2)) - 0.0055 * np.exp(-((x / 0.026) ** 2)))
    for chain in ((358, 423, 426, 436), (129, 203, 206, 216), (463, 452, 451, 450), (243, 232, 231, 230)):
        d = distance(x, y, smooth_curve(p[list(chain)], False), False)
        relief -= 0.0045 * np.exp(-((d / 0.030) ** 2))
    return relief


def _freckles(frame: Frame, x: np.ndarray, y: np.ndarray, p: np.ndarray, albedo: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    where = np.concatenate([p[[50, 280]][rng.integers(0, 2, 80), :2], np.repeat(p[[5], :2], 30, 0)])
    where = where + rng.standard_normal(where.shape) * [0.15, 0.09]
    size = 0.010 + 0.006 * rng.random(len(where))
    dots = np.repeat(where, 24, 0) + rng.standard_normal((len(where) * 24, 2)) * np.repeat(size, 24)[:, None] * 0.45
    ink = splat(frame, dots, np.full((len(dots), 1), frame.scale**2 * 5.0e-6))[..., 0]
    return mix(albedo, srgb(178, 112, 80), np.clip(ink, 0, 0.5) * 0.45)


def _nose(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nostrils [H, W] and the crease around the wings [H, W]."""
    at = 0.5 * (p[290] + p[328])
    nostril = _both(x, y, at + np.array([0.0, -0.018, 0.0]), 0.052, 0.019, 0.22)
    nostril = smoothstep(0.25, 0.85, nostril)
    wing = np.zeros_like(x)
    for chain in ((358, 294, 327), (129, 64, 98)):
        d = distance(x, y, smooth_curve(p[list(chain)], False), False)
        wing += np.exp(-((d / 0.018) ** 2))
    return nostril, wing


def _lips(
    frame: Frame, x: np.ndarray, y: np.ndarray, p: np.ndarray, contours: dict[str, np.ndarray], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, relief and colour of the lips; the meeting line lies on the inner contours."""
    outline = smooth_curve(p[contours["lips_outer"]], True)
    edge = distance(x, y, outline, True)
    line = smooth_curve(p[list(UPPER_LIP)], False)
    seam = distance(x, y, line, False)
    lips = smoothstep(0.010, -0.022, edge)
    columns = max(8, int(1.1 / 0.013))
    rng = np.random.default_rng(seed)
    ridge = rng.standard_normal((2, columns))
    at = np.clip((x + 0.55 + 0.25 * x * (y - p[13, 1])) / 1.1, 0, 1) * (columns - 1)
    lines = np.interp(at.ravel(), np.arange(columns), ridge[0]).reshape(x.shape)
    lines += 0.5 * np.interp((at * 1.7 % (columns - 1)).ravel(), np.arange(columns), ridge[1]).reshape(x.shape)
    upper = smoothstep(0.02, -0.02, y - np.interp(x[0], line[:, 0], line[:, 1])[None])
    colour = np.broadcast_to(LIP, (*x.shape, 3)) * (1 + 0.06 * lines)[..., None]
    colour = mix(colour, srgb(176, 90, 86), 0.35 * upper)
    colour = mix(colour, srgb(216, 128, 118), 0.30 * (1 - upper) * _spot(x, y, p[16], 0.14, 0.05))
    colour = mix(colour, DEEP, 0.55 * np.exp(-((seam / 0.022) ** 2)))
    colour = mix(colour, srgb(58, 18, 18), 0.88 * np.exp(-((seam / 0.0085) ** 2)))
    rim = np.exp(-(((edge + 0.002) / 0.012) ** 2))
    relief = -0.0011 * lines * lips * smoothstep(0, -0.05, edge) + 0.003 * rim * upper
    return lips.astype(np.float32), relief, colour.astype(np.float32)
