"""How it is said: a clip of coefficients becomes one style code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import DenoiserConfig, SparsityConfig
from ..decoder import PositionTable
from ..rates import COEFFICIENTS, STYLE_FRAMES
from .blocks import Encoder

IGNORE = -1e5
"""Added to the pooling score of a padded frame."""


class AttentionPooling(nn.Module):
    """A weighted sum over time, the weights from a small net."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Sequential(nn.Linear(width, width), nn.Mish(), nn.Linear(width, 1))

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """x [B, T, D], padding [B, T] (True: ignore) -> [B, D]."""
        score = self.W(x).squeeze(-1) + IGNORE * padding.to(x.dtype)
        return (torch.softmax(score, dim=1)[..., None] * x).sum(1)


class StyleEncoder(nn.Module):
    """Linear, positions, encoder layers over time, attention pooling."""

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig) -> None:
        super().__init__()
        self.increase_embed_dim = nn.Linear(COEFFICIENTS, config.width)
        self.pos_embed = PositionTable(STYLE_FRAMES, config.width)
        self.encoder = Encoder(config, sparsity, config.style_layers)
        self.aggregate_method = AttentionPooling(config.width)

    def forward(self, style: Tensor, padding: Tensor) -> Tensor:
        """style [B, 256, 64], padding [B, 256] bool (True where padded) -> code [B, D]."""
        x = self.pos_embed(self.increase_embed_dim(style))
        return self.aggregate_method(self.encoder(x, padding), padding)
