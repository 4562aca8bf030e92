"""Dynamic thresholds (paper, eq. 5-7), and the feed-forward block with one at its input and one inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from dmt_kernels import Masked, advance, ema_state, masked_linear, pack_mask, sparse_linear, threshold_ema
from dmt_kernels.ops.threshold_ema.reference import next_state

from ..config import SparsityConfig
from ..errors import InputError
from .guard import QUIETEST, LevelGuard
from .shared import shared_information


class DynamicThreshold(nn.Module):
    """Zeroes the elements of x with |x| <= sigmoid(theta) * mu, mu being the running mean of |x| at this site.

    theta is learned (one number, or [width] with `per_feature`); mu follows eq. 6 in
    training and is frozen in evaluation. With `time_buckets` > 1 there is one mu for
    each equal part of diffusion time, since features drift along its steps.

    Buffer `state`: [time_buckets, 4] float32, each row as `dmt_kernels.ema_state` defines it.
    After each pass `kept` holds the share of live elements and, in training,
    `information` eq. 10 with its graph. `group`, `guard` and `watched` belong to a run, not to the model:
    see `share_averages`, `guard_averages` and `watch_crowding`.
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
        self.guard: LevelGuard | None = None
        self.kept: Tensor | None = None
        self.information: Tensor | None = None
        self.watched = False
        self.crowding: Tensor | None = None

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """x [N, ..., D] with its weak elements zeroed; t: [N] diffusion times 1..T, needed only for time buckets."""
        return self._per_bucket(x, t, self._mask)

    def masked(self, x: Tensor, t: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `forward` gives, and its packed mask [N, ..., ceil(D / 64)]."""
        made: list[Masked] = []

        def apply(part: Tensor, bucket: int) -> tuple[Tensor, Masked]:
            values, masked = self._mask(part, bucket)
            made.append(masked)
            return values, masked

        values = self._per_bucket(x, t, apply)
        return values, made[0].bits if len(made) == 1 else pack_mask(values != 0)

    def linear(self, x: Tensor, layer: nn.Linear, t: Tensor | None = None) -> Tensor:
        """layer(forward(x, t)) as one operation that may skip the zeros; x [N, ..., D]."""
        return self.product(x, layer.weight, layer.bias, t)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, t: Tensor | None = None) -> Tensor:
        """`linear` with a layer's parameters: weight [out, D], bias [out]."""
        return self._per_bucket(x, t, lambda part, bucket: self._product(part, bucket, weight, bias))

    def _mask(self, x: Tensor, bucket: int) -> tuple[Tensor, Masked]:
        if self.training and self.group is not None:
            return self._shared_mask(x, bucket)
        masked = threshold_ema(x, self.theta, self.state[bucket], **self._settings(x, bucket))
        return masked.values, masked

    def _product(self, x: Tensor, bucket: int, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Masked]:
        if self.training and self.group is not None:
            if torch.is_autocast_enabled(x.device.type):  # before the threshold, as `masked_linear` does
                x = x.to(torch.get_autocast_dtype(x.device.type))
            values, masked = self._shared_mask(x, bucket)
            return sparse_linear(values, masked.bits, weight, bias), masked
        return masked_linear(x, self.theta, self.state[bucket], weight, bias, **self._settings(x, bucket))

    def _shared_mask(self, x: Tensor, bucket: int) -> tuple[Tensor, Masked]:
        """The same with eq. 6 and eq. 10 over the batches of all ranks."""
        self._absorb(x, bucket)
        masked = threshold_ema(x, self.theta, self.state[bucket], alpha=self.alpha, update=False)
        return masked.values, masked._replace(information=shared_information(masked.values, x, self.group))

    def _settings(self, x: Tensor, bucket: int) -> dict[str, Any]:
        """What the operators are told; mu has moved already where a guard has a say in it."""
        if not self.training:
            return {"alpha": self.alpha, "update": False, "information": False}
        if self.guard is not None:
            self._absorb(x, bucket)
        return {"alpha": self.alpha, "update": self.guard is None, "information": True}

    @torch.no_grad()
    def _absorb(self, x: Tensor, bucket: int) -> None:
        """Eq. 6, of all ranks and unless the guard objects."""
        sums = torch.ops.dmt_kernels.abs_sums(x.detach())
        if self.group is not None:
            torch.distributed.all_reduce(sums, group=self.group)
        if self.guard is not None:
            sums = self.guard.judge(sums, bucket)
        self.state[bucket].copy_(next_state(self.state[bucket], sums, self.alpha))

    def _per_bucket(self, x: Tensor, t: Tensor | None, apply: Callable[[Tensor, int], tuple[Tensor, Masked]]) -> Tensor:
        """`apply(rows of one bucket, its number)`, put together in the order of x."""
        if self.training and self.watched:
            self.crowding = x.abs().mean() / (x.square().mean() + QUIETEST).sqrt()
        if self.buckets == 1:
            out, masked = apply(x, 0)
            self.kept, self.information = masked.live.detach(), masked.information
            return out
        if t is None:
            raise ValueError("a threshold with time buckets needs the diffusion time of every row")
        bucket = ((t.long() - 1).clamp(min=0) * self.buckets // self.time_steps).clamp(max=self.buckets - 1)
        present = bucket.unique().tolist()
        chosen = [torch.nonzero(bucket == b).flatten() for b in present]
        results = [apply(x[rows], b) for b, rows in zip(present, chosen, strict=True)]
        shares = [rows.numel() / bucket.numel() for rows in chosen]
        self.kept = sum(m.live.detach() * s for (_, m), s in zip(results, shares, strict=True))
        if self.training:
            self.information = sum(m.information * s for (_, m), s in zip(results, shares, strict=True))
        order = torch.argsort(torch.cat(chosen))
        return torch.cat([out for out, _ in results])[order]


def decoder_site(config: SparsityConfig, width: int) -> DynamicThreshold | None:
    """A threshold in front of a product of the decoders outside their feed-forward layers, where `config` has them."""
    return DynamicThreshold(config, width) if config.enabled and config.reach == "decoders" else None


def product(
    site: DynamicThreshold | None, x: Tensor, weight: Tensor, bias: Tensor | None, t: Tensor | None = None
) -> Tensor:
    """x [N, ..., D] @ weight.T + bias, with x masked by `site` if there is one."""
    return F.linear(x, weight, bias) if site is None else site.product(x, weight, bias, t)


class ThresholdedFeedForward(nn.Module):
    """linear2(relu(linear1(x))) with dynamic thresholds before both products.

    The hidden threshold comes after the ReLU, whose zeros lie below any threshold:
    that is where most of the sparsity is. Transformer layers inherit from this class,
    so that their parameters keep the flat names `linear1`, `linear2`; without
    sparsity it has no others.

    linear1: `nn.Linear`, or a module called as linear1(x, mixture), where mixture is whatever it makes of a condition.
    """

    def __init__(
        self, width: int, linear1: nn.Module, linear2: nn.Linear, sparsity: SparsityConfig, dropout: float
    ) -> None:
        super().__init__()
        self.linear1, self.linear2 = linear1, linear2
        self.dropout = nn.Dropout(dropout)
        self.input_threshold = DynamicThreshold(sparsity, width) if sparsity.enabled else None
        self.hidden_threshold = DynamicThreshold(sparsity, linear2.in_features) if sparsity.enabled else None

    def feed_forward(self, x: Tensor, t: Tensor | None = None, mixture: Any = None) -> Tensor:
        """x [N, ..., D] -> [N, ..., D]; t [N] as `DynamicThreshold` takes it; mixture for a dynamic linear1."""
        hidden = self.dropout(torch.relu(self._first(x, t, mixture)))
        if self.hidden_threshold is None:
            return self.linear2(hidden)
        return self.hidden_threshold.linear(hidden, self.linear2, t)

    def _first(self, x: Tensor, t: Tensor | None, mixture: Any) -> Tensor:
        if mixture is not None:
            return self.linear1(x if self.input_threshold is None else self.input_threshold(x, t), mixture)
        if self.input_threshold is None:
            return self.linear1(x)
        return self.input_threshold.linear(x, self.linear1, t)


def sites(model: nn.Module) -> dict[str, DynamicThreshold]:
    """Every threshold of `model` by its name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, DynamicThreshold)}


def taken(model: nn.Module, name: Literal["information", "crowding"]) -> Tensor:
    """Mean over all thresholds of what the last training pass left there as `name`; 0 if there is nothing.

    The values are taken from the sites, so that a stale graph is never used twice.
    """
    found = [site for site in sites(model).values() if getattr(site, name) is not None]
    values = [getattr(site, name) for site in found]
    for site in found:
        setattr(site, name, None)
    if values:
        return torch.stack(values).mean()
    parameter = next(model.parameters(), None)
    return torch.zeros((), device=None if parameter is None else parameter.device)


def share_averages(model: nn.Module, group: ProcessGroup | None) -> None:
    """Let all ranks of `group` share the running means (eq. 6) and the statistics of eq. 10; None: each its own.

    A step of several ranks is then the step of one rank with the whole batch. Costs a few small collectives per
    site and pass. With time buckets every rank must see the same buckets in each step, as each is one collective.
    """
    for site in sites(model).values():
        site.group = group


def guard_averages(model: nn.Module, limit: float | None) -> None:
    """Keep abnormal batches out of every running mean: robust z-score above `limit`; None takes the guards away.

    Raises InputError unless limit is positive.
    """
    if limit is not None and not limit > 0:
        raise InputError(f"the z-score from which a batch is abnormal must be positive, got {limit}")
    for site in sites(model).values():
        device = site.state.device
        site.guard = None if limit is None else LevelGuard(limit, site.buckets).to(device)


def abnormal_batches(model: nn.Module) -> dict[str, int]:
    """How many batches each guarded threshold has kept out so far, for those that kept out any; reads the device."""
    counts = {name: int(site.guard.rejected.sum()) for name, site in sites(model).items() if site.guard is not None}
    return {name: count for name, count in counts.items() if count}


def begin_step(model: nn.Module) -> None:
    """Begin an optimiser's step: of the passes that follow, mu of each site absorbs only the first."""
    for site in sites(model).values():
        advance(site.state)


def kept_fractions(model: nn.Module) -> dict[str, float]:
    """Share of live elements at every threshold of `model` in its last pass, by the site's name."""
    return {name: float(site.kept) for name, site in sites(model).items() if site.kept is not None}
