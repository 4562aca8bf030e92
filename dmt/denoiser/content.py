"""What is said: the window of speech features around a frame becomes 11 tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import DenoiserConfig, SparsityConfig
from ..decoder import PositionTable
from ..rates import ROWS_PER_FRAME, WINDOW
from .blocks import Encoder

REACH = WINDOW // 2


class ContentEncoder(nn.Module):
    """Linear, positions, encoder layers over the 11 rows of one frame; frames do not see one another."""

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig, input_width: int) -> None:
        super().__init__()
        self.increase_embed_dim = nn.Linear(input_width, config.width)
        self.pos_embed = PositionTable(WINDOW, config.width)
        self.encoder = Encoder(config, sparsity, config.content_layers)

    def forward(self, windows: Tensor) -> Tensor:
        """windows [B, L, 11, D_in] -> tokens [B, L, 11, D]."""
        return self.encode(self.increase_embed_dim(windows))

    def encode(self, projected: Tensor) -> Tensor:
        """Windows after the linear layer [B, L, 11, D] -> tokens [B, L, 11, D]."""
        x = self.pos_embed(projected.flatten(0, 1))  # [B * L, 11, D]
        return self.encoder(x).unflatten(0, projected.shape[:2])

    def from_rows(self, rows: Tensor, first_frame: int, frames: int) -> Tensor:
        """forward() of the windows of frames first_frame .. + frames, with each row of [B, R, D_in] projected once.

        A row that lies outside is zero, so it is the bias after the linear layer.
        """
        start = ROWS_PER_FRAME * first_frame - REACH
        stop = start + ROWS_PER_FRAME * (frames - 1) + WINDOW
        known = self.increase_embed_dim(rows[:, max(0, start) : max(0, stop)])
        before = min(max(0, -start), stop - start)
        padded = self.increase_embed_dim.bias.expand(rows.shape[0], stop - start, -1).clone()
        padded[:, before : before + known.shape[1]] = known
        projected = padded.unfold(1, WINDOW, ROWS_PER_FRAME).transpose(2, 3)  # [B, L, 11, D]
        return self.encode(torch.clone(projected, memory_format=torch.contiguous_format))
