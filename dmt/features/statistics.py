"""What both branches subtract and divide by, so that level and channel of a recording do not matter.

Statistics are running sums in float64: a recording taken at once and the same recording
taken block by block give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

WAVE_EPSILON = 1e-7
"""Added to the variance, as Wav2Vec2Processor does: digital silence stays silent."""

PRIOR_LEVEL = 0.05
"""Root mean square a stream is expected to have before it has been heard (-26 dB of full scale)."""

PRIOR_SAMPLES = 16_000
"""Samples that expectation is worth at the start; it fades to nothing over `PRIOR_FADE` samples."""

PRIOR_FADE = 80_000

BAND_FLOOR = 5.0
"""Least standard deviation of a band in dB: noise and hum are not blown up to look like speech."""

BAND_RANGE = 3.0
"""Normalised bands are cut to +-3, so a clean pause and a faintly noisy one look alike."""

QUIET_WEIGHT = 0.15
"""Weight of the expected spectrum: half a second of rows at -45 dB of full scale. Speech at an ordinary
level outweighs it within a few rows; silence does not, and so stays far below the mean."""


@dataclass(frozen=True)
class WaveStatistics:
    """Count of samples, and their sum and sum of squares, each sum [B] float64."""

    count: float
    total: Tensor
    squares: Tensor

    @classmethod
    def none(cls, batch: int, device: torch.device | str = "cpu") -> WaveStatistics:
        """Nothing heard yet."""
        zeros = torch.zeros(batch, dtype=torch.float64, device=device)
        return cls(0.0, zeros, zeros)

    def including(self, wave: Tensor, *, memory: int | None = None) -> WaveStatistics:
        """These statistics and `wave` [B, S]; with `memory`, what is older than so many samples fades."""
        exact = wave.detach().double()
        count, new = self.count, wave.shape[-1]
        keep = min(1.0, max(0, memory - new) / count) if memory is not None and count else 1.0
        return WaveStatistics(
            count * keep + new, self.total * keep + exact.sum(-1), self.squares * keep + (exact * exact).sum(-1)
        )

    def expecting_speech(self) -> WaveStatistics:
        """With the level speech usually has mixed in, for the first five seconds of a stream."""
        weight = PRIOR_SAMPLES * max(0.0, 1.0 - self.count / PRIOR_FADE)
        return replace(self, count=self.count + weight, squares=self.squares + weight * PRIOR_LEVEL**2)

    def normalise(self, wave: Tensor) -> Tensor:
        """(wave - mean) / sqrt(var + 1e-7), population variance: Wav2Vec2Processor's zero mean, unit variance."""
        mean = self.total / max(self.count, 1.0)
        variance = (self.squares / max(self.count, 1.0) - mean * mean).clamp(min=0)
        scale = (variance + WAVE_EPSILON).rsqrt()
        return (wave - mean.to(wave.dtype)[:, None]) * scale.to(wave.dtype)[:, None]


@dataclass(frozen=True)
class BandStatistics:
    """Weighted mean and spread of every mel band in dB.

    A row weighs as the amplitude of its sound (square root of its power): speech decides, pauses do not,
    and a change of gain only moves the mean. weight [B, 1], total and squares [B, M], float64.
    """

    weight: Tensor
    total: Tensor
    squares: Tensor

    @classmethod
    def expecting(cls, spectrum: Tensor, spread: float, batch: int) -> BandStatistics:
        """Before anything is heard: `spectrum` [M] in dB with `spread` dB around it, worth very little."""
        mean = spectrum.double().expand(batch, -1)
        weight = torch.full((batch, 1), QUIET_WEIGHT, dtype=torch.float64, device=spectrum.device)
        return cls(weight, weight * mean, weight * (mean * mean + spread * spread))

    def including(self, decibels: Tensor, power: Tensor, *, memory: int | None = None) -> BandStatistics:
        """These statistics and rows `decibels` [B, R, M] of mean square `power` [B, R].

        memory: rows (at full scale the weight of one row is 1) after which the past fades; None: never.
        """
        exact = decibels.detach().double()
        rows = power.detach().double().clamp(min=0).sqrt().unsqueeze(-1)  # [B, R, 1]
        keep = torch.ones_like(self.weight)
        if memory is not None:
            average = rows.mean(1).clamp(min=1e-12)  # [B, 1]: what a row of this piece weighs
            keep = ((memory - rows.shape[1]) * average / self.weight).clamp(0, 1)
        return BandStatistics(
            self.weight * keep + rows.sum(1),
            self.total * keep + (rows * exact).sum(1),
            self.squares * keep + (rows * exact * exact).sum(1),
        )

    def normalise(self, decibels: Tensor) -> Tensor:
        """`decibels` [B, R, M] minus the mean, over the spread (at least 5 dB), cut to +-3."""
        mean = self.total / self.weight
        variance = (self.squares / self.weight - mean * mean).clamp(min=0)
        scale = variance.sqrt().clamp(min=BAND_FLOOR).reciprocal()
        centred = decibels - mean.to(decibels.dtype).unsqueeze(1)
        return (centred * scale.to(decibels.dtype).unsqueeze(1)).clamp(-BAND_RANGE, BAND_RANGE)
