"""FID and FVD: distance of the features of all generated pictures (or stretches of video) from the references'.

The networks are not bundled: give the TorchScript files that published figures are made with (StyleGAN's
inception-2015-12-05.pt for FID, its I3D i3d_torchscript.pt for FVD), or any TorchScript from uint8-valued pictures
[N, 3, H, W] (videos [N, 3, 16, H, W]) to features [N, D]. A TorchScript is a program: load none you do not trust.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError, why

STRETCH = 16
"""Frames of one stretch of video, as FVD is defined on."""

PORTION = 8


class Moments:
    """Mean and covariance of features that come in portions; what is kept does not grow with their number."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: NDArray | None = None
        self._squares: NDArray | None = None

    def add(self, features: NDArray[np.float64]) -> None:
        """features [N, D]."""
        if self._sum is None:
            self._sum, self._squares = np.zeros(features.shape[1]), np.zeros((features.shape[1],) * 2)
        self.count += len(features)
        self._sum += features.sum(0)
        self._squares += features.T @ features

    def mean_and_covariance(self) -> tuple[NDArray, NDArray]:
        """[D] and [D, D] (divided by N - 1); needs two features."""
        assert self._sum is not None and self._squares is not None and self.count >= 2
        mean = self._sum / self.count
        return mean, (self._squares - self.count * np.outer(mean, mean)) / (self.count - 1)


def frechet_distance(made: Moments, reference: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017). InputError: fewer than two features in one."""
    if min(made.count, reference.count) < 2:
        raise InputError("a Frechet distance needs at least two features on either side; give longer or more videos")
    (m1, c1), (m2, c2) = made.mean_and_covariance(), reference.mean_and_covariance()
    # Eigenvalues of C1 C2 are real and not negative but for rounding; their roots sum to the trace of the root.
    eigenvalues = scipy.linalg.eigvals(c1 @ c2)
    root = np.sqrt(np.clip(eigenvalues.real, 0, None)).sum()
    return float(max(0.0, ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * root))


class FeatureNetwork:
    """A TorchScript feature network. options: keyword arguments it is called with where it takes them."""

    def __init__(self, path: str | Path, options: dict[str, bool]) -> None:
        if not os.path.isfile(path):
            raise InputError(f"no feature network at {path}; give the path of a TorchScript file")
        try:
            self._network = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{path} is not a TorchScript network: {why(error)}") from None
        names = {argument.name for argument in self._network.forward.schema.arguments}
        self._options = {name: value for name, value in options.items() if name in names}
        self._path = path

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> NDArray[np.float64]:
        """[N, 3, ...] with values 0..255 -> features [N, D]."""
        features = self._network(inputs, **self._options)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(inputs):
            raise InputError(
                f"{self._path} must give features [N, D], got {getattr(features, 'shape', type(features))}"
            )
        return features.double().numpy()


def picture_network(path: str | Path) -> FeatureNetwork:
    """For FID: called on uint8 pictures [N, 3, H, W]."""
    return FeatureNetwork(path, {"return_features": True})


def video_network(path: str | Path) -> FeatureNetwork:
    """For FVD: called on float stretches [N, 3, 16, H, W] in 0..255."""
    return FeatureNetwork(path, {"rescale": True, "resize": True, "return_features": True})


def picture_features(network: FeatureNetwork, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """uint8 [T, H, W, 3] -> [T, D]."""
    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return np.concatenate([network(part) for part in pictures.split(PORTION)])


def video_features(network: FeatureNetwork, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """One stretch uint8 [16, H, W, 3] -> [1, D]."""
    stretch = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None]
    return network(stretch.float())
