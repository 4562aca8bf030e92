"""The noise schedule and the forward process (paper, eq. 1-2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..config import DiffusionConfig
from ..errors import InputError

Denoise = Callable[[Tensor, int], Tensor]
"""(x_t, t) -> predicted x0; t in 1..T, the same for the whole batch."""


class NoiseSchedule(nn.Module):
    """Linear betas with an unused entry in front: index t is diffusion time t, and alpha_bar[0] = 1.

    Buffers `betas`, `alphas`, `alpha_bars`, `sigmas_flex`, `sigmas_inflex`, each [T + 1]
    float32, are those a DreamTalk checkpoint holds under `var_sched.`. Products are
    formed as it forms them: the exponential of a running float32 sum of logarithms.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        betas = torch.cat([torch.zeros(1), torch.linspace(config.beta_start, config.beta_end, config.steps)])
        alphas = 1 - betas
        logs = torch.log(alphas)
        for i in range(1, len(logs)):  # sequential on purpose: cumsum may add in another order
            logs[i] += logs[i - 1]
        alpha_bars = logs.exp()
        previous = torch.cat([torch.ones(1), alpha_bars[:-1]])
        variance = (1 - previous) / (1 - alpha_bars).clamp(min=1e-20) * betas
        self.register_buffer("betas", betas)
        self.register_buffer("alphas", alphas)
        self.register_buffer("alpha_bars", alpha_bars)
        self.register_buffer("sigmas_flex", betas.sqrt())
        self.register_buffer("sigmas_inflex", variance.sqrt())

    @property
    def steps(self) -> int:
        """T: 1000."""
        return len(self.betas) - 1

    def times(self, steps: int) -> list[int]:
        """DreamTalk's grid for `steps` steps: 1, 1 + c, 1 + 2c, ... with c = T / steps.

        Raises InputError unless steps divides T.
        """
        if steps < 1 or self.steps % steps:
            near = [n for n in range(1, self.steps + 1) if self.steps % n == 0 and n <= 100]
            raise InputError(
                f"steps must divide {self.steps}, got {steps}; choose one of {', '.join(map(str, near))} "
                f"or another divisor"
            )
        return list(range(1, self.steps + 1, self.steps // steps))

    def snr_times(self, steps: int) -> list[int]:
        """`steps` increasing times from 1 to T, even in the logarithm of the signal-to-noise ratio (one step: T).

        Raises InputError unless 1 <= steps <= T.
        """
        if not 1 <= steps <= self.steps:
            raise InputError(f"steps must lie between 1 and {self.steps}, got {steps}")
        bars = self.alpha_bars.double()[1:].cpu()
        log_snr = torch.log(bars / (1 - bars))
        wanted = torch.linspace(log_snr[0], log_snr[-1], steps, dtype=torch.float64) if steps > 1 else log_snr[-1:]
        near = (log_snr[None] - wanted[:, None]).abs().argmin(dim=1) + 1
        times: list[int] = []
        for i, t in enumerate(near.tolist()):  # whole times are coarse near 1: keep them apart, and leave room above
            times.append(min(max(t, times[-1] + 1 if times else 1), self.steps - (steps - 1 - i)))
        return times

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Eq. 2: x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise; x0, noise [B, ...], t [B]."""
        bar = self._at(t, x0)
        return bar.sqrt() * x0 + (1 - bar).sqrt() * noise

    def to_x0(self, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The x0 that eq. 2 gives for predicted noise; t [B]."""
        bar = self._at(t, x_t)
        return (x_t - (1 - bar).sqrt() * noise) / bar.sqrt()

    def to_noise(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """The noise that eq. 2 gives for predicted x0; t [B], none of it 0."""
        bar = self._at(t, x_t)
        return (x_t - bar.sqrt() * x0) / (1 - bar).sqrt()

    def _at(self, t: Tensor, like: Tensor) -> Tensor:
        """alpha_bar at t [B], with as many axes as `like` [B, ...]."""
        return self.alpha_bars[t].view(-1, *[1] * (like.dim() - 1))
