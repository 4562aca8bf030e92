"""What the renderer knows of one portrait's head: its frame, its own expression, its surroundings.

Lengths are pixels unless said otherwise; `unit` is the portrait's eye distance in pixels, undone of
foreshortening. x right, y down, z away from the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..face.basis import CHIN, LandmarkBasis

MESH = 468
"""Landmarks that lie on the skin; the ten after them are the irises."""

UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""The inner lips from the person's right corner to the left, pairs above one another."""

UPPER_LIP_RINGS = (
    (191, 80, 81, 82, 13, 312, 311, 310, 415),
    (183, 42, 41, 38, 12, 268, 271, 272, 407),
    (184, 74, 73, 72, 11, 302, 303, 304, 408),
    (185, 40, 39, 37, 0, 267, 269, 270, 409),
)
LOWER_LIP_RINGS = (
    (95, 88, 178, 87, 14, 317, 402, 318, 324),
    (96, 89, 179, 86, 15, 316, 403, 319, 325),
    (77, 90, 180, 85, 16, 315, 404, 320, 307),
    (146, 91, 181, 84, 17, 314, 405, 321, 375),
)
"""From the inner edge outwards, without the corners."""

RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_UPPER_LID = (362, 398, 384, 385, 386, 387, 388, 466, 263)
LEFT_LOWER_LID = (362, 382, 381, 380, 374, 373, 390, 249, 263)
"""Lids from the viewer's left corner to the right, pairs above one another."""

RIGHT_BROW_EDGE = (46, 53, 52, 65, 55)
LEFT_BROW_EDGE = (285, 295, 282, 283, 276)
"""Lower edges of the brows, from the viewer's left."""

JAW = (152, 148, 377, 175, 199)
"""Points that follow the jaw bone and not the lip."""

STABLE = (168, 6, 197, 195, 5, 4, 33, 133, 263, 362, 127, 356, 234, 454, 10, 109, 338, 98, 327, 2)
"""Points that hardly move with expression; they fix the head's frame."""

NECK_PIVOT = (0.0, 1.15, 0.85)
"""Where the head turns, in eye distances from the bridge of the nose: the top of the neck."""


@dataclass(frozen=True)
class Anatomy:
    """landmarks [478, 3] pixels; unit pixels; frame [3, 3] rotates the basis' axes onto the
    portrait's; own [64] the portrait's own expression; own_gap: opening of its lips in units;
    pivot [3] pixels."""

    landmarks: Tensor
    unit: float
    frame: Tensor
    own: Tensor
    own_gap: float
    pivot: Tensor

    @staticmethod
    def of(landmarks: Tensor, basis: LandmarkBasis, neutral: Tensor) -> Anatomy:
        """Read a portrait's landmarks [478, 3]; `neutral` [64] is what a resting face is likely to be."""
        unit, frame = _align(basis.neutral, landmarks)
        own_gap = float((landmarks[14, 1] - landmarks[13, 1]) / unit)
        own = _own_expression(landmarks, basis, neutral, unit, frame)
        pivot = landmarks[168] + unit * frame @ torch.tensor(NECK_PIVOT)
        return Anatomy(landmarks, unit, frame, own, own_gap, pivot)


def _align(neutral: Tensor, landmarks: Tensor) -> tuple[float, Tensor]:
    """Scale and rotation of the similarity that takes the neutral face onto the portrait (Kabsch, Umeyama)."""
    index = list(STABLE)
    source, target = neutral[index].double(), landmarks[index].double()
    source, target = source - source.mean(0), target - target.mean(0)
    u, s, vt = torch.linalg.svd(target.T @ source)
    sign = torch.tensor([1.0, 1.0, float(torch.sign(torch.linalg.det(u @ vt)))], dtype=torch.float64)
    scale = float((s * sign).sum() / (source**2).sum())
    return scale, ((u * sign) @ vt).float()


def _own_expression(landmarks: Tensor, basis: LandmarkBasis, neutral: Tensor, unit: float, frame: Tensor) -> Tensor:
    """The portrait's own coefficients [64].

    Faces differ more by who they are than by what they feel, so only what expression changes
    much more than identity is believed, each with the spread that identity gives it: the gaps of
    the lips (0.006), the mouth's width (0.06) and how high its corners are (0.025).
    """
    face = (landmarks - landmarks[168]) @ frame / unit
    rows, seen = [], []
    directions = basis.basis
    for upper, lower in ((13, 14), (82, 87), (312, 317)):
        rows.append((directions[:, lower, 1] - directions[:, upper, 1]) / 0.006)
        gap = (face[lower, 1] - face[upper, 1]) - (basis.neutral[lower, 1] - basis.neutral[upper, 1])
        seen.append(gap / 0.006)
    for weights, spread, axis in (({291: 1.0, 61: -1.0}, 0.06, 0), ({291: 0.5, 61: 0.5, 0: -0.5, 17: -0.5}, 0.025, 1)):
        rows.append(sum(w * directions[:, i, axis] for i, w in weights.items()) / spread)
        seen.append(sum(w * (face[i, axis] - basis.neutral[i, axis]) for i, w in weights.items()) / spread)
    a, y = torch.stack(rows).double(), torch.stack(seen).double()  # [5, 64], [5]
    prior = basis.coef_cov.double()
    gain = prior @ a.T @ torch.linalg.inv(a @ prior @ a.T + torch.eye(len(a), dtype=torch.float64))
    return (neutral.double() + gain @ (y - a @ neutral.double())).float()


@dataclass(frozen=True)
class Surroundings:
    """Helper points around the face: points [N, 3] pixels, weight [N] share of the head's rotation
    they follow, jaw [N] share of the chin's movement they follow."""

    points: Tensor
    weight: Tensor
    jaw: Tensor


_RINGS = ((1.18, 0.62, 1.0), (1.42, 0.85, 0.95), (1.8, 0.9, 0.35), (2.3, 0.9, 0.0), (3.2, 0.9, 0.0))
"""Scale of the face's oval, depth (eye distances behind the bridge), share of the head's rotation."""


def surroundings(anatomy: Anatomy, oval: Tensor) -> Surroundings:
    """Rings of points around the face: hair and neck follow the head, what is farther stays."""
    lm, unit = anatomy.landmarks, anatomy.unit
    outline = lm[oval]
    centre = outline.mean(0)
    down = anatomy.frame[:, 1]
    reach = float((lm[CHIN] - centre) @ down)
    points, weights, jaws = [], [], []
    for scale, depth, weight in _RINGS:
        ring = centre + scale * (outline - centre)
        ring[:, 2] = lm[168, 2] + depth * unit
        below = (((ring - centre) @ down) / reach).clamp(0.6, 1.4)  # 1 at the chin's height
        neck = ((below - 0.6) / 0.8).clamp(0, 1)
        points.append(ring)
        weights.append(weight * (1 - 0.75 * neck))
        jaws.append((0.45 if scale < 1.3 else 0.0) * ((below - 0.95) / 0.3).clamp(0, 1))
    return Surroundings(torch.cat(points), torch.cat(weights), torch.cat(jaws))
