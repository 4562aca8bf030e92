"""Expression coefficients as landmark displacements: a linear face without a licensed model.

The asset `landmark_basis.npz` was measured by ridge regression of MediaPipe's face mesh on
the 64 coefficients. Units: 1 = distance between the outer eye corners; x right, y down,
z away from the viewer; origin at the bridge of the nose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import damaged, file_at
from ..rates import COEFFICIENTS

UPPER_LIP = 13
LOWER_LIP = 14
MOUTH_RIGHT = 61
MOUTH_LEFT = 291
EYE_RIGHT = 33
EYE_LEFT = 263
NOSE_BRIDGE = 168
CHIN = 152
POINTS = 478

CONTOURS = ("lips_outer", "lips_inner", "left_eye", "right_eye", "oval")
GROUPS = ("left_brow", "right_brow", "left_iris", "right_iris")


@dataclass(frozen=True)
class LandmarkBasis:
    """landmarks = neutral + coefficients . basis.

    basis [64, 478, 3], neutral [478, 3] (eye distances), coef_mean [64], coef_cov [64, 64]
    float32; triangles [F, 3] int64 over the first 468 points; contours: name -> int64 [n]
    (closed, in order: lips_outer, lips_inner, left_eye, right_eye, oval; as sets: left_brow,
    right_brow, left_iris, right_iris; "left" is the person's left, the viewer's right).
    """

    basis: Tensor
    neutral: Tensor
    coef_mean: Tensor
    coef_cov: Tensor
    triangles: Tensor
    contours: dict[str, Tensor]

    @staticmethod
    def load(path: str | Path | None = None) -> LandmarkBasis:
        """The bundled basis, or one of the same layout; a file without the arrays is an InputError."""
        return _bundled() if path is None else _read(Path(path))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LandmarkBasis:
        """The same basis on a device; `dtype` changes the floating arrays only."""
        floats = ("basis", "neutral", "coef_mean", "coef_cov")
        moved = {name: getattr(self, name).to(device=device, dtype=dtype) for name in floats}
        contours = {name: index.to(device) for name, index in self.contours.items()}
        return replace(self, **moved, triangles=self.triangles.to(device), contours=contours)

    def displacement(self, coefficients: Tensor) -> Tensor:
        """Movement away from `neutral`, [..., 64] -> [..., 478, 3]; differentiable."""
        if coefficients.shape[-1] != COEFFICIENTS:
            raise ValueError(f"expected [..., {COEFFICIENTS}] coefficients, got {tuple(coefficients.shape)}")
        flat = coefficients.to(self.basis) @ self.basis.reshape(COEFFICIENTS, -1)
        return flat.reshape(*coefficients.shape[:-1], POINTS, 3)

    def landmarks(self, coefficients: Tensor) -> Tensor:
        """[..., 64] coefficients -> [..., 478, 3] landmarks in eye distances; differentiable."""
        return self.neutral + self.displacement(coefficients)

    def mouth_opening(self, coefficients: Tensor) -> Tensor:
        """Gap between the inner lips, y of 14 minus y of 13: [..., 64] -> [...]; differentiable.

        The regression does not forbid lips that pass through one another, so it can be negative.
        """
        column = self.basis[:, LOWER_LIP, 1] - self.basis[:, UPPER_LIP, 1]
        return coefficients.to(column) @ column + (self.neutral[LOWER_LIP, 1] - self.neutral[UPPER_LIP, 1])

    def mouth_width(self, coefficients: Tensor) -> Tensor:
        """Distance of the mouth's corners, points 61 and 291: [..., 64] -> [...]; differentiable."""
        corners = self.basis[:, [MOUTH_LEFT, MOUTH_RIGHT]].reshape(COEFFICIENTS, -1)
        rest = self.neutral[[MOUTH_LEFT, MOUTH_RIGHT]]
        moved = (coefficients.to(corners) @ corners).reshape(*coefficients.shape[:-1], 2, 3) + rest
        return torch.linalg.vector_norm(moved[..., 0, :] - moved[..., 1, :], dim=-1)

    def solve(
        self,
        target: Tensor,
        points: Tensor,
        weights: Tensor | None = None,
        *,
        noise: float = 0.01,
    ) -> Tensor:
        """Most probable coefficients for wanted displacements of some landmarks.

        target [..., P, 3]: displacement from `neutral` in eye distances; points [P]: their
        landmark indices; weights [P], [P, 3] or None (all 1), 0 leaves a point or an axis out;
        noise: standard deviation of a target of weight 1 (weight is inverse variance over that).
        Returns [..., 64]: the maximum of N(target | A c, noise^2 / weight) N(c | coef_mean, coef_cov).
        The plain inverse is ill-posed; the prior decides in the directions that hardly move a point.
        Differentiable in `target`; computed in float64.
        """
        inverse, moves = self.posterior(points, weights, noise)
        mean = self.coef_mean.double()
        points = torch.as_tensor(points, device=self.basis.device)
        a = self.basis[:, points].reshape(COEFFICIENTS, -1).double()  # [64, 3P]
        if target.shape[-2:] != (len(points), 3):
            raise ValueError(f"expected targets [..., {len(points)}, 3], got {tuple(target.shape)}")
        residual = target.double().flatten(-2) - mean @ a
        return (mean + residual @ moves.T @ inverse).to(self.basis.dtype)

    def posterior(self, points: Tensor, weights: Tensor | None, noise: float) -> tuple[Tensor, Tensor]:
        """What `solve` leaves uncertain: covariance [64, 64], and the weighted design A W [64, 3P], float64."""
        points = torch.as_tensor(points, device=self.basis.device)
        a = self.basis[:, points].reshape(COEFFICIENTS, -1).double()
        w = torch.ones(len(points), 3, dtype=torch.float64, device=a.device)
        if weights is not None:
            weights = torch.as_tensor(weights, dtype=torch.float64, device=a.device)
            w = w * (weights if weights.ndim == 2 else weights[:, None])
        aw = a * w.flatten() / noise**2
        covariance = self.coef_cov.double()
        jitter = 1e-6 * covariance.diagonal().mean() * torch.eye(COEFFICIENTS, dtype=torch.float64, device=a.device)
        precision = torch.linalg.inv(covariance + jitter)
        posterior = torch.linalg.inv(aw @ a.T + precision)
        return (posterior + posterior.T) / 2, aw


@cache
def neutral_mean() -> Tensor:
    """Mean coefficients [64] of the filmed neutral clips: how a calm face most likely looks."""
    with np.load(_asset("emotion_statistics.npz"), allow_pickle=False) as data:
        index = data["emotions"].tolist().index("neutral")
        return torch.from_numpy(data["mean"][index].mean(0)).float()


@cache
def _bundled() -> LandmarkBasis:
    return _read(_asset("landmark_basis.npz"))


def _asset(name: str) -> Path:
    return Path(str(files("dmt") / "assets" / name))


def _read(path: Path) -> LandmarkBasis:
    file_at(path, "a landmark basis (.npz)")
    with damaged(path, "a landmark basis (.npz with basis, neutral, triangles, ...)"):
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: torch.from_numpy(np.asarray(data[name])) for name in data.files}
        floats = {name: arrays[name].float() for name in ("basis", "neutral", "coef_mean", "coef_cov")}
        contours = {name: arrays[name].long() for name in (*CONTOURS, *GROUPS)}
        return LandmarkBasis(**floats, triangles=arrays["triangles"].long(), contours=contours)
