"""Encoder layers and the embedding of diffusion time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..config import DenoiserConfig, SparsityConfig
from ..decoder import Attention
from ..sparsity import ThresholdedFeedForward


class EncoderLayer(ThresholdedFeedForward):
    """x = LN1(x + MHA(x)); x = LN2(x + FFN(x)), as DreamTalk normalises: after each sum."""

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig) -> None:
        linear1, linear2 = nn.Linear(config.width, config.feed_forward), nn.Linear(config.feed_forward, config.width)
        super().__init__(config.width, linear1, linear2, sparsity, config.dropout)
        self.self_attn = Attention(config.width, config.heads, config.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """x [N, P, D]; padding [N, P] bool, True where ignored -> [N, P, D]."""
        x = self.norm1(x + self.dropout(self.self_attn(x, padding=padding)))
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class Encoder(nn.Module):
    """Encoder layers one after another, without a closing norm."""

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config, sparsity) for _ in range(layers))

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, padding)
        return x


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Diffusion times [B] -> [B, width]: cosines, then sines, of t / 10000^(2j/width)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10000.0) / half))
    angle = t.to(torch.float32)[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def initialise(module: nn.Module) -> None:
    """Xavier-uniform on every weight with two dimensions, as DreamTalk starts its encoders and decoders."""
    for parameter in module.parameters():
        if parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)
