"""What surrounds the network and differs between our models and DreamTalk's: length, noise, the end of a pose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .diffusion import SmoothNoise
from .face.pose import HeldPose, PoseClip
from .features import pad_blocks, rows_for
from .media import to_float, to_int16
from .rates import ROWS_PER_FRAME
from .types import frames_for

Sound = Iterable[NDArray[np.float32]]
"""Blocks of 16 kHz mono samples [n]."""


class Conventions:
    """Our models': silence fills the last frame, noise is smooth in time, a pose that ends swings back."""

    def frames(self, samples: int) -> int:
        """Frames of video for so many samples at 16 kHz."""
        return frames_for(samples)

    def sound(self, blocks: Sound) -> Sound:
        """What the speech encoder hears."""
        return pad_blocks(blocks)

    def noise(self, seed: int | None) -> SmoothNoise:
        """Where sampling starts, frame after frame; None: torch's default generator."""
        return SmoothNoise(torch.default_generator if seed is None else generator(seed, 0))

    def pose(self, rows: Tensor) -> PoseClip | HeldPose:
        """The rows [T, 9] of a pose file, and what comes after them."""
        return PoseClip(rows)


class DreamTalkConventions(Conventions):
    """DreamTalk's: 16-bit sound as it is, independent noise of `torch.manual_seed(seed)`, a pose that ends is held."""

    def frames(self, samples: int) -> int:
        return rows_for(samples) // ROWS_PER_FRAME

    def sound(self, blocks: Sound) -> Iterator[NDArray[np.float32]]:
        return (to_float(to_int16(block)) for block in blocks)

    def noise(self, seed: int | None) -> SmoothNoise:
        source = torch.default_generator if seed is None else torch.Generator().manual_seed(seed)
        return SmoothNoise(source, period=1, temperature=1.0)

    def pose(self, rows: Tensor) -> HeldPose:
        return HeldPose(rows)


OURS, DREAMTALKS = Conventions(), DreamTalkConventions()


def generator(seed: int, stream: int) -> torch.Generator:
    """Independent randomness for noise, pose and blinks: changing one flag leaves the others as they were."""
    return torch.Generator().manual_seed(4 * seed + stream)
