"""Where sampling starts: standard normal noise per frame that moves smoothly from one frame to the next.

The denoiser treats frames one by one, so noise that jumps between frames makes a face that trembles.
At temperature 1 every frame has exactly the distribution the diffusion was trained on; only neighbours are alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..rates import COEFFICIENTS

TEMPERATURE = 0.5
"""Spread of the noise our own presets start from: half of what they were trained on. A small model's
predictions follow chance where they should follow the voice; less chance, better lips."""


class SmoothNoise:
    """A stream of frames of noise; how many are asked for at a time does not change them.

    generator: the source of randomness, read in order. period: frames between two independent
    draws, which are joined along a quarter circle, so that the variance stays the same; 1 makes
    every frame independent, as DreamTalk does. temperature: standard deviation of the noise.
    """

    def __init__(
        self,
        generator: torch.Generator,
        *,
        period: int = 25,
        width: int = COEFFICIENTS,
        temperature: float = TEMPERATURE,
    ) -> None:
        if period < 1:
            raise ValueError(f"period must be at least 1 frame, got {period}")
        self._generator = generator
        self._period, self._width, self._temperature = period, width, temperature
        self._frame = 0
        self._from, self._to = self._draw(), self._draw()

    def next(self, frames: int) -> Tensor:
        """The following [frames, width], float32 on the CPU."""
        rows = [self._step() for _ in range(frames)]
        return torch.stack(rows) if rows else torch.zeros(0, self._width)

    def _step(self) -> Tensor:
        phase = self._frame % self._period
        if phase == 0 and self._frame:
            self._from, self._to = self._to, self._draw()
        self._frame += 1
        angle = math.pi / 2 * phase / self._period
        return math.cos(angle) * self._from + math.sin(angle) * self._to

    def _draw(self) -> Tensor:
        fresh = torch.randn(self._width, generator=self._generator, device=self._generator.device)
        return self._temperature * fresh.cpu()
