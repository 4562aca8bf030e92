"""Dynamic thresholds (paper, eq. 5-7), and the feed-forward block with one at its input and one inside."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from dmt_kernels import Masked, ema_state, masked_linear, threshold_ema

from ..config import SparsityConfig
from ..errors import InputError


class DynamicThreshold(nn.Module):
    """Zeroes the elements of x with |x| <= sigmoid(theta) * mu, mu being the running mean of |x| at this site.

    theta is learned (one number, or [width] with `per_feature`); mu follows eq. 6 in
    training and is frozen in evaluation. With `time_buckets` > 1 there is one mu for
    each equal part of diffusion time, since features drift along its steps.

    Buffer `state`: [time_buckets, 4] float32, each row as `dmt_kernels.ema_state` defines it.
    After each pass `kept` holds the share of live elements and, in training,
    `information` eq. 10 with its graph.
    """

    def __init__(self, config: SparsityConfig, width: int, *, time_steps: int = 1000) -> None:
        super().__init__()
        if not 0 < config.initial_threshold < 1:
            raise InputError(f"initial_threshold must lie between 0 and 1, got {config.initial_threshold}")
        if config.time_buckets < 1:
            raise InputError(f"time_buckets must be at least 1, got {config.time_buckets}")
        logit = math.log(config.initial_threshold / (1 - config.initial_threshold))
        self.alpha, self.buckets, self.time_steps = config.alpha, config.time_buckets, time_steps
        self.theta = nn.Parameter(torch.full((width,) if config.per_feature else (), logit))
        self.register_buffer("state", torch.stack([ema_state() for _ in range(self.buckets)]))
        self.group: ProcessGroup | None = None
        self.kept: Tensor | None = None
        self.information: Tensor | None = None

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """x [N, ..., D] with its weak elements zeroed; t: [N] diffusion times 1..T, needed only for time buckets."""
        return self._per_bucket(x, t, lambda part, state: self._mask(part, state))

    def linear(self, x: Tensor, layer: nn.Linear, t: Tensor | None = None) -> Tensor:
        """layer(forward(x, t)) as one operation that may skip the zeros; x [N, ..., D]."""
        return self._per_bucket(x, t, lambda part, state: self._linear(part, state, layer))

    def _mask(self, x: Tensor, state: Tensor) -> tuple[Tensor, Masked]:
        masked = threshold_ema(x, self.theta, state, alpha=self.alpha, update=self.training, information=self.training)
        return masked.values, masked

    def _linear(self, x: Tensor, state: Tensor, layer: nn.Linear) -> tuple[Tensor, Masked]:
        return masked_linear(
            x,
            self.theta,
            state,
            layer.weight,
            layer.bias,
            alpha=self.alpha,
            update=self.training,
            information=self.training,
            group=self.group,
        )

    def _per_bucket(self, x: Tensor, t: Tensor | None, apply) -> Tensor:
        """`apply(rows of one bucket, its EMA state)`, put together in the order of x."""
        if self.buckets == 1:
            out, masked = apply(x, self.state[0])
            self.kept, self.information = masked.live.detach(), masked.information
            return out
        if t is None:
            raise ValueError("a threshold with time buckets needs the diffusion time of every row")
        bucket = ((t.long() - 1).clamp(min=0) * self.buckets // self.time_steps).clamp(max=self.buckets - 1)
        present = bucket.unique().tolist()
        chosen = [torch.nonzero(bucket == b).flatten() for b in present]
        results = [apply(x[rows], self.state[b]) for b, rows in zip(present, chosen, strict=True)]
        shares = [rows.numel() / bucket.numel() for rows in chosen]
        self.kept = sum(m.live.detach() * s for (_, m), s in zip(results, shares, strict=True))
        if self.training:
            self.information = sum(m.information * s for (_, m), s in zip(results, shares, strict=True))
        order = torch.argsort(torch.cat(chosen))
        return torch.cat([out for out, _ in results])[order]


class ThresholdedFeedForward(nn.Module):
    """linear2(relu(linear1(x))) with dynamic thresholds before both products.

    The hidden threshold comes after the ReLU, whose zeros lie below any threshold:
    that is where most of the sparsity is. Transformer layers inherit from this class,
    so that their parameters keep the flat names `linear1`, `linear2`; without
    sparsity it has no others.

    linear1: `nn.Linear`, or a module called as linear1(x, mixture).
    """

    def __init__(
        self, width: int, linear1: nn.Module, linear2: nn.Linear, sparsity: SparsityConfig, dropout: float
    ) -> None:
        super().__init__()
        self.linear1, self.linear2 = linear1, linear2
        self.dropout = nn.Dropout(dropout)
        self.input_threshold = DynamicThreshold(sparsity, width) if sparsity.enabled else None
        self.hidden_threshold = DynamicThreshold(sparsity, linear2.in_features) if sparsity.enabled else None

    def feed_forward(self, x: Tensor, t: Tensor | None = None, mixture: Tensor | None = None) -> Tensor:
        """x [N, ..., D] -> [N, ..., D]; t [N] as `DynamicThreshold` takes it; mixture for a dynamic linear1."""
        hidden = self.dropout(torch.relu(self._first(x, t, mixture)))
        if self.hidden_threshold is None:
            return self.linear2(hidden)
        return self.hidden_threshold.linear(hidden, self.linear2, t)

    def _first(self, x: Tensor, t: Tensor | None, mixture: Tensor | None) -> Tensor:
        if mixture is not None:
            return self.linear1(x if self.input_threshold is None else self.input_threshold(x, t), mixture)
        if self.input_threshold is None:
            return self.linear1(x)
        return self.input_threshold.linear(x, self.linear1, t)


def share_averages(model: nn.Module, group: ProcessGroup | None) -> None:
    """Let all ranks of `group` share the running means of every threshold of `model`; None: each its own.

    With time buckets every rank must then see the same buckets in each step, as each is one collective.
    """
    for module in model.modules():
        if isinstance(module, DynamicThreshold):
            module.group = group


def kept_fractions(model: nn.Module) -> dict[str, float]:
    """Share of live elements at every threshold of `model` in its last pass, by the site's name."""
    sites = {name: m for name, m in model.named_modules() if isinstance(m, DynamicThreshold)}
    return {name: float(site.kept) for name, site in sites.items() if site.kept is not None}
