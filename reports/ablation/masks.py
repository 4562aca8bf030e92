"""What dynamic thresholds are compared with: constant thresholds, and the k largest elements of each row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmt.sparsity import DynamicThreshold
from dmt_kernels import pack_mask
from dmt_kernels.masked import MU, UPDATES


def masks(model: nn.Module) -> dict[str, DynamicThreshold | TopK]:
    """Everything that zeroes elements, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (DynamicThreshold, TopK))}


def level(site: DynamicThreshold) -> float:
    """sigmoid(theta) mu: what |x| must exceed."""
    return float(torch.sigmoid(site.theta.detach()) * site.state[0, MU])


class TopK(nn.Module):
    """Keeps the round(share * D) elements of each row with the largest |x|; stands in for a `DynamicThreshold`."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.kept: Tensor | None = None

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """x [..., D] with its weak elements zeroed; a zero is not counted as kept."""
        count = max(1, round(self.share * x.shape[-1]))
        chosen = torch.zeros_like(x).scatter(-1, x.detach().abs().topk(count, -1).indices, 1.0)
        masked = x * chosen
        self.kept = (masked != 0).float().mean()
        return masked

    def masked(self, x: Tensor, t: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `forward` gives, and its packed mask."""
        values = self.forward(x)
        return values, pack_mask(values != 0)

    def linear(self, x: Tensor, layer: nn.Linear, t: Tensor | None = None) -> Tensor:
        return self.product(x, layer.weight, layer.bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, t: Tensor | None = None) -> Tensor:
        return nn.functional.linear(self.forward(x), weight, bias)


def make_constant(site: DynamicThreshold, value: float) -> None:
    """Let `site` zero |x| <= value for good: theta does not learn and mu does not move."""
    site.theta.requires_grad_(False)
    site.alpha = 1.0
    site.state[:, MU] = value / torch.sigmoid(site.theta.detach())
    site.state[:, UPDATES] = 1.0  # a state without updates would take its first mean whole


def replace_masks(model: nn.Module, kind: str, levels: dict[str, dict[str, float]]) -> None:
    """Give every threshold of `model` the constant or the share that `levels` holds for its name."""
    for name, site in masks(model).items():
        if kind == "fixed":
            make_constant(site, levels[name]["threshold"])
        else:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, TopK(levels[name]["kept"]))
