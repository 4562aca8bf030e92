"""The sampler as a CUDA graph: all steps of a block of frames in one launch instead of some four thousand.

It needs nothing of the host while it runs (tests trace it) and equals the eager sampler on an H200; its speed has not
been measured. Nothing chooses it by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..rates import COEFFICIENTS, WINDOW
from .denoiser import SPEECH_WIDTH, DreamTalkDenoiser, check_style

WARM_UP = 3
"""Runs before the capture, in which libraries choose their kernels and allocate."""


class GraphedSampler:
    """`DreamTalkDenoiser.sample` on a CUDA device, captured for one style, number of frames, steps and guidance.

    style [B, 256, 64] and padding [B, 256] as `sample` takes them. Fewer frames are padded with zeros, which no
    other frame sees; more are an InputError. The result of a call is overwritten by the next one.
    """

    def __init__(
        self,
        denoiser: DreamTalkDenoiser,
        style: Tensor,
        padding: Tensor,
        *,
        frames: int = 64,
        steps: int = 10,
        guidance: float = 1.0,
    ) -> None:
        device = next(denoiser.parameters()).device
        if device.type != "cuda":
            raise InputError(f"CUDA graphs need a denoiser on a CUDA device, got one on {device}")
        check_style(style, padding)
        denoiser.schedule.times(steps)
        style, padding = style.to(device), padding.to(device)
        self.frames = frames
        self._audio = torch.zeros(len(style), frames, WINDOW, SPEECH_WIDTH, device=device)
        self._noise = torch.zeros(len(style), frames, COEFFICIENTS, device=device)
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                denoiser.run(self._audio, style, padding, self._noise, steps, guidance)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._sampled = denoiser.run(self._audio, style, padding, self._noise, steps, guidance)

    def __call__(self, audio: Tensor, noise: Tensor) -> Tensor:
        """audio [B, f, 11, 1024], noise [B, f, 64], 1 <= f <= frames -> coefficients [B, f, 64]."""
        frames = audio.shape[1]
        if audio.shape[0] != len(self._audio) or not 1 <= frames <= self.frames or noise.shape[:2] != audio.shape[:2]:
            raise InputError(
                f"this graph takes {len(self._audio)} clips of 1 to {self.frames} frames and their noise, "
                f"got {list(audio.shape)} and {list(noise.shape)}"
            )
        self._audio[:, :frames].copy_(audio)
        self._noise[:, :frames].copy_(noise)
        self._audio[:, frames:].zero_()
        self._noise[:, frames:].zero_()
        self._graph.replay()
        return self._sampled[:, :frames]
