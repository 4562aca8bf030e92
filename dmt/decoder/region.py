"""The decoder of one face region: layers over the 11 tokens of a frame, of which the middle one is kept."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ..config import DenoiserConfig, SparsityConfig
from ..sparsity import ThresholdedFeedForward
from .attention import Attention
from .dynamic_linear import DynamicLinear, Mixed

FEW_ROWS = 3
"""Rows of a frame up to which its shared matrices are multiplied at every step, rather than one matrix of its own.

Milliseconds of one step of 64 frames (one core of an Emerald Rapids; own: with a tenth of what forming takes, for ten
steps). Width 96 to 256, four shared matrices: even at 3 rows; 0.36 own, 0.18 shared for one row; 0.57, 1.2 for 11.
Width 256 to 1024, eight: 5.2 own, 5.6 shared for one row, which is not worth the memory; 12, 24 for 11.
"""


class DecoderLayer(ThresholdedFeedForward):
    """y = LN1(y + SelfMHA(y)); y = LN2(y + CrossMHA(y, memory)); y = LN3(y + FFN(y)).

    first: y is the style's and knows no diffusion time up to the cross-attention's queries, nor do thresholds there.
    Where thresholds reach all of the decoder, mixed matrices are formed, so that a product with them can skip zeros.
    """

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig, *, first: bool = False) -> None:
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
        early = replace(sparsity, time_buckets=1) if first else sparsity
        self.self_attn = Attention(width, config.heads, config.dropout, early, early)
        self.multihead_attn = Attention(width, config.heads, config.dropout, early, sparsity)
        self.forms = sparsity.enabled and sparsity.reach == "decoders"
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def mixture(self, condition: Tensor, often: int = 0) -> Tensor | Mixed | None:
        """Shares of the shared matrices for condition [B, 1 or L, D], or what they make; None for an ordinary layer.

        often: rows of every frame that will be multiplied again and again. More than a few are worth a matrix of the
        frame's own, which saves them the products with all shared ones.
        """
        if not isinstance(self.linear1, DynamicLinear):
            return None
        shares = self.linear1.mixture(condition)
        return self.linear1.form(shares) if self.forms or often > FEW_ROWS else shares

    def forward(self, y: Tensor, memory: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """y, memory [B, L, P, D]; t [B]; condition [B, 1 or L, D] -> [B, L, P, D]."""
        shape = y.shape
        y, memory = y.flatten(0, 1), memory.flatten(0, 1)
        times = t[:, None].expand(-1, shape[1]).flatten()
        y = self.norm1(y + self.dropout(self.self_attn(y, t=times)))
        y = self.norm2(y + self.dropout(self.multihead_attn(y, memory, t=times)))
        return self.finish(y.unflatten(0, shape[:2]), t, self.mixture(condition))

    def finish(self, y: Tensor, t: Tensor, mixture: Tensor | Mixed | None) -> Tensor:
        """The feed-forward third of the layer; y [B, L, P, D]."""
        return self.norm3(y + self.dropout(self.feed_forward(y, t, mixture)))


class RegionDecoder(nn.Module):
    """Decoder layers and a closing layer norm."""

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig) -> None:
        super().__init__()
        layers = range(config.decoder_layers)
        self.layers = nn.ModuleList(DecoderLayer(config, sparsity, first=index == 0) for index in layers)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, y: Tensor, memory: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """y, memory [B, L, P, D]; t [B]; condition [B, 1 or L, D] -> the middle token [B, L, D]."""
        for layer in self.layers:
            y = layer(y, memory, t, condition)
        return self.norm(y[:, :, y.shape[2] // 2])
