"""Dynamic linear layers: W = softmax(MLP(c) / T) . W_shared (paper, section 3.4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .live_product import live_product


class Mixed(NamedTuple):
    """Mixed matrices, formed: weight [B, M, D, out], bias [B, M, out]; M = 1 (one per clip) or L (one per frame)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x [B, L, P, D] -> [B, L, P, out]; zeros of x are skipped as `live_product` does."""
        clips, frames, tokens = x.shape[:3]
        rows = x.reshape(clips * self.weight.shape[1], -1, x.shape[-1])  # [B * M, rows of one matrix, D]
        y = live_product(rows, self.weight.flatten(0, 1))
        return y.view(clips, frames, tokens, -1) + self.bias[:, :, None]


class MixtureNet(nn.Module):
    """softmax(W2 relu(W1 c) / T): how much of each shared matrix a condition takes."""

    def __init__(self, width: int, matrices: int, reduction: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        hidden = max(1, width // reduction)
        # Stored as 1x1 convolutions without bias [out, in, 1, 1], as DreamTalk's variant stores them.
        self.net = nn.ModuleDict(
            {"0": nn.Conv2d(width, hidden, 1, bias=False), "2": nn.Conv2d(hidden, matrices, 1, bias=False)}
        )

    def forward(self, condition: Tensor) -> Tensor:
        """condition [..., D] -> shares [..., matrices], summing to 1."""
        hidden = torch.relu(nn.functional.linear(condition, self.net["0"].weight.flatten(1)))
        logits = nn.functional.linear(hidden, self.net["2"].weight.flatten(1))
        return torch.softmax(logits / self.temperature, dim=-1)


class SharedMatrices(nn.Module):
    """K matrices and biases, and the net that mixes them."""

    def __init__(self, width: int, out: int, matrices: int, reduction: int, temperature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(matrices, out, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(matrices, out))
        self.attention = MixtureNet(width, matrices, reduction, temperature)
        # The mean of K independent matrices has 1/K of their variance: sqrt(K) gives the mixture Xavier's.
        bound = math.sqrt(6 / (width + out)) * math.sqrt(matrices)
        nn.init.uniform_(self.weight, -bound, bound)


class DynamicLinear(nn.Module):
    """y = (sum_k a_k W_k) x + sum_k a_k b_k, with the shares a = `mixture(condition)`."""

    def __init__(self, width: int, out: int, *, matrices: int, reduction: int, temperature: float) -> None:
        super().__init__()
        self.dynamic_conv = SharedMatrices(width, out, matrices, reduction, temperature)

    def mixture(self, condition: Tensor) -> Tensor:
        """condition [..., D] -> shares [..., K]."""
        return self.dynamic_conv.attention(condition)

    def form(self, mixture: Tensor) -> Mixed:
        """The mixed matrices of shares [B, 1 or L, K]: K * D * out products for each, then as an ordinary layer's."""
        weight = self.dynamic_conv.weight.flatten(2).transpose(1, 2)  # [K, D, out]
        mixed = mixture @ weight.reshape(len(weight), -1)
        return Mixed(mixed.unflatten(-1, weight.shape[1:]), mixture @ self.dynamic_conv.bias)

    def forward(self, x: Tensor, mixture: Tensor | Mixed) -> Tensor:
        """x [B, L, P, D], mixture [B, 1, K] (one per clip) or [B, L, K] (one per frame) -> [B, L, P, out].

        Per clip the mixed matrix is formed once. Per frame it never is, unless `form` did: all K products are
        taken as one, y = [W_1 .. W_K] (a_k x stacked over k), a single [K * D, out] product.
        """
        if isinstance(mixture, Mixed):
            return mixture(x)
        weight = self.dynamic_conv.weight.flatten(2)  # [K, out, D]
        bias = mixture @ self.dynamic_conv.bias  # [B, 1 or L, out]
        if mixture.shape[1] == 1:
            mixed = torch.einsum("bk,koi->bio", mixture[:, 0], weight)
            return torch.baddbmm(bias, x.flatten(1, 2), mixed).unflatten(1, x.shape[1:3])
        stacked = (mixture[:, :, None, :, None] * x[:, :, :, None, :]).flatten(-2)  # [B, L, P, K * D]
        return stacked @ weight.permute(0, 2, 1).flatten(0, 1) + bias[:, :, None]
