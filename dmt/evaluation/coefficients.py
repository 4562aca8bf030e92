"""Errors of expression coefficients against a reference, for the regions that the two decoders make.

Both lie in DreamTalk's 64-number space. Numbers in that space are not equally visible, so every region's error is
also given as movement of the landmarks that the basis sees move.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..decoder import LOWER, UPPER
from ..errors import InputError
from ..face.basis import LandmarkBasis
from ..rates import COEFFICIENTS
from .lips import lag_correlations

FEWEST = 2

_BROWS_AND_EYES = ("left_brow", "right_brow", "left_eye", "right_eye")
_MOUTH = ("lips_outer", "lips_inner")


def coefficient_curves(made: NDArray, reference: NDArray) -> dict[str, NDArray[np.float64]]:
    """Per frame, name -> [T]: coefficients_upper, coefficients_lower (mean absolute difference), landmarks_mouth and
    landmarks_upper (mean distance in thousandths of an eye distance).

    made, reference: [T, >= 64]; the longer one's end is left out. Raises InputError for other shapes.
    """
    a, b = _matched(made, reference)
    difference = np.abs(a.astype(np.float64) - b)
    return {
        "coefficients_upper": difference[:, list(UPPER)].mean(1),
        "coefficients_lower": difference[:, list(LOWER)].mean(1),
        "landmarks_mouth": _landmark_error(a - b, _MOUTH),
        "landmarks_upper": _landmark_error(a - b, _BROWS_AND_EYES),
    }


def coefficient_measures(made: NDArray, reference: NDArray) -> dict[str, float]:
    """Means of `coefficient_curves`, opening_correlation (Pearson at zero lag, through the basis; two frames at
    least), and with pose in both ([T, >= 73]) pose_degrees: mean absolute difference of the three angles."""
    a, b = _matched(made, reference)
    measures = {name: float(curve.mean()) for name, curve in coefficient_curves(a, b).items()}
    if len(a) >= FEWEST:
        basis = LandmarkBasis.load()
        openings = [basis.mouth_opening(torch.from_numpy(x)).numpy() for x in (a, b)]
        measures["opening_correlation"] = lag_correlations(*openings, lags=0)[0]
    if min(made.shape[1], reference.shape[1]) >= COEFFICIENTS + 3:
        angles = [x[: len(a), COEFFICIENTS : COEFFICIENTS + 3].astype(np.float64) for x in (made, reference)]
        measures["pose_degrees"] = float(np.degrees(np.abs(angles[0] - angles[1])).mean())
    return measures


def _landmark_error(difference: NDArray, contours: tuple[str, ...]) -> NDArray[np.float64]:
    basis = LandmarkBasis.load()
    points = torch.unique(torch.cat([basis.contours[name] for name in contours]))
    moved = torch.einsum("tk,kpc->tpc", torch.from_numpy(difference), basis.basis[:, points])
    return 1000 * moved.norm(dim=-1).mean(1).double().numpy()


def _matched(made: NDArray, reference: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    for name, rows in (("made", made), ("reference", reference)):
        if rows.ndim != 2 or rows.shape[1] < COEFFICIENTS or not len(rows):
            raise InputError(f"{name} coefficients must be [frames, at least {COEFFICIENTS}], got {rows.shape}")
    frames = min(len(made), len(reference))
    a, b = (x[:frames, :COEFFICIENTS].astype(np.float32) for x in (made, reference))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("coefficients to compare hold values that are not finite numbers")
    return a, b
