"""From 50 feature rows per second to the 11 rows each of 25 frames per second sees.

Frame i sees rows 2 i - 5 .. 2 i + 5. Rows before the first and after the last are zeros, as DreamTalk has them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..rates import ROWS_PER_FRAME, WINDOW

REACH = WINDOW // 2
"""Rows a frame sees on each side of its own: 5."""


def windows(rows: Tensor, first_frame: int, frames: int) -> Tensor:
    """rows [B, R, D] -> [B, frames, 11, D] for frames first_frame .. first_frame + frames - 1."""
    start = ROWS_PER_FRAME * first_frame - REACH
    stop = start + ROWS_PER_FRAME * (frames - 1) + WINDOW
    if frames < 1:
        return rows.new_zeros(rows.shape[0], 0, WINDOW, rows.shape[2])
    known = rows[:, max(0, start) : max(0, stop)]
    before = min(max(0, -start), stop - start)
    after = stop - start - before - known.shape[1]
    padded = torch.nn.functional.pad(known, (0, 0, before, after))
    return padded.unfold(1, WINDOW, ROWS_PER_FRAME).transpose(2, 3)
