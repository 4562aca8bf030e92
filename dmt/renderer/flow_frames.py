"""Streams of motion to streams of pictures with the learned renderer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dmt_kernels import tiles

from ..errors import InputError
from ..types import Motion
from .crew import Crew
from .flow import STRIDE, WINDOW, FlowRenderer
from .flow_fast import FastFlowRenderer, PortraitRenderer
from .flow_reuse import ReusingRenderer, TemporalReuse
from .flow_tiles import TileFlowRenderer

Precision = Literal["exact", "fast"]
"""exact: float32, within 2e-5 of the plain network; fast: the editing network's products in bfloat16 on a
CPU (pictures about 47 dB from float32) and float16 on a GPU (about 59 dB), the flow in float32 (on matrix tiles 16 bits
of it), because an error in the flow moves pixels. Eight-bit products were tried and are not offered: with them in the
residual blocks, skip and down convolutions pictures fall to 39 dB. Figures with untrained stand-in weights at 128 x
128."""

ALL = 1 << 30
"""Frames at most that a call of the renderer gets, where that is up to who calls."""

CONTEXT = WINDOW // 2
"""Frames of motion a picture sees on either side: 13."""


def fast_form(renderer: FlowRenderer, precision: Precision, device: torch.device | str = "cpu") -> PortraitRenderer:
    """The form of the renderer that is fastest on this device; weights are copied."""
    device = torch.device(device)
    if device.type == "cpu" and tiles():
        return TileFlowRenderer(renderer, "medium", "high") if precision == "fast" else TileFlowRenderer(renderer)
    low = torch.float16 if device.type == "cuda" else torch.bfloat16
    dtype = low if precision == "fast" else torch.float32
    return FastFlowRenderer(renderer, dtype, flow_dtype=torch.float32).to(device)


class FlowFrames:
    """One portrait under the learned renderer.

    picture: uint8 RGB [H, W, 3], H and W multiples of 32 (the weights were trained at 256).
    reuse: above 0, a frame that moved from the last key frame by less than `reuse` times the mean
    movement between frames shows that frame again (`flow_reuse`); lossy, see there for its error.
    """

    def __init__(
        self,
        renderer: FlowRenderer,
        picture: np.ndarray,
        device: torch.device | str = "cpu",
        precision: Precision = "exact",
        reuse: float = 0.0,
    ) -> None:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.shape[0] % STRIDE or picture.shape[1] % STRIDE:
            raise InputError(
                f"the learned renderer takes RGB pictures whose sides are multiples of {STRIDE}, "
                f"got {picture.shape}; crop or resize the portrait to 256 x 256"
            )
        self.device = torch.device(device)
        self.fast = fast_form(renderer, precision, self.device)
        self.portrait = self.fast.prepare(as_network_input(picture).to(self.device))
        self.reuse = TemporalReuse(reuse)
        self._reusing = self._fresh()
        # Frames on tiles are the same to the bit however many threads each of them has.
        alone = isinstance(self.fast, TileFlowRenderer)
        self._crew, self._together = (Crew(), 1) if alone else (Crew(1), ALL)

    @torch.inference_mode()
    def render_windows(self, windows: Tensor) -> Tensor:
        """Motion windows [B, 73, 27] -> uint8 [B, H, W, 3] on the device; with reuse, they follow the last call's."""
        windows = windows.to(self.device)
        if self.reuse.theta:
            return torch.cat([as_picture(self._reusing.render(window).image) for window in windows.split(1)])
        height, width = self.portrait.image.shape[2:]
        frames = torch.empty(len(windows), height, width, 3, dtype=torch.uint8, device=self.device)

        def fill(rows: slice) -> None:
            frames[rows] = as_picture(self.fast(self.portrait, windows[rows]).image)

        self._crew.share(fill, len(windows), self._together)
        return frames

    def stream(self, motions: Iterable[Motion]) -> Iterator[Tensor]:
        """Pieces of motion as they come -> uint8 [b, H, W, 3], all frames, 13 frames behind.

        How the motion is cut into pieces changes neither the windows nor the result.
        """
        self._reusing = self._fresh()
        for windows in stream_windows(torch.cat([m.expression, m.pose], 1).float() for m in motions):
            yield self.render_windows(windows)

    def _fresh(self) -> ReusingRenderer:
        self.reuse = TemporalReuse(self.reuse.theta)
        return ReusingRenderer(self.fast, self.portrait, self.reuse)


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
