"""From 50 feature rows per second to the 11 rows each of 25 frames per second sees.

Frame i sees rows 2 i - 5 .. 2 i + 5. Rows before the first and after the last are zeros, as DreamTalk has
them. R rows make R // 2 frames, which the 80 samples a row sees beyond its stride leave one short of the
audio where it ends on a whole frame: `pad_blocks` adds the silence that fills the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..rates import ROWS_PER_FRAME, WINDOW
from ..types import frames_for
from .chunks import samples_for

REACH = WINDOW // 2
"""Rows a frame sees on each side of its own: 5."""


def windows(rows: Tensor, first_frame: int, frames: int) -> Tensor:
    """rows [B, R, D] -> [B, frames, 11, D] for frames first_frame .. first_frame + frames - 1."""
    if frames < 1:
        return rows.new_zeros(rows.shape[0], 0, WINDOW, rows.shape[2])
    start = ROWS_PER_FRAME * first_frame - REACH
    stop = start + ROWS_PER_FRAME * (frames - 1) + WINDOW
    known = rows[:, max(0, start) : max(0, stop)]
    before = min(max(0, -start), stop - start)
    after = stop - start - before - known.shape[1]
    padded = torch.nn.functional.pad(known, (0, 0, before, after))
    return padded.unfold(1, WINDOW, ROWS_PER_FRAME).transpose(2, 3)


class WindowBuffer:
    """Turns consecutive pieces of rows into consecutive windows, keeping at most 10 rows between pieces.

    All pieces together give `windows(all rows, 0, frames)`.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.frames = 0
        self._tail: Tensor | None = None

    def push(self, rows: Tensor) -> Tensor:
        """rows [B, n, D] that follow the last -> [B, L, 11, D]: the frames that are complete now (L may be 0)."""
        if self._tail is None:
            self._tail = rows.new_zeros(rows.shape[0], REACH, rows.shape[2])
        self.rows += rows.shape[1]
        self._tail = torch.cat([self._tail, rows], dim=1)
        return self._take((self._tail.shape[1] - WINDOW) // ROWS_PER_FRAME + 1)

    def finish(self, frames: int | None = None) -> Tensor:
        """The frames that reach past the last row, [B, L, 11, D].

        frames: how many the whole recording has (default: rows // 2); fewer than were given already is no more.
        """
        if self._tail is None:
            raise ValueError("no rows were pushed, so there are no windows to finish")
        left = max(0, (self.rows // ROWS_PER_FRAME if frames is None else frames) - self.frames)
        missing = ROWS_PER_FRAME * (left - 1) + WINDOW - self._tail.shape[1]
        self._tail = torch.nn.functional.pad(self._tail, (0, 0, 0, max(0, missing)))
        return self._take(left)

    def _take(self, frames: int) -> Tensor:
        """The next `frames` windows; their first rows are dropped from the tail."""
        frames = max(0, frames)
        cut = self._tail[:, : ROWS_PER_FRAME * (frames - 1) + WINDOW] if frames else self._tail[:, :0]
        self._tail = self._tail[:, ROWS_PER_FRAME * frames :].clone()
        self.frames += frames
        if not frames:
            return cut.new_zeros(cut.shape[0], 0, WINDOW, cut.shape[2])
        return cut.unfold(1, WINDOW, ROWS_PER_FRAME).transpose(2, 3)


def silence_after(samples: int) -> int:
    """Samples of silence (80 to 400, more for clips under a frame) after which rows // 2 >= frames_for(samples)."""
    return max(0, samples_for(ROWS_PER_FRAME * frames_for(samples)) - samples)


def pad_blocks(blocks: Iterable[np.ndarray | Tensor]) -> Iterator[np.ndarray | Tensor]:
    """`blocks` of samples [n], then the silence that makes the video as long as the audio (`silence_after`)."""
    samples = 0
    for block in blocks:
        samples += len(block)
        yield block
    if samples:
        yield np.zeros(silence_after(samples), dtype=np.float32)
