"""Streams of motion to streams of pictures with the learned renderer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..types import Motion
from .flow import STRIDE, WINDOW, FlowRenderer
from .flow_fast import FastFlowRenderer

Precision = Literal["exact", "fast"]
"""exact: float32, within 2e-5 of the plain network; fast: bfloat16 products, channels last."""

CONTEXT = WINDOW // 2
"""Frames of motion a picture sees on either side: 13."""


class FlowFrames:
    """One portrait under the learned renderer.

    picture: uint8 RGB [H, W, 3], H and W multiples of 32 (the weights were trained at 256).
    """

    def __init__(
        self,
        renderer: FlowRenderer,
        picture: np.ndarray,
        device: torch.device | str = "cpu",
        precision: Precision = "exact",
    ) -> None:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.shape[0] % STRIDE or picture.shape[1] % STRIDE:
            raise InputError(
                f"the learned renderer takes RGB pictures whose sides are multiples of {STRIDE}, "
                f"got {picture.shape}; crop or resize the portrait to 256 x 256"
            )
        self.device = torch.device(device)
        self.precision = precision
        self.fast = FastFlowRenderer(renderer).to(self.device).eval()
        if precision == "fast":
            self.fast = self.fast.to(memory_format=torch.channels_last)
        with self._autocast():
            self.portrait = self.fast.prepare(as_network_input(picture).to(self.device))

    @torch.inference_mode()
    def render_windows(self, windows: Tensor) -> Tensor:
        """Motion windows [B, 73, 27] -> uint8 [B, H, W, 3] on the device."""
        with self._autocast():
            image = self.fast(self.portrait, windows.to(self.device)).image
        return as_picture(image.float())

    def stream(self, motions: Iterable[Motion]) -> Iterator[Tensor]:
        """Pieces of motion as they come -> uint8 [b, H, W, 3], all frames, 13 frames behind.

        How the motion is cut into pieces changes neither the windows nor the result.
        """
        for windows in stream_windows(torch.cat([m.expression, m.pose], 1).float() for m in motions):
            yield self.render_windows(windows)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "fast")


def stream_windows(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Rows of motion [t, 73], piece by piece -> windows [b, 73, 27] with the ends repeated.

    Equal to `motion_windows` of everything at once; holds 26 rows and one piece.
    """
    held: Tensor | None = None  # rows from 13 before the next frame on
    for piece in pieces:
        if not len(piece):
            continue
        held = torch.cat([piece[:1].expand(CONTEXT, -1), piece]) if held is None else torch.cat([held, piece])
        ready = len(held) - WINDOW + 1
        if ready > 0:
            yield held[: ready + WINDOW - 1].unfold(0, WINDOW, 1)
            held = held[ready:]
    if held is not None:
        yield torch.cat([held, held[-1:].expand(CONTEXT, -1)]).unfold(0, WINDOW, 1)


def as_network_input(picture: np.ndarray) -> Tensor:
    """uint8 RGB [H, W, 3] -> float32 [1, 3, H, W] in [-1, 1]."""
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5


def as_picture(image: Tensor) -> Tensor:
    """[B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3]; truncated, not rounded, as the original does."""
    return ((image.clamp(-1, 1) + 1) / 2 * 255).to(torch.uint8).permute(0, 2, 3, 1)
