"""Our pressure towards few large elements: what it measures, whom it moves, and that nobody pays for it unasked."""

from __future__ import annotations

import math

import pytest
import torch

from dmt.config import SparsityConfig
from dmt.sparsity import DynamicThreshold, crowding_loss, watch_crowding
from dmt.training import LossConfig


def site() -> DynamicThreshold:
    return DynamicThreshold(SparsityConfig(initial_threshold=0.9), 32)


def crowding(x: torch.Tensor) -> float:
    threshold = site()
    watch_crowding(threshold, True)
    threshold(x)
    return float(crowding_loss(threshold))


def test_what_is_measured():
    torch.manual_seed(0)
    assert crowding(torch.full((64, 32), -3.0)) == pytest.approx(1.0)
    assert crowding(7 * torch.randn(4000, 32)) == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)
    few = torch.zeros(64, 32)
    few[:, ::4] = 2.0
    assert crowding(few) == pytest.approx(0.5)


def test_silence_has_finite_gradients():
    threshold, x = site(), torch.zeros(8, 32, requires_grad=True)
    watch_crowding(threshold, True)
    threshold(x)
    crowding_loss(threshold).backward()
    assert bool(x.grad.isfinite().all())


def test_off_unless_asked_and_taken_once():
    assert LossConfig().crowding == 0
    threshold = site()
    threshold(torch.randn(8, 32))
    assert threshold.crowding is None and float(crowding_loss(threshold)) == 0
    watch_crowding(threshold, True)
    threshold(torch.randn(8, 32))
    assert float(crowding_loss(threshold)) > 0 and float(crowding_loss(threshold)) == 0
    threshold.eval()(torch.randn(8, 32))
    assert threshold.crowding is None


def test_following_it_keeps_fewer_elements():
    torch.manual_seed(0)
    threshold, data = site(), torch.randn(512, 32)
    weight = torch.nn.Parameter(torch.eye(32) + 0.1 * torch.randn(32, 32))
    watch_crowding(threshold, True)
    optimiser, kept = torch.optim.Adam([weight], lr=1e-2), []
    for _ in range(60):
        threshold(torch.relu(data @ weight))
        kept.append(float(threshold.kept))
        optimiser.zero_grad()
        crowding_loss(threshold).backward()
        optimiser.step()
    assert kept[-1] < 0.8 * kept[0]
