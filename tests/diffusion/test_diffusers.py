"""The same trajectories as diffusers' schedulers (whose time t is our t + 1), where it is installed."""

import pytest
import torch

from dmt.config import DiffusionConfig
from dmt.diffusion import NoiseSchedule, ddim, ddpm, dpm_solver_pp_2m

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
SCHEDULE = NoiseSchedule(DiffusionConfig())
COMMON = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def denoise(x, t):
    """Some smooth network of x and t."""
    return torch.tanh(x.roll(1, -1)) * 0.8 + 0.1 * torch.sin(torch.tensor(t / 90.0))


def run(scheduler, noise, generator=None):
    x, extra = noise, {} if generator is None else {"generator": generator}
    for t in scheduler.timesteps:
        x = scheduler.step(denoise(x, int(t) + 1), t, x, **extra).prev_sample
    return x


@pytest.mark.parametrize("steps", [1, 10, 25])
def test_ddim(steps):
    scheduler = diffusers.DDIMScheduler(
        **COMMON, prediction_type="sample", clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading"
    )
    scheduler.set_timesteps(steps)
    noise = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ddim(denoise, noise, SCHEDULE, steps), run(scheduler, noise), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [10, 1000])
def test_ddpm(steps):
    scheduler = diffusers.DDPMScheduler(
        **COMMON, prediction_type="sample", clip_sample=False, timestep_spacing="leading", variance_type="fixed_small"
    )
    scheduler.set_timesteps(steps)
    noise = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    ours = ddpm(denoise, noise, SCHEDULE, steps, generator=torch.Generator().manual_seed(3))
    theirs = run(scheduler, noise, torch.Generator().manual_seed(3))
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [2, 10, 20])
def test_dpm_solver(steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **COMMON,
        prediction_type="sample",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        timestep_spacing="leading",
        steps_offset=0,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(steps)
    times = [t - 1 for t in reversed(SCHEDULE.snr_times(steps))]
    bars = scheduler.alphas_cumprod[times]
    scheduler.timesteps = torch.tensor(times)
    scheduler.sigmas = torch.cat([((1 - bars) / bars).sqrt(), torch.zeros(1)])  # our grid
    noise = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    ours = dpm_solver_pp_2m(denoise, noise, SCHEDULE, steps)
    torch.testing.assert_close(ours, run(scheduler, noise), atol=2e-5, rtol=1e-4)
