"""Small changes to normalised log-mel bands, so that training never sees a clip twice alike."""

from __future__ import annotations

import torch
from torch import Tensor

NOISE = 0.1
"""Standard deviation of what is added, in units of the bands' spread."""


def varied(bands: Tensor, generator: torch.Generator) -> Tensor:
    """bands [B, R, M] with a little noise and, in each clip, a stretch of rows and one of bands hidden (SpecAugment).

    Voices, rooms and noises vary in the corpus itself; stronger changes here slowed learning and did not carry
    over better to real recordings.
    """
    return hidden(bands + NOISE * torch.randn(bands.shape, generator=generator), generator)


def hidden(bands: Tensor, generator: torch.Generator) -> Tensor:
    """A stretch of up to 8 rows and one of up to 12 bands replaced by a constant, different for each clip."""
    clips, rows, mels = bands.shape
    row, band = torch.arange(rows)[None], torch.arange(mels)[None]

    def between(places: Tensor, longest: int) -> Tensor:
        first = torch.randint(places.shape[1], (clips, 1), generator=generator)
        length = torch.randint(longest, (clips, 1), generator=generator)
        return (places >= first) & (places < first + length)

    return bands.masked_fill(between(row, 9)[:, :, None], -1.0).masked_fill(between(band, 13)[:, None], 0.0)
