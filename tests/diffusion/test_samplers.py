"""Samplers on data whose ideal denoiser is known, and guidance."""

import pytest
import torch

from dmt.config import DiffusionConfig
from dmt.diffusion import SAMPLERS, NoiseSchedule, ddim, ddpm, dpm_solver_pp_2m, guided
from dmt.errors import InputError

SCHEDULE = NoiseSchedule(DiffusionConfig())
MEAN, STD = 0.7, 0.3


def ideal(x, t):
    """E[x0 | x_t] for x0 ~ N(MEAN, STD^2)."""
    bar = float(SCHEDULE.alpha_bars[t])
    gain = bar**0.5 * STD**2 / (bar * STD**2 + 1 - bar)
    return MEAN + gain * (x - bar**0.5 * MEAN)


@pytest.mark.parametrize(("name", "steps"), [("ddim", 100), ("ddpm", 250), ("dpm", 20)])
def test_an_ideal_denoiser_gives_the_distribution(name, steps):
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(20000, 1, generator=g)
    x = SAMPLERS[name](lambda x, t: ideal(x, t), noise, SCHEDULE, steps, generator=g)
    assert abs(float(x.mean()) - MEAN) < 0.01
    assert abs(float(x.std()) / STD - 1) < 0.05


def flow(noise, start):
    """The probability flow from time `start`, through every time there is."""
    bars, x = SCHEDULE.alpha_bars.double(), noise
    for t in range(start, 0, -1):
        x0 = ideal(x, t)
        x = bars[t - 1].sqrt() * x0 + (1 - bars[t - 1]).sqrt() * (x - bars[t].sqrt() * x0) / (1 - bars[t]).sqrt()
    return x


@pytest.mark.parametrize("steps", [10, 20])
def test_second_order_is_nearer_to_the_flow_than_first(steps):
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    first = (ddim(ideal, noise, SCHEDULE, steps) - flow(noise, SCHEDULE.times(steps)[-1])).abs().max()
    second = (dpm_solver_pp_2m(ideal, noise, SCHEDULE, steps) - flow(noise, 1000)).abs().max()
    assert float(second) < 0.25 * float(first)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver_pp_2m])
def test_one_step_is_the_network_itself(sampler):
    noise = torch.randn(2, 3, 64)
    seen = []

    def denoise(x, t):
        seen.append((x, t))
        return 3 * x

    assert torch.equal(sampler(denoise, noise, SCHEDULE, 1), 3 * noise)
    assert [t for _, t in seen] == ([1] if sampler is ddim else [1000])


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_times_seen_and_last_prediction(sampler):
    seen = []

    def denoise(x, t):
        seen.append(t)
        return torch.full_like(x, float(t))

    out = sampler(denoise, torch.zeros(1, 2, 64), SCHEDULE, 5)
    grid = SCHEDULE.snr_times if sampler is dpm_solver_pp_2m else SCHEDULE.times
    assert seen == grid(5)[::-1]
    torch.testing.assert_close(out, torch.ones(1, 2, 64))  # the last step ends on the prediction at t = 1
    with pytest.raises(InputError, match="steps must"):
        sampler(denoise, torch.zeros(1, 2, 64), SCHEDULE, 1001)


def test_full_ddpm_step_is_the_papers_posterior():
    """With a grid of all 1000 times, one step from t = 1000 has eq. 4's mean and sigmas_inflex's spread."""
    x, x0, t = torch.randn(1, 64), torch.randn(1, 64), 1000
    a, bar, before = (float(v) for v in (SCHEDULE.alphas[t], SCHEDULE.alpha_bars[t], SCHEDULE.alpha_bars[t - 1]))
    states = []

    def denoise(state, time):
        states.append(state)
        return x0

    ddpm(denoise, x, SCHEDULE, 1000, generator=torch.Generator().manual_seed(5))
    fresh = torch.randn(1, 64, generator=torch.Generator().manual_seed(5))
    mean = a**0.5 * (1 - before) / (1 - bar) * x + before**0.5 * (1 - a) / (1 - bar) * x0
    torch.testing.assert_close(states[1], mean + SCHEDULE.sigmas_inflex[t] * fresh, atol=1e-4, rtol=1e-4)


def test_ddpm_follows_its_generator():
    runs = [
        ddpm(ideal, torch.zeros(4, 64), SCHEDULE, 10, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_guidance():
    def never(x, t):
        raise AssertionError("the null half is not needed at scale 1")

    x = torch.randn(2, 3)
    assert torch.equal(guided(lambda x, t: x + t, never, 1.0)(x, 5), x + 5)
    halfway = guided(never, lambda x, t: (x + 3, x + 1), 2.5)
    torch.testing.assert_close(halfway(x, 5), x + 1 + 2.5 * 2)


def test_no_frames():
    for sampler in SAMPLERS.values():
        assert sampler(lambda x, t: x, torch.zeros(1, 0, 64), SCHEDULE, 10).shape == (1, 0, 64)
