"""Multi-head attention with `nn.MultiheadAttention`'s parameters, and position tables."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SparsityConfig
from ..sparsity import decoder_site, product


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v over heads; parameter names and layout of `nn.MultiheadAttention`.

    in_proj_weight [3C, C] holds Q, K and V below one another.

    inputs, outputs: where they reach the decoders, a threshold masks what queries are made from (in self-attention
    keys and values as well: one mask for the three), and another what enters the output projection.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        inputs: SparsityConfig | None = None,
        outputs: SparsityConfig | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)
        self.input_threshold = decoder_site(inputs, width) if inputs else None
        self.output_threshold = decoder_site(outputs, width) if outputs else None

    def split(self, x: Tensor) -> Tensor:
        """[N, P, C] -> [N, heads, P, C / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def query(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """The query projection of x [N, ..., C] at times t [N], heads not yet split."""
        weight, bias = self.in_proj_weight[: self.width], self.in_proj_bias[: self.width]
        return product(self.input_threshold, x, weight, bias, t)

    def project(self, mixed: Tensor, t: Tensor | None = None) -> Tensor:
        """The output projection of joined heads [N, ..., C] at times t [N]."""
        return product(self.output_threshold, mixed, self.out_proj.weight, self.out_proj.bias, t)

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, t: Tensor | None = None
    ) -> Tensor:
        """Attention of split heads [N, heads, P, d], joined and projected: [N, P, C]."""
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.project(mixed.transpose(1, 2).flatten(-2), t)

    def forward(
        self,
        query: Tensor,
        source: Tensor | None = None,
        padding: Tensor | None = None,
        t: Tensor | None = None,
    ) -> Tensor:
        """query [N, P, C] attends to source [N, Q, C] (itself if None) -> [N, P, C].

        padding: [N, Q] bool, True where a source row must be ignored. t: [N] diffusion times, for time buckets.
        """
        if source is None:
            both = product(self.input_threshold, query, self.in_proj_weight, self.in_proj_bias, t)
            q, k, v = both.chunk(3, dim=-1)
        else:
            q = self.query(query, t)
            rest = slice(self.width, None)
            k, v = F.linear(source, self.in_proj_weight[rest], self.in_proj_bias[rest]).chunk(2, dim=-1)
        mask = None if padding is None else ~padding[:, None, None, :]
        return self.mix(self.split(q), self.split(k), self.split(v), mask, t)


def sinusoids(positions: int, width: int) -> Tensor:
    """[positions, width]: sin(p / 10000^(2k/width)) in even columns, cos in odd; computed in float64."""
    angle = np.arange(positions)[:, None] / np.power(10000.0, 2 * np.arange(width // 2)[None] / width)
    table = np.zeros((positions, width))
    table[:, 0::2], table[:, 1::2] = np.sin(angle), np.cos(angle)
    return torch.from_numpy(table.astype(np.float32))


class PositionTable(nn.Module):
    """A fixed position table [1, positions, C], kept as the buffer `pos_table`."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pos_table", sinusoids(positions, width)[None])

    def forward(self, x: Tensor) -> Tensor:
        """x [..., P, C] plus the first P positions."""
        return x + self.pos_table[:, : x.shape[-2]]
