"""The decoupled decoder: upper and lower face apart (paper, section 3.4), joined into 64 coefficients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import DenoiserConfig, SparsityConfig
from ..rates import COEFFICIENTS, WINDOW
from .attention import PositionTable
from .region import RegionDecoder

UPPER = (6, 8, *range(15, 64))
"""Coefficients of the upper face (51)."""

LOWER = (0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14)
"""Coefficients of the lower face (13)."""


def tail(width: int, hidden: int, out: int) -> nn.Sequential:
    """Three linear layers from a token to coefficients."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
    )


class DecoupledDecoder(nn.Module):
    """Two region decoders of one shape without shared weights.

    The upper face follows the style code. The lower face follows the style code too in
    the plain and `styletalk` decoders; in the paper's (`dynamic`) its matrices follow the
    acoustic feature of the frame. Only linear1 of each feed-forward is dynamic, the one
    dynamic layer the paper gives each branch; linear2 stays a masked product, where sparsity pays.
    """

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig) -> None:
        super().__init__()
        self.kind = config.decoder
        self.pos_embed = PositionTable(WINDOW, config.width)
        self.upper_decoder = RegionDecoder(config, sparsity)
        self.lower_decoder = RegionDecoder(config, sparsity)
        self.upper_tail_fc = tail(config.width, config.tail_width, len(UPPER))
        self.lower_tail_fc = tail(config.width, config.tail_width, len(LOWER))
        order = torch.tensor(UPPER + LOWER).argsort()
        self.register_buffer("order", order, persistent=False)

    def queries(self, style: Tensor) -> Tensor:
        """style code [B, D] -> what the decoders start from, the same for every frame: [B, 11, D]."""
        return self.pos_embed(style[:, None].expand(-1, WINDOW, -1))

    def conditions(self, style: Tensor, acoustic: Tensor) -> tuple[Tensor, Tensor]:
        """What the matrices of the (upper, lower) decoder follow: [B, 1, D] or [B, L, D].

        style [B, D]; acoustic [B, L, D], the content encoder's middle token of each frame.
        """
        return style[:, None], acoustic if self.kind == "dynamic" else style[:, None]

    def join(self, upper: Tensor, lower: Tensor) -> Tensor:
        """Final tokens [..., D] of both decoders -> coefficients [..., 64]."""
        both = torch.cat([self.upper_tail_fc(upper), self.lower_tail_fc(lower)], dim=-1)
        return both.index_select(-1, self.order)

    def forward(self, memory: Tensor, style: Tensor, acoustic: Tensor, t: Tensor) -> Tensor:
        """memory [B, L, 11, D], style [B, D], acoustic [B, L, D], t [B] -> [B, L, 64]."""
        y = self.queries(style)[:, None].expand(memory.shape)
        upper, lower = self.conditions(style, acoustic)
        return self.join(self.upper_decoder(y, memory, t, upper), self.lower_decoder(y, memory, t, lower))


assert sorted(UPPER + LOWER) == list(range(COEFFICIENTS))
