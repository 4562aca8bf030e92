"""Thresholds among bad batches: outliers, silence, one repeated sample, imbalance, broken numbers."""

from __future__ import annotations

import pytest
import torch

from dmt.config import SparsityConfig
from dmt.errors import InputError
from dmt.sparsity import (
    DynamicThreshold,
    LevelGuard,
    abnormal_batches,
    begin_step,
    guard_averages,
    information_loss,
)
from dmt.sparsity.guard import MEMORY, WARM_UP


def guarded(limit=8.0, **changes):
    site = DynamicThreshold(SparsityConfig(initial_threshold=0.5, **changes), 16)
    guard_averages(site, limit)
    return site


def feed(site, batches, scale=1.0, seed=0):
    """Ordinary batches of level about 0.8 scale."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(batches):
        site(scale * torch.randn(64, 16, generator=generator))
    return float(site.state[0, 0])


def finite(site):
    return bool(torch.isfinite(site.state).all() and torch.isfinite(site.theta))


def test_ordinary_batches_move_mu_as_without_a_guard():
    with_guard, without = guarded(), DynamicThreshold(SparsityConfig(initial_threshold=0.5), 16)
    feed(with_guard, 60)
    feed(without, 60)
    assert torch.equal(with_guard.state, without.state)
    assert abnormal_batches(with_guard) == {}
    x = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(with_guard(x), without(x))


@pytest.mark.parametrize("factor", [1e-6, 1e4, 1e30])
def test_an_outlier_leaves_the_average_alone_and_is_counted(factor):
    site = guarded()
    mu = feed(site, 30)
    out = site(factor * torch.ones(8, 16))
    assert float(site.state[0, 0]) == mu
    assert abnormal_batches(site) == {"": 1}
    assert bool((out == (factor if factor > 1 else 0.0)).all())  # masked by the mu of the batches before
    assert finite(site) and feed(site, 1, seed=2) != mu  # and goes on


def test_without_a_guard_the_same_outlier_moves_it():
    site = DynamicThreshold(SparsityConfig(initial_threshold=0.5), 16)
    mu = feed(site, 30)
    site(1e4 * torch.ones(8, 16))
    assert float(site.state[0, 0]) > 100 * mu


def test_silence_is_abnormal_after_speech_and_bearable_from_the_start():
    site = guarded()
    mu = feed(site, 30)
    site(torch.zeros(8, 16))
    assert float(site.state[0, 0]) == mu and abnormal_batches(site) == {"": 1}
    silent = guarded()
    for _ in range(MEMORY):
        out = silent(torch.zeros(8, 16, requires_grad=True))
        (out.sum() + information_loss(silent)).backward()
    assert float(silent.state[0, 0]) == 0 and finite(silent) and bool(torch.isfinite(silent.theta.grad))
    level = feed(silent, MEMORY)  # speech at last: believed once there is enough of it
    assert 0.5 < level < 1.0


def test_one_repeated_sample_is_normal_and_anything_near_it_too():
    site, sample = guarded(), torch.randn(1, 16)
    for _ in range(2 * MEMORY):
        site(sample)
    assert abnormal_batches(site) == {}
    torch.testing.assert_close(site.state[0, 0], sample.abs().mean())
    site(1.2 * sample)  # no spread at all so far: the floor keeps this from being an alarm
    assert abnormal_batches(site) == {}


def test_a_lasting_change_is_believed():
    site = guarded()
    feed(site, 2 * MEMORY)
    feed(site, MEMORY // 3, scale=50.0)
    assert float(site.state[0, 0]) < 1
    feed(site, MEMORY, scale=50.0, seed=3)
    assert 30 < float(site.state[0, 0]) < 50
    before = abnormal_batches(site)
    feed(site, 10, scale=50.0, seed=4)
    assert abnormal_batches(site) == before


def test_extreme_imbalance_keeps_the_level_of_the_many():
    site = guarded()
    feed(site, 20)
    for index in range(200):
        feed(site, 1, scale=1000.0 if index % 10 == 9 else 1.0, seed=index)
    assert 0.6 < float(site.state[0, 0]) < 1.0 and abnormal_batches(site) == {"": 20}
    mixed = guarded()  # within one batch: one loud row in sixty-four, always
    for index in range(100):
        x = torch.randn(64, 16, generator=torch.Generator().manual_seed(index))
        x[0] *= 1000
        mixed(x)
        loss = information_loss(mixed)
    assert finite(mixed) and bool(torch.isfinite(loss)) and 0 < float(mixed.kept) < 1


def test_alternating_levels_are_both_normal():
    site = guarded()
    for index in range(100):
        feed(site, 1, scale=(1.0, 100.0)[index % 2], seed=index)
    assert 30 < float(site.state[0, 0]) < 60 and sum(abnormal_batches(site).values()) < 12


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_numbers_do_not_reach_the_state(bad):
    site = guarded()
    feed(site, 30)
    x = torch.randn(64, 16)
    x[3, 5] = bad
    site(x)
    site(torch.full((4, 16), bad))
    assert finite(site) and abnormal_batches(site) == {"": 1}
    assert torch.isfinite(site(torch.randn(4, 16))).all()


def test_recovers_from_an_outlier_before_anything_is_known():
    site = guarded()
    site(1e6 * torch.ones(8, 16))
    assert feed(site, 200) < 1.1


def test_buckets_are_judged_apart():
    site = guarded(time_buckets=2)
    generator = torch.Generator().manual_seed(0)
    t = torch.tensor([1] * 8 + [999] * 8)
    level = torch.tensor([1.0] * 8 + [100.0] * 8)[:, None]
    for _ in range(WARM_UP + 8):
        site(level * torch.randn(16, 16, generator=generator), t)
    assert abnormal_batches(site) == {}
    before = site.state.clone()
    site(100.0 * torch.randn(16, 16, generator=generator), t)
    assert float(site.state[0, 0]) == float(before[0, 0]) and float(site.state[1, 0]) != float(before[1, 0])


def test_the_guard_is_no_part_of_the_model_but_of_its_run():
    site = guarded()
    feed(site, 3)
    assert set(site.state_dict()) == {"theta", "state"}
    assert {"guard.levels", "guard.judged", "guard.rejected"} <= {name for name, _ in site.named_buffers()}
    guard_averages(site, None)
    assert site.guard is None and abnormal_batches(site) == {}
    with pytest.raises(InputError, match="positive"):
        guard_averages(site, 0.0)


def test_zeros_are_nothing_to_absorb():
    guard = LevelGuard(limit=8.0)
    ordinary = torch.tensor([10.0, 10.0], dtype=torch.float64)
    for _ in range(WARM_UP):
        assert torch.equal(guard.judge(ordinary), ordinary)
    assert torch.equal(guard.judge(1000 * ordinary * torch.tensor([1, 0.01])), torch.zeros(2).double())


def test_passes_of_one_step_move_mu_once():
    site = DynamicThreshold(SparsityConfig(), 16)
    begin_step(site)
    first, second = torch.ones(4, 16), 3 * torch.ones(4, 16)
    site(first)
    site(second)
    assert float(site.state[0, 0]) == 1.0
    begin_step(site)
    site(second)
    assert float(site.state[0, 0]) == pytest.approx(0.9 + 0.3)
