"""A face that is known and trackers that say what they are told to, for the tests of tracking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dmt.face.basis import LandmarkBasis
from dmt.face.styles import load_style
from dmt.renderer.driver import rotation

EYES = 120.0
"""Pixels between the outer eye corners of the faces that are scripted."""


class Scripted:
    """A tracker that knows the landmarks beforehand: [478, 3] or None per picture."""

    name = "a script"
    pitch = 0.0
    blind_to_opening = False

    def __init__(self, landmarks: Sequence[np.ndarray | None], faces: int = 1):
        self._landmarks, self.faces = iter(landmarks), faces

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __call__(self, picture):
        return next(self._landmarks)


class Performance:
    """A face with a shape of its own that speaks and moves: what a perfect tracker would see.

    expression [T, 64], angles [T, 3] radians, place [T, 2] and size [T] of the head in pixels, landmarks [T, 478, 3].
    """

    def __init__(self, frames: int = 120, rate: float = 25.0, noise: float = 0.0, seed: int = 0):
        random = np.random.default_rng(seed)
        basis = LandmarkBasis.load()
        clip = load_style("happy")
        rows = clip.coefficients[~clip.padding].numpy()
        at = np.arange(frames) / rate * 25
        self.expression = np.stack([np.interp(at, np.arange(len(rows)), column) for column in rows.T], 1)
        seconds = np.arange(frames) / rate
        waves = np.sin(np.outer(seconds, [2.1, 1.4, 1.7]))
        self.angles = waves * [0.06, 0.2, 0.08]
        self.size = EYES * (1 + 0.05 * np.sin(0.9 * seconds))
        self.place = np.stack([320 + 20 * np.sin(1.1 * seconds), 240 + 12 * np.cos(1.3 * seconds)], 1)
        self.identity = 0.03 * random.standard_normal((1, 3)) * basis.neutral.numpy() * [1, 1, 1]
        face = basis.landmarks(torch.from_numpy(self.expression).float()).numpy() + self.identity
        pose = np.pad(self.angles, ((0, 0), (0, 6)))
        turned = face @ rotation(torch.from_numpy(pose).float()).mT.numpy()
        turned += noise * random.standard_normal(turned.shape)
        self.landmarks = (turned * self.size[:, None, None] + np.pad(self.place, ((0, 0), (0, 1)))[:, None]).astype(
            np.float32
        )


def opening(expression: np.ndarray) -> np.ndarray:
    return LandmarkBasis.load().mouth_opening(torch.as_tensor(np.asarray(expression, np.float32))).numpy()


REGIONS = {
    "mouth": (0, 13, 14, 17, 61, 291, 37, 267, 84, 314, 82, 87, 312, 317),
    "brows": (70, 105, 107, 336, 334, 300),
    "lids": (159, 145, 386, 374),
}


def region_errors(found: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Root mean square distance in the picture's plane of each region's landmarks, movement only, eye distances."""
    basis = LandmarkBasis.load()
    faces = [basis.landmarks(torch.from_numpy(np.asarray(rows, np.float32))).numpy() for rows in (found, wanted)]
    moved = [face - np.median(face, axis=0) for face in faces]
    errors = np.linalg.norm((moved[0] - moved[1])[..., :2], axis=-1)
    return {name: float(np.sqrt((errors[:, list(index)] ** 2).mean())) for name, index in REGIONS.items()}
