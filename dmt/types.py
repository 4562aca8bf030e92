"""What the rooms hand to one another.

Axes: B batch, T frames (25/s), R feature rows (50/s), S samples (16 kHz),
W window (11), D width, K coefficients (64), H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Speech features at 50 rows per second, before fusion.

    acoustic: wav2vec 2.0 hidden states [B, R, D_w2v].
    prosodic: Tacotron states [B, R, D_tac], or None where a model has no such branch.
    """

    acoustic: Tensor
    prosodic: Tensor | None = None


@dataclass(frozen=True)
class StyleClip:
    """A clip of expression coefficients that shows how to feel.

    coefficients: [256, 64] float32, zero-padded; padding: [256] bool, True where padded.
    """

    coefficients: Tensor
    padding: Tensor


@dataclass(frozen=True)
class Motion:
    """What the face does, frame by frame; the renderer's only moving input.

    expression: [T, 64] coefficients; pose: [T, 9] angles (radians), translation,
    crop; blink: [T] lid closure in 0..1 added to what the coefficients say.
    """

    expression: Tensor
    pose: Tensor
    blink: Tensor

    def __len__(self) -> int:
        return self.expression.shape[0]


@dataclass(frozen=True)
class Portrait:
    """A picture ready to be moved.

    image: [H, W, 3] uint8 RGB; landmarks: [478, 3] in pixels (x right, y down,
    z away from the viewer, same scale), MediaPipe's face-mesh order;
    notes: sentences the user should read ("two faces found, the largest is used").
    """

    image: np.ndarray
    landmarks: np.ndarray
    notes: tuple[str, ...] = ()


def frames_for(samples: int) -> int:
    """Video frames that show `samples` samples: rounded, at least one."""
    from .rates import SAMPLES_PER_FRAME

    return max(1, int(np.floor(samples / SAMPLES_PER_FRAME + 0.5)))


def as_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda[:n]` as a torch device; InputError if it is not there."""
    from .errors import InputError

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}: expected auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device {name!r} was asked for but torch {torch.__version__} sees no CUDA GPU; use --device cpu"
        )
    return device
