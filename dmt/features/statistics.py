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

BANDS_BELOW_LEVEL = 30.0
"""The mean band of speech lies about so many dB below its level (80 bands share the power unevenly)."""

SILENT_AMPLITUDE = 3e-4
"""Rows fainter than this (-70 dB of full scale) are hardly speech, and weigh even less."""

EXPECTED_WEIGHT = 0.05
"""Weight of the expected spectrum: one row of ordinary speech. A few rows of speech outweigh it;
silence never does, and so stays far below the mean."""


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

    A row weighs as the amplitude of its sound: speech decides, pauses hardly do. The amplitude is the
    geometric mean over the bands, so a gain or a filter weighs all rows alike and only moves the mean.
    rows: how many were heard; weight [B, 1], total and squares [B, M] float64; expected: the spectrum [M] in dB,
    with `spread` dB around it, that counts until enough is heard.
    """

    rows: float
    weight: Tensor
    total: Tensor
    squares: Tensor
    expected: Tensor
    spread: float

    @classmethod
    def none(cls, batch: int, expected: Tensor, spread: float) -> BandStatistics:
        """Nothing heard yet."""
        zeros = torch.zeros(batch, len(expected), dtype=torch.float64, device=expected.device)
        return cls(0.0, zeros[:, :1], zeros, zeros, expected.double(), spread)

    def including(self, decibels: Tensor, *, memory: int | None = None) -> BandStatistics:
        """These statistics and `decibels` [B, R, M]; with `memory`, what is older than so many rows fades."""
        exact, new = decibels.detach().double(), decibels.shape[1]
        amplitude = 10 ** ((exact.mean(-1, keepdim=True) + BANDS_BELOW_LEVEL) / 20)  # [B, R, 1]
        weights = amplitude**3 / (amplitude**2 + SILENT_AMPLITUDE**2)
        keep = min(1.0, max(0, memory - new) / self.rows) if memory is not None and self.rows else 1.0
        return replace(
            self,
            rows=self.rows * keep + new,
            weight=self.weight * keep + weights.sum(1),
            total=self.total * keep + (weights * exact).sum(1),
            squares=self.squares * keep + (weights * exact * exact).sum(1),
        )

    def normalise(self, decibels: Tensor) -> Tensor:
        """`decibels` [B, R, M] minus the mean, over the spread (at least 5 dB), cut to +-3."""
        weight = self.weight + EXPECTED_WEIGHT
        mean = (self.total + EXPECTED_WEIGHT * self.expected) / weight
        squares = self.squares + EXPECTED_WEIGHT * (self.expected**2 + self.spread**2)
        scale = (squares / weight - mean * mean).clamp(min=BAND_FLOOR**2).rsqrt()
        centred = decibels - mean.to(decibels.dtype).unsqueeze(1)
        return (centred * scale.to(decibels.dtype).unsqueeze(1)).clamp(-BAND_RANGE, BAND_RANGE)
