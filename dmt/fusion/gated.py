"""Gated fusion of acoustic and prosodic speech features (paper, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """g = sigmoid(Linear([f_w2v; f_tac])), f_final = f_w2v + scale * (g * f_w2v + (1 - g) * proj(f_tac)).

    The paper adds f_tac (512 wide) to f_w2v (1024 wide); `proj` makes that sum
    defined. Its skip connection is f_final = f_fusion + f_input with f_input =
    f_w2v; the learned `scale` on f_fusion starts at 0, so that a network trained on
    f_w2v alone is unchanged at the first step. While it is exactly 0 the gate and the
    projection receive no gradient; the scale itself does, and one step later all learn.
    """

    def __init__(self, acoustic_width: int, prosodic_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(acoustic_width + prosodic_width, acoustic_width)
        self.project = nn.Linear(prosodic_width, acoustic_width)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, acoustic: Tensor, prosodic: Tensor) -> Tensor:
        """acoustic: [B, R, D_w2v]; prosodic: [B, R, D_tac] -> [B, R, D_w2v]."""
        gate = torch.sigmoid(self.gate(torch.cat([acoustic, prosodic], dim=-1)))
        projected = self.project(prosodic)
        fused = projected + gate * (acoustic - projected)  # g * f_w2v + (1 - g) * f_tac
        return acoustic + self.scale * fused
