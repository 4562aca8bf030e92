"""From lip curves to the 64 coefficients: emotion, brows and slow variation around a speaking mouth.

The prior comes from filmed faces: the covariance within a clip, and the mean and spread
of every emotion. Lips are solved into it through the landmark basis, so that the jaw, the
cheeks and the corners of the mouth move along as they do in faces, while the opening
itself is met exactly enough for closures to survive every emotion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from ..face.basis import LOWER_LIP, MOUTH_LEFT, MOUTH_RIGHT, UPPER_LIP, LandmarkBasis
from ..rates import FRAME_RATE
from .targets import CLOSED, LipCurves

BROWS = (105, 66, 107, 336, 296, 334)
LIDS = (159, 145, 386, 374)
"""Middle of the upper and lower lids; held still here because blinks are a channel of their own."""

UPPER_LIP_SHARE = 0.22
"""Part of the opening that the upper lip makes; the jaw makes the rest."""

NEUTRAL_OPENING = 0.116
"""Mean opening of the filmed neutral speakers, to which other emotions' vigour is relative."""


@dataclass(frozen=True)
class Style:
    """One way of feeling: emotion index (EMOTIONS), mean and spread of the coefficients, float64 [64]."""

    emotion: int
    mean: np.ndarray
    std: np.ndarray

    @property
    def vigour(self) -> float:
        """How far vowels open, 1.08 for the neutral speakers, who were filmed talking clearly."""
        opening = float(_faces().basis.mouth_opening(torch.from_numpy(self.mean)))
        return float(np.clip(1.08 + 0.45 * (opening / NEUTRAL_OPENING - 1.0), 0.95, 1.4))


@dataclass(frozen=True)
class _Faces:
    basis: LandmarkBasis
    emotions: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray


@cache
def _faces() -> _Faces:
    """The landmark basis with the covariance within clips as its prior, and the emotions' statistics."""
    path = files("dmt") / "assets" / "emotion_statistics.npz"
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as data:
        emotions, mean, std = tuple(data["emotions"].tolist()), data["mean"].astype(float), data["std"].astype(float)
    basis = LandmarkBasis.load().to(dtype=torch.float64)
    flat = mean.reshape(-1, mean.shape[-1])
    within = basis.coef_cov.numpy() - np.cov(flat.T, bias=True)
    values, vectors = np.linalg.eigh((within + within.T) / 2)
    # Subtracting two estimates leaves a few slightly negative directions; a small floor keeps the prior proper.
    within = (vectors * np.maximum(values, 1e-3 * values.max())) @ vectors.T
    basis = replace(basis, coef_mean=torch.zeros(len(within), dtype=torch.float64), coef_cov=torch.from_numpy(within))
    return _Faces(basis, emotions, mean, std)


def emotions() -> tuple[str, ...]:
    """Names of the eight emotions, in the order of their indices."""
    return _faces().emotions


def make_style(emotion: int, rng: np.random.Generator, *, actor: np.ndarray | None = None) -> Style:
    """A speaker's way of showing an emotion: a random blend of the filmed actors at a random strength.

    actor: [3] fixed weights of the blend at full strength, for the bundled styles.
    """
    faces = _faces()
    neutral = emotions().index("neutral")
    strength = 1.0
    if actor is None:
        actor = rng.dirichlet([0.6, 0.6, 0.6])
        strength = rng.uniform(0.5, 1.25)
    base, felt = actor @ faces.mean[neutral], actor @ faces.mean[emotion]
    return Style(emotion, base + strength * (felt - base), actor @ faces.std[emotion])


def coefficients(lips: LipCurves, style: Style, rng: np.random.Generator, *, liveliness: float = 1.0) -> np.ndarray:
    """[T, 64] float32: the face that makes these lip movements while feeling `style`.

    liveliness scales what sound does not decide: slow variation and the brows' emphasis.
    """
    faces = _faces()
    frames = len(lips.opening)
    mean = style.mean + liveliness * _slow(frames, style.std, rng)
    points, target, weights = _wanted(mean, lips, style, liveliness * _emphasis(lips, rng))
    moved = faces.basis.displacement(torch.from_numpy(mean))[:, points]
    change = faces.basis.solve(target - moved, points, weights, noise=0.004)
    return (mean + change.numpy()).astype(np.float32)


def _wanted(mean: np.ndarray, lips: LipCurves, style: Style, brow: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Landmarks to reach: points [P], displacements [T, P, 3], weights [P, 3]; the lips' are absolute."""
    basis = _faces().basis
    points = torch.tensor([UPPER_LIP, LOWER_LIP, MOUTH_RIGHT, MOUTH_LEFT, *BROWS, *LIDS])
    felt = torch.from_numpy(style.mean)
    target = basis.displacement(torch.from_numpy(mean))[:, points].clone()
    still = basis.displacement(felt)[points]
    neutral = basis.neutral[points, :2]
    opening = torch.from_numpy(lips.opening).double()
    felt_opening = float(basis.mouth_opening(felt))
    # The upper lip rises with the opening; the lower lip is placed so that the gap is exact.
    upper = still[0, 1] - UPPER_LIP_SHARE * (opening - felt_opening)
    target[:, 0, 1] = upper
    target[:, 1, 1] = upper + opening - (neutral[1, 1] - neutral[0, 1])
    # A spread or smiling mouth narrows towards what rounding needs, but keeps part of its smile.
    half = 0.5 * (float(basis.mouth_width(felt)) + torch.from_numpy(lips.width).double())
    centre = 0.5 * (still[2, 0] + still[3, 0] + neutral[2, 0] + neutral[3, 0])
    target[:, 2, 0] = centre - half - neutral[2, 0]
    target[:, 3, 0] = centre + half - neutral[3, 0]
    brows = slice(4, 4 + len(BROWS))
    target[:, brows, 1] -= torch.from_numpy(brow)[:, None]
    weights = torch.zeros(len(points), 3, dtype=torch.float64)
    weights[:2, 1] = 4.0
    weights[2:4, 0] = 0.6
    weights[4:, 1] = 0.1
    return points, target, weights


def _slow(frames: int, std: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Variation over a second or two with about half the emotion's filmed spread [T, 64]."""
    noise = rng.standard_normal((frames + 4 * FRAME_RATE, len(std)))
    smooth = gaussian_filter1d(noise, FRAME_RATE * rng.uniform(0.5, 1.0), axis=0)
    smooth = smooth[2 * FRAME_RATE : 2 * FRAME_RATE + frames]
    return 0.45 * std * smooth / (smooth.std() + 1e-9)


def _emphasis(lips: LipCurves, rng: np.random.Generator) -> np.ndarray:
    """Brow height over time [T] in eye distances: raised a little at some of the widest openings."""
    brow = np.zeros(len(lips.opening))
    peaks = np.flatnonzero(
        (lips.opening[1:-1] > 0.13) & (np.diff(lips.opening)[:-1] > 0) & (np.diff(lips.opening)[1:] <= 0)
    )
    for peak in peaks:
        if rng.random() < 0.25:
            time = np.arange(len(brow)) - (peak + 1 - 2)
            brow += rng.uniform(0.01, 0.035) * np.exp(-0.5 * (time / rng.uniform(4, 8)) ** 2)
    return brow


def opening_of(coefficient_rows: np.ndarray) -> np.ndarray:
    """Mouth opening in eye distances of [..., 64] coefficients."""
    return _faces().basis.mouth_opening(torch.from_numpy(np.asarray(coefficient_rows, float))).numpy()


__all__ = ["CLOSED", "Style", "coefficients", "emotions", "make_style", "opening_of"]
