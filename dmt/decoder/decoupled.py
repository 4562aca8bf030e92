"""The decoupled decoder: upper and lower face apart (paper, section 3.4), joined into 64 coefficients."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..config import DenoiserConfig, SparsityConfig
from ..rates import COEFFICIENTS, WINDOW
from ..sparsity import decoder_site
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


def tail_sites(sparsity: SparsityConfig, width: int, hidden: int) -> nn.ModuleList | None:
    """Thresholds before the three layers of a tail, where `sparsity` reaches them."""
    gentle = replace(sparsity, initial_threshold=sparsity.tail_threshold)
    found = [decoder_site(gentle, size) for size in (width, hidden, hidden)]
    return None if found[0] is None else nn.ModuleList(found)


def apply_tail(layers: nn.Sequential, thresholds: nn.ModuleList | None, x: Tensor, t: Tensor | None) -> Tensor:
    """A tail on tokens x [N, ..., D] at times t [N]."""
    if thresholds is None:
        return layers(x)
    for threshold, layer in zip(thresholds, layers[::2], strict=True):
        x = threshold.linear(x, layer, t)
        if layer is not layers[-1]:
            x = torch.relu(x)
    return x


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
        self.upper_tail_thresholds = tail_sites(sparsity, config.width, config.tail_width)
        self.lower_tail_thresholds = tail_sites(sparsity, config.width, config.tail_width)
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

    def join(self, upper: Tensor, lower: Tensor, t: Tensor | None = None) -> Tensor:
        """Final tokens [B, ..., D] of both decoders at times t [B] -> coefficients [B, ..., 64]."""
        upper = apply_tail(self.upper_tail_fc, self.upper_tail_thresholds, upper, t)
        lower = apply_tail(self.lower_tail_fc, self.lower_tail_thresholds, lower, t)
        return torch.cat([upper, lower], dim=-1).index_select(-1, self.order)

    def forward(self, memory: Tensor, style: Tensor, acoustic: Tensor, t: Tensor) -> Tensor:
        """memory [B, L, 11, D], style [B, D], acoustic [B, L, D], t [B] -> [B, L, 64]."""
        y = self.queries(style)[:, None].expand(memory.shape)
        upper, lower = self.conditions(style, acoustic)
        return self.join(self.upper_decoder(y, memory, t, upper), self.lower_decoder(y, memory, t, lower), t)


assert sorted(UPPER + LOWER) == list(range(COEFFICIENTS))
