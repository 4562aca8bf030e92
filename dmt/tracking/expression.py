"""Landmarks without head movement -> the 64 coefficients, through the landmark basis and its Gaussian prior.

A face differs from the mean one by who it is and by what it feels. The face of the whole clip (its median) tells
the lasting expression, believed only as far as identity's spread allows; what a frame adds to that is expression
alone and is believed much more. How far the lips are apart is no matter of identity and is taken as it is seen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..face.basis import LandmarkBasis, neutral_mean

IDENTITY = 0.15
"""Spread of one landmark that who somebody is accounts for, eye distances, as independent noise. Neighbouring
landmarks vary together, so this is about three times the spread of a single one."""
TRACKING = 0.05
"""The same of a frame's difference from the clip's face: what the tracker and the basis get wrong."""
GAP = 0.003
"""Spread with which the gaps of the lips are believed, eye distances."""
AXES = (1.0, 1.0, 0.1)
"""Weight of x, y and depth; a single camera hardly sees depth."""
SKIN = 468
"""Landmarks that are used: all but the irises, which look about."""
LIP_PAIRS = ((13, 14), (82, 87), (312, 317))
"""Inner lips above one another: the middle and two thirds of the way to either side."""

Array = NDArray[np.float64]


class ExpressionSolver:
    """Solves frames of one clip whose face (head.clip_face) is `face` [478, 3]."""

    def __init__(self, basis: LandmarkBasis, face: Array) -> None:
        self._basis, self._face = basis, torch.from_numpy(face)
        self._points = torch.arange(SKIN)
        self._weights = torch.tensor(AXES, dtype=torch.float64).expand(SKIN, 3)
        resting = replace(basis, coef_mean=neutral_mean())
        own = self._face[:SKIN] - resting.neutral[:SKIN]
        self.lasting: Array = resting.solve(own, self._points, self._weights, noise=IDENTITY).double().numpy()
        """The expression [64] that the whole clip has."""
        self._still = self._solved(torch.zeros(1, SKIN, 3, dtype=torch.float64))

    def movement(self, landmarks: Array) -> Array:
        """Coefficients [T, 64] that frames [T, 478, 3] (head.unturned) add to `lasting`."""
        difference = torch.from_numpy(landmarks)[:, :SKIN] - self._face[:SKIN]
        return (self._solved(difference) - self._still).numpy()

    def with_gaps(self, movement: Array, gaps: Array) -> NDArray[np.float32]:
        """`lasting` + movement [T, 64], given also how far the lips are apart, `gaps` [T, 3].

        A Gaussian update of what the landmarks left uncertain: the lips go where they are seen, the rest stays.
        """
        rows, rest = gap_rows(self._basis)
        covariance = self._basis.posterior(self._points, self._weights, TRACKING)[0].numpy()
        gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T + GAP**2 * np.eye(len(rows)))
        coefficients = self.lasting + movement
        return (coefficients + (gaps - rest - coefficients @ rows.T) @ gain.T).astype(np.float32)

    def _solved(self, difference: Tensor) -> Tensor:
        return self._basis.solve(difference, self._points, self._weights, noise=TRACKING).double()


def lip_gaps(landmarks: Array) -> Array:
    """How far the inner lips are apart at `LIP_PAIRS`, [T, 478, 3] -> [T, 3] eye distances."""
    return np.stack([landmarks[:, lower, 1] - landmarks[:, upper, 1] for upper, lower in LIP_PAIRS], 1)


def gap_rows(basis: LandmarkBasis) -> tuple[Array, Array]:
    """gaps = rest + coefficients @ rows^T: rows [3, 64] and rest [3]."""
    rows = [(basis.basis[:, lower, 1] - basis.basis[:, upper, 1]) for upper, lower in LIP_PAIRS]
    rest = [float(basis.neutral[lower, 1] - basis.neutral[upper, 1]) for upper, lower in LIP_PAIRS]
    return torch.stack(rows).double().numpy(), np.array(rest)
