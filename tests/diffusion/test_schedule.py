"""The noise schedule: DreamTalk's numbers, and eq. 2 and its inverses."""

import math

import pytest
import torch

from dmt.config import DiffusionConfig
from dmt.diffusion import NoiseSchedule
from dmt.errors import InputError

SCHEDULE = NoiseSchedule(DiffusionConfig())


@pytest.mark.parametrize(
    ("t", "bar"),
    [(0, 1.0), (1, 0.99989998), (101, 0.89514136), (501, 0.07779659), (801, 0.00150752), (901, 0.00027024)],
)
def test_published_alpha_bars(t, bar):
    assert math.isclose(float(SCHEDULE.alpha_bars[t]), bar, rel_tol=0, abs_tol=5e-9 + 1e-7 * bar)


def test_buffers():
    assert {name: tuple(b.shape) for name, b in SCHEDULE.named_buffers()} == dict.fromkeys(
        ["betas", "alphas", "alpha_bars", "sigmas_flex", "sigmas_inflex"], (1001,)
    )
    t = 400
    beta, bar, before = SCHEDULE.betas[t], SCHEDULE.alpha_bars[t], SCHEDULE.alpha_bars[t - 1]
    torch.testing.assert_close(SCHEDULE.sigmas_inflex[t], ((1 - before) / (1 - bar) * beta).sqrt())
    assert float(SCHEDULE.sigmas_inflex[1]) == 0.0
    assert bool(torch.isfinite(SCHEDULE.sigmas_inflex).all())


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 25, 50, 100, 1000])
def test_grid(steps):
    assert SCHEDULE.times(steps) == [i * (1000 // steps) + 1 for i in range(steps)]


@pytest.mark.parametrize("steps", [3, 7, 0, -1, 999, 1001])
def test_steps_must_divide(steps):
    with pytest.raises(InputError, match="must divide 1000"):
        SCHEDULE.times(steps)


@pytest.mark.parametrize("steps", [1, 2, 10, 50, 300, 1000])
def test_even_grid(steps):
    times = SCHEDULE.snr_times(steps)
    assert len(times) == steps
    assert times == sorted(set(times))
    assert times[-1] == 1000
    assert times[0] == 1 or steps == 1
    if steps == 10:
        ratio = torch.log(SCHEDULE.alpha_bars[times] / (1 - SCHEDULE.alpha_bars[times])).diff()
        assert float(ratio.max() / ratio.min()) < 1.15


@pytest.mark.parametrize("steps", [0, 1001])
def test_even_grid_limits(steps):
    with pytest.raises(InputError, match="between 1 and 1000"):
        SCHEDULE.snr_times(steps)


def test_noising_and_its_inverses():
    torch.manual_seed(0)
    x0, noise, t = torch.randn(3, 4, 64), torch.randn(3, 4, 64), torch.tensor([1, 300, 800])
    x_t = SCHEDULE.add_noise(x0, t, noise)
    for b in range(3):
        bar = float(SCHEDULE.alpha_bars[t[b]])
        torch.testing.assert_close(x_t[b], math.sqrt(bar) * x0[b] + math.sqrt(1 - bar) * noise[b])
    torch.testing.assert_close(SCHEDULE.to_x0(x_t, t, noise), x0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(SCHEDULE.to_noise(x_t, t, x0), noise, atol=1e-4, rtol=1e-4)


def test_noising_one_step_at_a_time_has_the_closed_form():
    """Eq. 1 applied 200 times is eq. 2: same mean and variance factors."""
    keep, variance = 1.0, 0.0
    for t in range(1, 201):
        beta = float(SCHEDULE.betas[t])
        keep, variance = keep * math.sqrt(1 - beta), variance * (1 - beta) + beta
    bar = float(SCHEDULE.alpha_bars[200])
    assert math.isclose(keep, math.sqrt(bar), rel_tol=1e-5)
    assert math.isclose(variance, 1 - bar, rel_tol=1e-5)
