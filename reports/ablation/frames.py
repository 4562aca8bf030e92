"""Pictures of made motion against pictures of true motion, both by the warp renderer with the bundled portrait."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmt.evaluation.images import psnr, ssim
from dmt.face.landmarks import load_portrait
from dmt.renderer.warp import WarpRenderer
from dmt.types import Motion

SIZE = 256
CLIPS, EVERY = 4, 5
"""The first so many held-out clips, every so many frames."""

WHOLE = (slice(None), slice(None))
MOUTH = (slice(SIZE // 2, SIZE * 7 // 8), slice(SIZE // 4, SIZE * 3 // 4))
"""Rows and columns of the lower middle of the picture, where mouth and chin are."""


class FrameComparison:
    """Renders the truth once and compares every variant with it."""

    def __init__(self, truth: Tensor) -> None:
        """truth [N, T, 64]: coefficients of the held-out clips."""
        assets = files("dmt") / "assets"
        with as_file(assets / "portrait.png") as picture, as_file(assets / "portrait_landmarks.npz") as points:
            self._renderer = WarpRenderer(load_portrait(picture, landmarks=points, size=SIZE))
        self._truth = self.render(truth)

    def render(self, coefficients: Tensor) -> NDArray[np.uint8]:
        """[F, 256, 256, 3] of the chosen frames of [N, T, 64], the head at rest and no added blinks."""
        rows = coefficients[:CLIPS, ::EVERY].flatten(0, 1)
        still = torch.zeros(len(rows), 9), torch.zeros(len(rows))
        return self._renderer.render(Motion(rows, *still)).numpy()

    def measure(self, coefficients: Tensor) -> dict[str, float]:
        """Mean SSIM (`gaussian11`) and PSNR (dB) over frames, of whole pictures and of the mouth's part."""
        made = self.render(coefficients)
        result = {}
        for name, (rows, columns) in (("", WHOLE), ("_mouth", MOUTH)):
            pair = made[:, rows, columns], self._truth[:, rows, columns]
            result[f"ssim{name}"] = float(ssim(*pair).mean())
            result[f"psnr{name}"] = float(psnr(*pair).mean())
        return result
