"""Audio as it arrives: the samples still needed, and the spans that can be encoded by now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..rates import SAMPLES_PER_ROW
from .chunks import RECEPTIVE_SAMPLES, Chunking, Span, check_wave, rows_for, samples_for


class Heard:
    """The end of a stream of samples; `forget` drops what no later row can need."""

    def __init__(self) -> None:
        self.samples = 0
        self._start = 0
        self._blocks: list[Tensor] = []

    @property
    def rows(self) -> int:
        """Rows whose 400 samples have all arrived."""
        return rows_for(self.samples) if self.samples >= RECEPTIVE_SAMPLES else 0

    @property
    def held(self) -> int:
        """Samples in memory."""
        return self.samples - self._start

    def push(self, block: np.ndarray | Tensor) -> None:
        """Add samples [n] (n may be 0). Raises InputError where they are not [n] or not finite."""
        wave = torch.as_tensor(block).detach().to("cpu", torch.float32)
        if wave.dim() != 1:
            raise InputError(f"a block of speech must be one row of samples, but its shape is {tuple(wave.shape)}")
        if wave.numel() == 0:
            return
        if not torch.isfinite(wave).all():
            raise InputError("speech has NaN or infinite samples; repair or export the recording again")
        self._blocks.append(wave)
        self.samples += wave.numel()

    def end(self) -> None:
        """No more blocks: pad a very short recording to one row. Raises InputError if nothing came."""
        if self.samples == 0:
            raise InputError("speech has no samples; give a recording with at least one")
        if self.samples < RECEPTIVE_SAMPLES:
            self._blocks = [check_wave(torch.cat(self._blocks)[None])[0]]
            self.samples = RECEPTIVE_SAMPLES

    def between(self, start: int, stop: int) -> Tensor:
        """Samples start .. stop - 1 as a batch of one [1, S]."""
        if len(self._blocks) > 1:
            self._blocks = [torch.cat(self._blocks)]
        return self._blocks[0][None, start - self._start : stop - self._start]

    def rows_between(self, first: int, stop: int) -> Tensor:
        """The samples [1, S] that rows first .. stop - 1 see."""
        return self.between(SAMPLES_PER_ROW * first, samples_for(stop))

    def forget(self, row: int) -> None:
        """Drop all samples that rows before `row` alone need."""
        start = SAMPLES_PER_ROW * row
        if start > self._start:
            self._blocks = [self.between(start, self.samples)[0].clone()]
            self._start = start


def spans_as_heard(blocks: Iterable[np.ndarray | Tensor], heard: Heard, chunking: Chunking) -> Iterator[Span]:
    """Feed `blocks` into `heard` and yield each span as soon as its sound has arrived."""
    first = 0
    for block in blocks:
        heard.push(block)
        while span := chunking.next_span(first, heard.rows, ended=False):
            yield span
            first = span.stop
    heard.end()
    while span := chunking.next_span(first, heard.rows, ended=True):
        yield span
        first = span.stop
