"""The learned renderer as a CUDA graph: one launch a batch instead of some three hundred.

It equalled the eager renderer on an H200; modulations and sums of rows have changed since, which has not yet run on a
GPU. Its speed has not been measured. Nothing chooses it by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .flow import Rendered
from .flow_fast import FastFlowRenderer, PreparedPortrait

WARM_UP = 3
"""Runs before the capture, in which libraries choose their kernels and allocate."""


class GraphedRenderer:
    """A `FastFlowRenderer` on a CUDA device, captured for one portrait and one batch size.

    Smaller batches are padded with their last window; larger ones are an InputError.
    The result of a call is overwritten by the next one.
    """

    def __init__(self, renderer: FastFlowRenderer, portrait: PreparedPortrait, batch: int) -> None:
        if portrait.image.device.type != "cuda":
            raise InputError(f"CUDA graphs need a portrait on a CUDA device, got one on {portrait.image.device}")
        self.batch = batch
        self._motion = portrait.image.new_zeros(batch, 73, 27)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                renderer(portrait, self._motion)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._rendered = renderer(portrait, self._motion)

    def __call__(self, motion: Tensor) -> Rendered:
        """Motion windows [b, 73, 27], 1 <= b <= batch -> `Rendered` of b frames."""
        frames = len(motion)
        if not 1 <= frames <= self.batch:
            raise InputError(f"this graph takes 1 to {self.batch} windows at a time, got {frames}")
        self._motion[:frames].copy_(motion)
        self._motion[frames:].copy_(motion[-1:])
        self._graph.replay()
        out = self._rendered
        return Rendered(out.image[:frames], out.warped[:frames], out.flow[:frames])
