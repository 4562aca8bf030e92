"""From face units to pixels, and small operations on pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

UNITS_ACROSS = 3.95
"""Width of the picture in face units."""
ORIGIN = (0.5, 0.405)
"""Where the nose bridge (the origin of the units) lies, as a fraction of width and height."""


@dataclass(frozen=True)
class Frame:
    """A square raster of `size` x `size` pixels over the scene."""

    size: int

    @property
    def scale(self) -> float:
        """Pixels per unit."""
        return self.size / UNITS_ACROSS

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2 or 3] in units as pixel coordinates; pixel i covers i to i + 1."""
        out = points * self.scale
        out[..., 0] += ORIGIN[0] * self.size
        out[..., 1] += ORIGIN[1] * self.size
        return out

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y [size, size] float32 of the pixel centres, in units."""
        at = (np.arange(self.size, dtype=np.float32) + 0.5) / self.scale
        x, y = np.meshgrid(at - ORIGIN[0] * UNITS_ACROSS, at - ORIGIN[1] * UNITS_ACROSS)
        return x, y


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic between; `low` may exceed `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(first: np.ndarray, second: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Blend colours [H, W, 3] (or one colour) by amounts [H, W]."""
    return first + (np.asarray(second, np.float32) - first) * amount[..., None]


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of [H, W] or [H, W, C]; sigma in pixels; the border repeats."""
    if sigma < 0.15:
        return picture
    planes = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(picture), dtype=np.float32)).permute(2, 0, 1)[:, None]
    height, width = planes.shape[-2:]
    shrink = max(1, int(sigma / 4))
    if shrink > 1:
        planes = functional.interpolate(
            planes, (max(height // shrink, 8), max(width // shrink, 8)), mode="bilinear", antialias=True
        )
    small = sigma * planes.shape[-1] / width
    reach = max(1, int(3 * small + 0.5))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / small) ** 2)
    taps = taps / taps.sum()
    planes = functional.pad(planes, (reach, reach, reach, reach), mode="replicate")
    planes = functional.conv2d(functional.conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    if shrink > 1:
        planes = functional.interpolate(planes, (height, width), mode="bilinear")
    return planes[:, 0].permute(1, 2, 0).numpy().reshape(picture.shape)


def noise(frame: Frame, grain: float, seed: int) -> np.ndarray:
    """Smooth noise [size, size] of unit variance whose features are about `grain` units across.

    It is the same field at every raster size, as far as the raster can show it.
    """
    cells = max(4, int(UNITS_ACROSS / grain))
    values = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 1, cells, cells)).astype(np.float32))
    field = functional.interpolate(values, (frame.size, frame.size), mode="bicubic", antialias=cells > frame.size)
    field = field[0, 0].numpy()
    return field / max(float(field.std()), 1e-6)
