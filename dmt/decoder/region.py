"""The decoder of one face region: layers over the 11 tokens of a frame, of which the middle one is kept."""

from __future__ import annotations

from torch import Tensor, nn

from ..config import DenoiserConfig, SparsityConfig
from ..sparsity import ThresholdedFeedForward
from .attention import Attention
from .dynamic_linear import DynamicLinear


class DecoderLayer(ThresholdedFeedForward):
    """y = LN1(y + SelfMHA(y)); y = LN2(y + CrossMHA(y, memory)); y = LN3(y + FFN(y))."""

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig) -> None:
        width, hidden = config.width, config.feed_forward
        if config.decoder == "plain":
            linear1: nn.Module = nn.Linear(width, hidden)
        else:
            linear1 = DynamicLinear(
                width,
                hidden,
                matrices=config.shared_matrices,
                reduction=config.reduction,
                temperature=config.temperature,
            )
        super().__init__(width, linear1, nn.Linear(hidden, width), sparsity, config.dropout)
        self.self_attn = Attention(width, config.heads, config.dropout)
        self.multihead_attn = Attention(width, config.heads, config.dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def mixture(self, condition: Tensor) -> Tensor | None:
        """Shares of the shared matrices for condition [..., D]; None where linear1 is an ordinary layer."""
        return self.linear1.mixture(condition) if isinstance(self.linear1, DynamicLinear) else None

    def forward(self, y: Tensor, memory: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """y, memory [B, L, P, D]; t [B]; condition [B, 1 or L, D] -> [B, L, P, D]."""
        shape = y.shape
        y, memory = y.flatten(0, 1), memory.flatten(0, 1)
        y = self.norm1(y + self.dropout(self.self_attn(y)))
        y = self.norm2(y + self.dropout(self.multihead_attn(y, memory)))
        return self.finish(y.unflatten(0, shape[:2]), t, self.mixture(condition))

    def finish(self, y: Tensor, t: Tensor, mixture: Tensor | None) -> Tensor:
        """The feed-forward third of the layer; y [B, L, P, D]."""
        return self.norm3(y + self.dropout(self.feed_forward(y, t, mixture)))


class RegionDecoder(nn.Module):
    """Decoder layers and a closing layer norm."""

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config, sparsity) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, y: Tensor, memory: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """y, memory [B, L, P, D]; t [B]; condition [B, 1 or L, D] -> the middle token [B, L, D]."""
        for layer in self.layers:
            y = layer(y, memory, t, condition)
        return self.norm(y[:, :, y.shape[2] // 2])
