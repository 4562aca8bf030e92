"""Rigid movement of a tracked head: a similarity per frame, its angles, and DreamTalk's crop columns.

Axes: x right, y down, z away from the viewer; lengths of a face in eye distances, of the picture in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..face.pose import REST
from ..renderer.anatomy import STABLE

ORIGIN = (0.0, 0.46, 0.40)
"""The point of the head that the crop columns follow, eye distances from the bridge of the nose. Measured on
DreamTalk's published clip: there tx and ty follow it within 0.7 and 1.1 pixels (standard deviation)."""
CROP_EYES = 87.7
"""Pixels between the outer eye corners in a 256-pixel crop of scale 1; measured on the same clip (spread 1.3 %)."""
SAMPLE = 600
"""Frames, evenly spread over the clip, that its own face is measured on."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Attitude:
    """How the head lies in each of T frames: landmarks = scale * face @ rotation^T + shift.

    rotation [T, 3, 3], scale [T] pixels per eye distance, shift [T, 3] pixels.
    """

    rotation: Array
    scale: Array
    shift: Array

    def origin(self) -> Array:
        """Where `ORIGIN` is in the picture, [T, 2] pixels."""
        moved = self.shift + self.scale[:, None] * (self.rotation @ np.array(ORIGIN))
        return moved[:, :2]


def attitude(landmarks: NDArray, face: Array) -> Attitude:
    """The similarity that lays `face` [478, 3] onto landmarks [T, 478, 3] at the points that stay (Umeyama 1991)."""
    index = list(STABLE)
    source, target = face[index], landmarks[:, index].astype(np.float64)
    centre, middle = source.mean(0), target.mean(1)
    source, target = source - centre, target - middle[:, None]
    u, s, vt = np.linalg.svd(np.einsum("tni,nj->tij", target, source))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(1) / (source**2).sum()
    return Attitude(rotation, scale, middle - scale[:, None] * (rotation @ centre))


def unturned(landmarks: NDArray, head: Attitude) -> Array:
    """Landmarks [T, 478, 3] in pixels -> in the face's own frame, eye distances."""
    moved = landmarks.astype(np.float64) - head.shift[:, None]
    return np.einsum("tni,tij->tnj", moved, head.rotation) / head.scale[:, None, None]


def clip_face(landmarks: NDArray, neutral: Array) -> Array:
    """The face that a clip [T, 478, 3] shows at its middle: median over frames, head movement removed.

    Medians do not see the moments in which the mouth is wide open, a blink, or a lost track. The result [478, 3]
    lies like `neutral` and has its size at the points that stay.
    """
    face = neutral
    for _ in range(3):
        face = np.median(unturned(landmarks, attitude(landmarks, face)), axis=0)
        face = unturned(face[None], attitude(face[None], neutral))[0]
    return face


def angles(rotation: Array) -> Array:
    """Rotations [T, 3, 3] = Rz(z) Ry(y) Rx(x) -> DreamTalk's angles [T, 3] = (x, -y, -z), radians."""
    x = np.arctan2(rotation[:, 2, 1], rotation[:, 2, 2])
    y = -np.arcsin(np.clip(rotation[:, 2, 0], -1, 1))
    z = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return np.stack([x, -y, -z], 1)


def pose_rows(turn: Array, scale: Array, place: Array) -> NDArray[np.float32]:
    """Angles [T, 3], pixels per eye distance [T] and the origin's place [T, 2] -> pose rows [T, 9].

    The clip is thought to be cropped so that its median head lies as `face.pose.REST` has it; crop columns are
    movement around that, in pixels of a 256-pixel crop (ty counts upwards). Translation is 0: what it would say
    within the crop is already in the crop.
    """
    middle, where = np.median(scale), np.median(place, axis=0)
    moved = (place - where) * (CROP_EYES / REST[6] / middle)
    rows = np.zeros((len(turn), 9))
    rows[:, :3] = turn
    rows[:, 6] = REST[6] * middle / scale
    rows[:, 7] = REST[7] + moved[:, 0]
    rows[:, 8] = REST[8] - moved[:, 1]
    return rows.astype(np.float32)
