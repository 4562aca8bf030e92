"""Samplers: pure functions from noise to x0 over `denoise(x_t, t) -> x0`.

A sampler walks a grid of times downwards and takes the noise as the state at the largest
of them: noise [B, ...] -> x0 [B, ...]. Each step goes from t to the next lower time s of
the grid; the last one goes to time 0, where alpha_bar is 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .schedule import Denoise, NoiseSchedule


def ddim(
    denoise: Denoise, noise: Tensor, schedule: NoiseSchedule, steps: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """DDIM with eta = 0 (Song et al. 2021, eq. 12): on DreamTalk's grid; deterministic, no use of generator."""
    bars, x = schedule.alpha_bars, noise
    for t, s in _pairs(schedule.times(steps)):
        x0 = denoise(x, t)
        eps = (x - bars[t].sqrt() * x0) / (1 - bars[t]).sqrt()
        x = bars[s].sqrt() * x0 + (1 - bars[s]).sqrt() * eps
    return x


def ddpm(
    denoise: Denoise, noise: Tensor, schedule: NoiseSchedule, steps: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Ancestral sampling from the posterior q(x_s | x_t, x0) (paper, eq. 3-4; Ho et al. 2020, eq. 6-7).

    On a coarse grid alpha is alpha_bar_t / alpha_bar_s, the same chain seen at fewer times;
    with steps = T it is the original. generator: draws the noise of each step; torch's default if None.
    """
    bars, x = schedule.alpha_bars, noise
    for t, s in _pairs(schedule.times(steps)):
        x0 = denoise(x, t)
        alpha = bars[t] / bars[s]
        remaining = (1 - bars[s]) / (1 - bars[t])
        x = alpha.sqrt() * remaining * x + bars[s].sqrt() * (1 - alpha) / (1 - bars[t]) * x0
        if s > 0:
            device = noise.device if generator is None else generator.device
            fresh = torch.randn(noise.shape, generator=generator, device=device, dtype=noise.dtype)
            x = x + (remaining * (1 - alpha)).sqrt() * fresh.to(noise.device)
    return x


def dpm_solver_pp_2m(
    denoise: Denoise, noise: Tensor, schedule: NoiseSchedule, steps: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), first order in its first and last step; deterministic.

    A step is of second order at the price of one evaluation, by extrapolating from the one before. That needs
    steps of like size in the logarithm of the signal-to-noise ratio, hence its own grid: on DDIM's, whose last steps
    are long in that measure, it overshoots and is worse than DDIM.
    """
    bars, x = schedule.alpha_bars.double(), noise
    half_log_snr = 0.5 * torch.log(bars / (1 - bars))  # lambda; infinite at time 0
    before: tuple[Tensor, int] | None = None
    for t, s in _pairs(schedule.snr_times(steps)):
        x0 = denoise(x, t)
        blend = x0
        if before is not None and s > 0:
            ratio = (half_log_snr[t] - half_log_snr[before[1]]) / (half_log_snr[s] - half_log_snr[t])
            blend = x0 + (x0 - before[0]) * (0.5 / ratio).to(x.dtype)
        keep = ((1 - bars[s]) / (1 - bars[t])).sqrt()
        shrink = torch.expm1(half_log_snr[t] - half_log_snr[s])  # e^-h - 1; -1 at time 0
        x = keep.to(x.dtype) * x - (bars[s].sqrt() * shrink).to(x.dtype) * blend
        before = x0, t
    return x


SAMPLERS = {"ddim": ddim, "ddpm": ddpm, "dpm": dpm_solver_pp_2m}
"""By the names a user gives."""


def _pairs(times: list[int]) -> list[tuple[int, int]]:
    """(t, s) from the noisiest of increasing times downwards, the last s being 0."""
    return list(zip(reversed(times), [*reversed(times[:-1]), 0], strict=True))
